"""The fields that users write about themselves, with their bounds; one definition for every face."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, JsonValue

from chassis.models import is_portable

_MAX_METADATA_BYTES = 8 * 1024
_MAX_METADATA_DEPTH = 8
_LOCALE = re.compile(
    r"[A-Za-z]{2,3}(-[A-Za-z]{4})?(-([A-Za-z]{2}|[0-9]{3}))?(-([A-Za-z0-9]{5,8}|[0-9][A-Za-z0-9]{3}))*"
)
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})


def _check_display_name(value: str) -> str:
    name = unicodedata.normalize("NFC", value).strip()
    if any(unicodedata.category(character) in _UNSAFE_CATEGORIES for character in name):
        raise ValueError("must not contain control characters or line breaks")
    return name


def _check_metadata(value: dict[str, Any]) -> dict[str, Any]:
    if _depth(value) > _MAX_METADATA_DEPTH:
        raise ValueError(f"must not be nested deeper than {_MAX_METADATA_DEPTH}")
    if not all(map(is_portable, _scalars(value))):
        raise ValueError("must hold no number beyond 2^53 - 1 or closer to 0 than 1e-30; send it as text")
    if len(metadata_json(value).encode()) > _MAX_METADATA_BYTES:
        raise ValueError(f"must not be larger than {_MAX_METADATA_BYTES} bytes of JSON")
    return value


def _check_locale(value: str) -> str:
    if not _LOCALE.fullmatch(value):
        raise ValueError("must be a language tag such as en, pt-BR or zh-Hant-TW")
    return value


def _check_phone(value: str) -> str:
    if not _PHONE.fullmatch(value):
        raise ValueError("must be an international number such as +4915112345678")
    return value


DisplayName = Annotated[str, Field(max_length=200), AfterValidator(_check_display_name)]
"""A name to show: trimmed, NFC, at most 200 characters, on one line."""

Metadata = Annotated[dict[str, JsonValue], AfterValidator(_check_metadata)]
"""The product's own data about a user: an object of at most 8 KiB and 8 levels."""

Locale = Annotated[str, Field(max_length=35), AfterValidator(_check_locale)]
"""A language tag: language, script, region and variants of BCP 47 (RFC 5646 §2.1)."""

Role = Annotated[str, Field(max_length=64, pattern=r"^[a-z][a-z0-9_.:-]*$")]
"""A role of the client's own choosing, as the `role` claim says it."""

Phone = Annotated[str, Field(max_length=16), AfterValidator(_check_phone)]
"""A telephone number (ITU-T E.164)."""


def metadata_json(value: dict[str, Any]) -> str:
    """Return the text that is stored.

    Raises:
        ValueError: it holds a number that JSON has no word for (NaN, infinity).
    """
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _scalars(value: object) -> Iterator[object]:
    """What a document holds; its depth has been checked."""
    match value:
        case dict():
            for item in value.values():
                yield from _scalars(item)
        case list():
            for item in value:
                yield from _scalars(item)
        case _:
            yield value


def _depth(value: object) -> int:
    """Count levels without recursion, so that no nesting can exhaust the stack."""
    deepest, waiting = 0, [(value, 1)]
    while waiting:
        item, level = waiting.pop()
        inner = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
        if inner is None:
            continue
        deepest = max(deepest, level)
        if deepest > _MAX_METADATA_DEPTH:
            break
        waiting += [(part, level + 1) for part in inner]
    return deepest
