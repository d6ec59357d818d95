"""Ids: UUIDv7 (RFC 9562 §5.7), so that new rows land at the end of an index and ids sort by time. Secrets."""

from __future__ import annotations

import hashlib
import secrets
import time
from uuid import UUID

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_SHOWN_CHARACTERS = 12


def new_id() -> UUID:
    """Return a fresh UUIDv7: 48 bits of Unix milliseconds, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    return UUID(
        int=(milliseconds << 80) | _VERSION | ((random >> 62) << 64) | _VARIANT | (random & (2**62 - 1))
    )


def new_secret(prefix: str) -> str:
    """Return a 256-bit secret behind a visible prefix that scanners for leaked secrets can find."""
    return prefix + secrets.token_urlsafe(32)


def hash_of(secret: str) -> bytes:
    """Return what a secret of ours is known by; 256 random bits need no slow hash. Takes any text."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def shown_part(secret: str) -> str:
    """Return the beginning by which its owner tells a secret from others; what follows cannot be guessed."""
    return secret[:_SHOWN_CHARACTERS]
