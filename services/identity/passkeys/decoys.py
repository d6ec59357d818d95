"""Credential ids for addresses without an account, so that asking for a login tells nothing.

Whoever begins a login by email gets the same number of ids for every address. They are a keyed hash of client
and address: asked again, they are the same, as a user's own are.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from uuid import UUID

SHOWN = 4
"""How many credentials an answer names; a user's further ones are found without an address (discoverable)."""

_LENGTHS = (16, 16, 20, 32, 32, 32, 48, 64)
"""Bytes of ids in the field: password managers, Apple, platforms, security keys; as often as each is met."""


class Decoys:
    """Fills lists of credential ids up."""

    def __init__(self, key: bytes) -> None:
        """Take a key that is used for nothing else."""
        self._key = key

    def filled(self, client_id: UUID, email_normalized: str, own: Sequence[bytes]) -> list[bytes]:
        """Return `SHOWN` ids, the user's own among them, in an order that tells nothing."""
        seed = client_id.bytes + email_normalized.encode()
        made = [self._make(seed, index) for index in range(SHOWN)]
        ids = [*own[:SHOWN], *made[len(own[:SHOWN]) :]]
        return sorted(ids, key=lambda value: self._digest(b"order", value))

    def _make(self, seed: bytes, index: int) -> bytes:
        digest = self._digest(b"id", seed + bytes([index]))
        return self._digest(b"bytes", digest)[: _LENGTHS[digest[0] % len(_LENGTHS)]]

    def _digest(self, purpose: bytes, value: bytes) -> bytes:
        return hmac.digest(self._key, purpose + b"\0" + value, hashlib.sha512)
