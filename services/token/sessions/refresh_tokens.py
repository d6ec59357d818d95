"""Refresh tokens: drawn once, then each derived from the one before.

A successor is derived, not drawn, so that a token presented twice at once (two tabs, a lost answer) gets
the same one without its being stored: HMAC-SHA256(key, presented ‖ seed), where the key comes from
MASTER_KEY and the seed from the row. Knowing the database, or the key, or the old token alone tells nothing
of the next.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from chassis.ids import new_secret
from chassis.sealing import Sealer
from services.token.signing.algorithms import base64url

_PREFIX = "rt_"
_LENGTH = len(_PREFIX) + 43
_KEY_ID_BYTES = 4
_NONCE_BYTES = 16


def draw() -> str:
    """Draw a session's first refresh token: 256 random bits."""
    return new_secret(_PREFIX)


def hash_of(token: str) -> bytes:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).digest()


def is_well_formed(token: str) -> bool:
    """False for what cannot be one of ours, so that it costs no look-up."""
    return len(token) == _LENGTH and token.startswith(_PREFIX) and token.isascii()


class Successors:
    """Derives successors, under the master key that was current when the token was used."""

    def __init__(self, sealer: Sealer) -> None:
        """Take what the keys are derived from."""
        self._sealer = sealer
        self._keys: dict[bytes, bytes] = {}

    def new_seed(self) -> bytes:
        """Return a fresh seed: the id of the master key, and a nonce."""
        return self._sealer.key_id + secrets.token_bytes(_NONCE_BYTES)

    def successor(self, token: str, seed: bytes) -> str:
        """Return the token that follows `token`.

        Raises:
            SealBroken: the master key of that time is not configured any more.
        """
        key_id = seed[:_KEY_ID_BYTES]
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = self._sealer.derive("refresh", key_id)
        digest = hmac.digest(key, token.encode() + b"\x00" + seed, hashlib.sha256)
        return _PREFIX + base64url(digest).decode()
