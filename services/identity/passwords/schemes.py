"""Stored password hashes: which ones are accepted, and which are weaker than what is configured."""

from __future__ import annotations

import base64
import re
import secrets
import string
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from services.identity.passwords.foreign import accepts_foreign, foreign_scheme

Scheme = Literal["bcrypt", "argon2id"]

_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON2ID = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_BCRYPT_ALPHABET = "./" + string.ascii_letters + string.digits
_LEAST_BCRYPT_COST = 4
_MOST_BCRYPT_COST = 16
_MOST_IMPORTED_BCRYPT_COST = 14
_ARGON2_MEMORY_KIB = 19 * 1024
_ARGON2_PASSES = 2
_MOST_ARGON2_MEMORY_KIB = 256 * 1024
_MOST_ARGON2_PASSES = 10
_MOST_ARGON2_LANES = 8


SCHEMES: tuple[Scheme, ...] = ("bcrypt", "argon2id")
"""Every scheme that we hash by; `foreign` knows those of imported hashes."""


@dataclass(frozen=True, slots=True)
class Evening:
    """What every miss amounts to: a bcrypt of this cost (none for 0), and perhaps an Argon2id."""

    bcrypt_cost: int
    argon2id: bool


@dataclass(frozen=True, slots=True)
class HashPolicy:
    """How new passwords are hashed; `cost` is bcrypt's."""

    scheme: Scheme
    cost: int

    def accepts(self, stored: str) -> bool:
        """Whether a stored hash may be evaluated: a known scheme, at a price that cannot stop the service."""
        if match := _BCRYPT.fullmatch(stored):
            return _LEAST_BCRYPT_COST <= int(match[1]) <= _MOST_BCRYPT_COST
        if match := _ARGON2ID.fullmatch(stored):
            memory, passes, lanes = map(int, match.groups())
            return (
                8 * lanes <= memory <= _MOST_ARGON2_MEMORY_KIB
                and 1 <= passes <= _MOST_ARGON2_PASSES
                and 1 <= lanes <= _MOST_ARGON2_LANES
            )
        return accepts_foreign(stored)

    def accepts_import(self, stored: str) -> bool:
        """Whether a hash of another system may be stored: as `accepts`, and no bcrypt much above our own."""
        match = _BCRYPT.fullmatch(stored)
        if match and int(match[1]) > max(self.cost, _MOST_IMPORTED_BCRYPT_COST):
            return False
        return self.accepts(stored)

    def is_weaker(self, stored: str) -> bool:
        """Whether an accepted hash should be replaced by one of this policy."""
        if match := _BCRYPT.fullmatch(stored):
            return self.scheme != "bcrypt" or int(match[1]) < self.cost
        match = _ARGON2ID.fullmatch(stored)
        if self.scheme != "argon2id" or match is None:
            return True
        return int(match[1]) < _ARGON2_MEMORY_KIB or int(match[2]) < _ARGON2_PASSES

    def evening(self, stored: Collection[Scheme]) -> Evening:
        """Return what every miss should amount to while hashes of these schemes are stored.

        Each scheme in use is paid for by every miss, whichever hash it missed and whether there was one: what
        a move to another scheme has not reached yet must not tell by its time that an address has an account.
        An imported hash of another scheme is brought to the same price. Only a hash that is costlier, as
        after lowering BCRYPT_COST or from a system that hashed longer, still does, until its user logs in.
        """
        used = {self.scheme, *stored}
        return Evening(bcrypt_cost=self.cost if "bcrypt" in used else 0, argon2id="argon2id" in used)

    def decoy(self) -> str:
        """Return a well-formed hash of this policy that belongs to no password, to evaluate for nobody."""
        if self.scheme == "bcrypt":
            # A salt's last character carries two bits and the checksum's last four: these are canonical ones.
            salt = "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(21)) + "O"
            checksum = "".join(secrets.choice(_BCRYPT_ALPHABET) for _ in range(30)) + "."
            return f"$2b${self.cost:02}${salt}{checksum}"
        salt, checksum = (
            base64.b64encode(secrets.token_bytes(length)).rstrip(b"=").decode() for length in (16, 32)
        )
        return f"$argon2id$v=19$m={_ARGON2_MEMORY_KIB},t={_ARGON2_PASSES},p=1${salt}${checksum}"


def scheme_of(stored: str) -> str:
    """Name a hash's scheme, for metrics and events."""
    return foreign_scheme(stored) or native_scheme(stored) or "unknown"


def native_scheme(stored: str) -> Scheme | None:
    """Name the scheme of a hash that we could have made; None for those of other systems."""
    if stored.startswith("$argon2id$"):
        return "argon2id"
    return "bcrypt" if stored.startswith("$2") else None
