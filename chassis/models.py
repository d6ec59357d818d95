"""Bases of request bodies and answers, and the check of a message by the model of a body.

What no database can hold is refused here, before any rule sees it.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from chassis.errors import FieldError, UnprocessableRequest

_MAX_TEXT = 16 * 1024
_MAX_DEPTH = 64
# Beyond it integers are not the same in every JSON reader (RFC 7493 §2.2), and gRPC has doubles only.
_MOST = 2**53 - 1
# PostgreSQL writes numbers out: 1e-300 would become three hundred digits.
_LEAST = 1e-30
_UNSTORABLE_TEXT = re.compile("[\\x00\\ud800-\\udfff]")


class RequestModel(BaseModel):
    """Base of request bodies: unknown members are ignored, and what no database can hold is refused."""

    model_config = ConfigDict(extra="ignore", str_max_length=_MAX_TEXT, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unstorable(cls, value: object) -> object:
        _check_storable(value)
        return value


class AnswerModel(BaseModel):
    """Base of answers."""

    model_config = ConfigDict(frozen=True)


Model = TypeVar("Model", bound=RequestModel)


def checked(model: type[Model], members: Mapping[str, Any]) -> Model:
    """Check a message's members by the model of the HTTP route, so that both faces have one set of rules.

    Raises:
        UnprocessableRequest: a member breaks its rule; the detail names the first, as gRPC carries no list.
    """
    try:
        return model.model_validate(members)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)
        faults = tuple(field_error(fault, fault["loc"]) for fault in found)
        raise UnprocessableRequest(f"{faults[0].field}: {faults[0].detail}", errors=faults) from None


def is_portable(value: object) -> bool:
    """Whether a scalar of a free document can be shown again by every face; only numbers may not.

    Those are NaN, the infinities, and what is beyond 2^53 - 1 or closer to 0 than 1e-30: either not the same
    for every reader, or some hundred digits in PostgreSQL.
    """
    return not isinstance(value, int | float) or value == 0 or _LEAST <= abs(value) <= _MOST


def field_error(fault: Mapping[str, Any], where: Sequence[int | str]) -> FieldError:
    """Return one of pydantic's faults as ours; `where` is the path of the field."""
    detail = fault["msg"].removeprefix("Value error, ")
    return FieldError(field=".".join(map(str, where)), code=fault["type"], detail=detail)


def _check_storable(body: object) -> None:
    """Check a parsed body level by level; recursion would let a deep body exhaust the stack.

    Raises:
        ValueError: it is nested too deeply, or holds a text or a number that JSON in PostgreSQL cannot.
    """
    level = [body]
    for _ in range(_MAX_DEPTH):
        for value in level:
            if isinstance(value, str) and _UNSTORABLE_TEXT.search(value):
                raise ValueError("text must not contain NUL or unpaired surrogates")
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError("numbers must be finite")
        level = [inner for value in level for inner in _members(value)]
        if not level:
            return
    raise ValueError(f"must not be nested deeper than {_MAX_DEPTH} levels")


def _members(value: object) -> Iterable[object]:
    match value:
        case dict():
            return itertools.chain(value.keys(), value.values())
        case list():
            return value
        case _:
            return ()
