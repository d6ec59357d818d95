"""Lists: `limit` and an opaque `cursor` in, `{"items": […], "next_cursor": null}` out.

A cursor is signed and bound to what it pages through, so a changed one, or one of another tenant or another
filter, is refused instead of interpreted.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Annotated, Generic, TypeVar

from fastapi import Query

from chassis.errors import InvalidRequest
from chassis.models import AnswerModel
from chassis.sealing import Sealer

DEFAULT_LIMIT = 50
MAX_LIMIT = 100
_MAC_BYTES = 16
_MAX_CURSOR_LENGTH = 1024

LimitParameter = Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items per page.")]
CursorParameter = Annotated[
    str | None, Query(max_length=_MAX_CURSOR_LENGTH, description="`next_cursor` of a page.")
]

T = TypeVar("T")


class Page(AnswerModel, Generic[T]):
    """One page of a list; `next_cursor` is null on the last."""

    items: list[T]
    next_cursor: str | None = None


class InvalidCursor(InvalidRequest):
    """The cursor is not one of ours, or not for this list."""

    code = "invalid_cursor"
    detail = "The cursor is not valid for this list."


class Cursors:
    """Makes and reads cursors of one service."""

    def __init__(self, sealer: Sealer) -> None:
        """Derive the key they are signed with."""
        self._key = sealer.derive("cursor")

    def make(self, position: list[str | int], scope: str) -> str:
        """Return the cursor after `position`; `scope` names the list, its tenant and its filters."""
        payload = json.dumps(position, separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._mac(payload, scope) + payload).decode().rstrip("=")

    def read(self, cursor: str, scope: str) -> list[str | int]:
        """Return the position a cursor stands for.

        Raises:
            InvalidCursor: it was changed, or made for another scope.
        """
        try:
            raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        except (ValueError, binascii.Error):
            raise InvalidCursor from None
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(payload, scope)):
            raise InvalidCursor
        position: list[str | int] = json.loads(payload)
        return position

    def _mac(self, payload: bytes, scope: str) -> bytes:
        return hmac.new(self._key, scope.encode() + b"\n" + payload, hashlib.sha256).digest()[:_MAC_BYTES]
