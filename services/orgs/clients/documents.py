"""The settings document of a client: its bounds, its merge, and what of it is secret.

A setting whose name says that it holds a secret is stored for the services that need it and shown to nobody
again: answers carry `MASK` in its place, and sending `MASK` back leaves it as it is.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from typing import Any

from pydantic_core import PydanticCustomError

from chassis.models import is_portable
from contracts import key_rotation, password_policy, security_policy

Document = Mapping[str, Any]

CHECKED_SETTINGS = frozenset({security_policy.SETTING, password_policy.SETTING, key_rotation.SETTING})
"""The settings with a meaning that is checked before they are stored (`checked_settings`)."""

MASK = "********"
MAX_BYTES = 32 * 1024
MAX_DEPTH = 8
_MAX_NAME_LENGTH = 128
_SECRET_WORD = re.compile(r"secret|key|password|token", re.IGNORECASE)
_SECRET_NAME = re.compile(r"(?:secret|password|token|api_?key|private_?key)$", re.IGNORECASE)


def check_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document when it is within its bounds.

    Raises:
        PydanticCustomError: it is too deep or too large, or has a number or a name that others cannot read.
    """
    level: list[Any] = [document]
    for depth in range(MAX_DEPTH + 1):
        if depth == MAX_DEPTH and any(isinstance(value, dict | list) for value in level):
            raise PydanticCustomError("too_deep", f"must not be nested deeper than {MAX_DEPTH} levels")
        level = [inner for value in level for inner in _checked_members(value)]
    _check_size(document)
    return document


def merge(stored: Document, changes: Document) -> dict[str, Any]:
    """Return the stored document with the changed top-level members; null removes one.

    Raises:
        PydanticCustomError: the result is too large, or a mask stands where no secret is stored.
    """
    merged = dict(stored)
    for name, value in changes.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _unmask(name, value, stored.get(name))
    _check_size(merged)
    return merged


def masked_for_reading(document: Document) -> dict[str, Any]:
    """Return the document as answers show it: texts named as secrets are masked."""
    return {name: _mask(name, value) for name, value in document.items()}


def masked_for_audit(document: Document) -> dict[str, Any]:
    """Return the document as events carry it, for years: whatever might be secret is masked.

    The settings whose every member is checked hold no secret, whatever the names in them look like, and their
    changes are what an auditor asks for.
    """
    return {
        name: value if name in CHECKED_SETTINGS else _masked_members({name: value})[name]
        for name, value in document.items()
    }


def _check_size(document: Document) -> None:
    if len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()) > MAX_BYTES:
        raise PydanticCustomError("too_large", f"must not be larger than {MAX_BYTES // 1024} KiB as JSON")


def _checked_members(value: object) -> list[Any]:
    match value:
        case dict():
            if any(not 0 < len(name) <= _MAX_NAME_LENGTH for name in value):
                raise PydanticCustomError("name_invalid", "has a name that is empty or too long")
            return list(value.values())
        case list():
            return value
        case _ if not is_portable(value):
            raise PydanticCustomError(
                "number_invalid", "has a number beyond 2^53 - 1 or closer to 0 than 1e-30; send it as text"
            )
        case _:
            return []


def _mask(name: str, value: object) -> object:
    match value:
        case str() if value and _SECRET_NAME.search(name):
            return MASK
        case dict():
            return {inner: _mask(inner, item) for inner, item in value.items()}
        case list():
            return [_mask(name, item) for item in value]
        case _:
            return value


def _masked_members(document: Document) -> dict[str, Any]:
    return {
        name: MASK if _SECRET_WORD.search(name) and value is not None else _masked_inside(value)
        for name, value in document.items()
    }


def _masked_inside(value: object) -> object:
    match value:
        case dict():
            return _masked_members(value)
        case list():
            return [_masked_inside(item) for item in value]
        case _:
            return value


def _unmask(name: str, value: object, stored: object) -> object:
    """Put stored secrets back where a reader returns their mask; members of lists are matched by position."""
    match value:
        case str() if value == MASK and _SECRET_NAME.search(name):
            if not isinstance(stored, str):
                raise PydanticCustomError("mask_without_secret", "has a mask where no secret is stored")
            return stored
        case dict():
            before = stored if isinstance(stored, dict) else {}
            return {inner: _unmask(inner, item, before.get(inner)) for inner, item in value.items()}
        case list():
            places = stored if isinstance(stored, list) else []
            pairs = itertools.zip_longest(value, places[: len(value)])
            return [_unmask(name, item, before) for item, before in pairs]
        case _:
            return value
