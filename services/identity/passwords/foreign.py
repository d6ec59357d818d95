"""Hashes that other systems made: read in the forms that they export, stored in one form each.

They are verified at login and replaced there by one of the configured scheme. A hash whose evaluation could
stop the service is refused when it is imported, and once more before it is evaluated.

| scheme | read | stored |
| --- | --- | --- |
| bcrypt | `$2a$`, `$2b$`, `$2y$` | as it is |
| Argon2id, Argon2i | `$argon2id$v=19$m=…,t=…,p=…$salt$hash` | as it is |
| PBKDF2 | Django, passlib, Werkzeug, PHC; SHA-1, SHA-256, SHA-512 | `$pbkdf2-sha256$i=…$salt$hash` |
| Firebase scrypt | fields of `firebase auth:export`, parameters of the project | `$firescrypt$ln=…,r=…$…` |
| salted SHA | `{SSHA}`, `{SSHA256}`, `{SSHA512}` of LDAP (RFC 2307) | as it is |
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

_B64 = r"[A-Za-z0-9+/]"
_PBKDF2 = re.compile(
    rf"\$pbkdf2-(sha1|sha256|sha512)\$i=([0-9]{{1,8}})\$({_B64}{{0,172}})\$({_B64}{{22,86}})"
)
_FIRESCRYPT = re.compile(
    rf"\$firescrypt\$ln=([0-9]{{1,2}}),r=([0-9]{{1,2}}),p=1"
    rf"\$({_B64}{{1,172}})\$({_B64}{{22,344}})\$({_B64}{{0,86}})\$({_B64}{{22,344}})"
)
_ARGON2I = re.compile(
    r"\$argon2i\$v=(?:16|19)\$m=([0-9]{1,7}),t=([0-9]{1,3}),p=([0-9]{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_SSHA = re.compile(r"\{SSHA(256|512)?\}([A-Za-z0-9+/]{28,172}={0,2})")

_DJANGO = re.compile(
    r"pbkdf2_(sha1|sha256|sha512)\$([0-9]{1,8})\$([!-#%-~]{1,128})\$([A-Za-z0-9+/]{20,88}={0,2})"
)
_PASSLIB = re.compile(
    r"\$pbkdf2(?:-(sha256|sha512))?\$([0-9]{1,8})\$([A-Za-z0-9./]{0,172})\$([A-Za-z0-9./]{20,88})"
)
_WERKZEUG = re.compile(r"pbkdf2:(sha1|sha256|sha512):([0-9]{1,8})\$([!-#%-~]{1,128})\$([0-9a-f]{40,128})")
_PHC = re.compile(
    r"\$pbkdf2-(sha1|sha256|sha512)\$i=([0-9]{1,8})(?:,l=[0-9]{1,3})?\$([A-Za-z0-9+/]{0,172}={0,2})\$([A-Za-z0-9+/]{20,88}={0,2})"
)

_DIGEST_BYTES: Final = {"sha1": 20, "sha256": 32, "sha512": 64}
_SSHA_BYTES: Final = {None: 20, "256": 32, "512": 64}
_MOST_ROUNDS: Final = 2_000_000
_MOST_SCRYPT_BYTES: Final = 64 * 1024 * 1024
_MOST_SCRYPT_ROUNDS: Final = 16
_MOST_ARGON2_MEMORY_KIB: Final = 256 * 1024
_MOST_ARGON2_PASSES: Final = 10
_MOST_ARGON2_LANES: Final = 8
_SIGNER_KEY_BYTES: Final = (16, 256)


class HashUnreadable(ValueError):
    """It is no hash of a form that is read here."""


@dataclass(frozen=True, slots=True)
class FirebaseParameters:
    """How a Firebase project hashes, as its console shows it; `signer_key` and `salt_separator` in base64."""

    signer_key: str
    salt_separator: str
    rounds: int
    mem_cost: int


def foreign_scheme(stored: str) -> str | None:
    """Name the scheme of a hash that was imported; None for those that we make ourselves."""
    for prefix, scheme in (
        ("$pbkdf2-", "pbkdf2"),
        ("$firescrypt$", "firebase_scrypt"),
        ("$argon2i$", "argon2i"),
        ("{SSHA", "ssha"),
    ):
        if stored.startswith(prefix):
            return scheme
    return None


def accepts_foreign(stored: str) -> bool:
    """Whether an imported hash is in its stored form and may be evaluated at its price."""
    try:
        return _is_affordable(stored)
    except HashUnreadable:
        return False


def _is_affordable(stored: str) -> bool:
    if match := _PBKDF2.fullmatch(stored):
        # Each block of a longer hash costs all rounds again (RFC 8018 §5.2).
        blocks = -(-len(_decoded(match[4])) // _DIGEST_BYTES[match[1]])
        return 1 <= int(match[2]) * blocks <= _MOST_ROUNDS
    if match := _FIRESCRYPT.fullmatch(stored):
        cost, rounds = int(match[1]), int(match[2])
        return (
            1 <= cost <= 20
            and 1 <= rounds <= _MOST_SCRYPT_ROUNDS
            and 128 * rounds * 2**cost <= _MOST_SCRYPT_BYTES
        )
    if match := _ARGON2I.fullmatch(stored):
        memory, passes, lanes = map(int, match.groups())
        return (
            8 * lanes <= memory <= _MOST_ARGON2_MEMORY_KIB
            and 1 <= passes <= _MOST_ARGON2_PASSES
            and 1 <= lanes <= _MOST_ARGON2_LANES
        )
    if match := _SSHA.fullmatch(stored):
        digest, salted = _SSHA_BYTES[match[1]], len(_decoded(match[2]))
        return digest < salted <= digest + 64
    return False


def read_exported(exported: str) -> str:
    """Return the stored form of an exported hash; one that is not foreign is returned as it is.

    Raises:
        HashUnreadable: it is of a form that looks foreign and is not well formed.
    """
    if match := _DJANGO.fullmatch(exported) or _WERKZEUG.fullmatch(exported):
        is_hex = exported.startswith("pbkdf2:")
        checksum = bytes.fromhex(match[4]) if is_hex else _decoded(match[4])
        return _pbkdf2(match[1], int(match[2]), match[3].encode(), checksum)
    if match := _PHC.fullmatch(exported):
        return _pbkdf2(match[1], int(match[2]), _decoded(match[3]), _decoded(match[4]))
    if match := _PASSLIB.fullmatch(exported):
        salt, checksum = (_decoded(part.replace(".", "+")) for part in (match[3], match[4]))
        return _pbkdf2(match[1] or "sha1", int(match[2]), salt, checksum)
    return exported


def firebase_hash(exported_hash: str, exported_salt: str, parameters: FirebaseParameters) -> str:
    """Return the stored form of a user's hash and salt as `firebase auth:export` writes them.

    Raises:
        HashUnreadable: one of the parts is not base64, or not of a possible length.
    """
    signer_key = _decoded(parameters.signer_key)
    least, most = _SIGNER_KEY_BYTES
    if not least <= len(signer_key) <= most or len(_decoded(exported_hash)) != len(signer_key):
        raise HashUnreadable
    parts = (exported_salt, exported_hash, parameters.salt_separator, parameters.signer_key)
    return "$".join(
        ["", "firescrypt", f"ln={parameters.mem_cost},r={parameters.rounds},p=1", *map(_plain, parts)]
    )


def _pbkdf2(digest: str, rounds: int, salt: bytes, checksum: bytes) -> str:
    return f"$pbkdf2-{digest}$i={rounds}${_encoded(salt)}${_encoded(checksum)}"


def _plain(text: str) -> str:
    """Return base64 of either alphabet in the standard one, without padding."""
    return _encoded(_decoded(text))


def _encoded(value: bytes) -> str:
    return base64.b64encode(value).rstrip(b"=").decode()


def _decoded(text: str) -> bytes:
    standard = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise HashUnreadable from error
