"""How recovery codes look, and how they are stored: as a keyed hash only."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from uuid import UUID

COUNT = 10
MAX_TYPED_LENGTH = 64

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base32: no two letters that look alike."""

_GROUPS, _GROUP_LENGTH = 4, 5
"""100 bits a code, so that a fast hash is enough (OWASP ASVS 2.6.2 asks for 64)."""

_LOOKALIKES = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})


def new_codes() -> list[str]:
    """Return ten codes of the form `xxxxx-xxxxx-xxxxx-xxxxx`."""
    return [_new_code() for _ in range(COUNT)]


def normalized(typed: str) -> str:
    """Return what all spellings of a code have in common: case, hyphens and spaces do not matter."""
    return typed.lower().translate(_LOOKALIKES)


class CodeHasher:
    """Hashes codes with a key, each for its user, so that a stolen table opens nothing."""

    def __init__(self, keys: Sequence[bytes], key_id: bytes) -> None:
        """Take the present key first, then those it replaced, and the id of the present master key."""
        self._keys = keys
        self.key_id = key_id

    def hash(self, user_id: UUID, code: str) -> bytes:
        """Return the 32 bytes to store."""
        return _hash(self._keys[0], user_id, code)

    def candidates(self, user_id: UUID, code: str) -> list[bytes]:
        """Return what may be stored of a code, under any key."""
        return [_hash(key, user_id, code) for key in self._keys]


def _new_code() -> str:
    groups = ("".join(secrets.choice(_ALPHABET) for _ in range(_GROUP_LENGTH)) for _ in range(_GROUPS))
    return "-".join(groups)


def _hash(key: bytes, user_id: UUID, code: str) -> bytes:
    return hmac.new(key, user_id.bytes + normalized(code).encode(), hashlib.sha256).digest()
