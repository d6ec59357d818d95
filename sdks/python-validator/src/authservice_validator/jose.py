"""Strict reading of a compact JWS (RFC 7515) before and after its signature is checked.

Stricter than common libraries on purpose. A token that can be written in two ways is two cache keys, two
hashes in a denylist and one identity; so exactly one spelling is accepted.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from authservice_validator.errors import TokenInvalid

MAX_TOKEN_LENGTH: Final = 16 * 1024
MAX_KID_LENGTH: Final = 200

ISSUER_KID_PREFIX: Final = "issuer."
"""How the names of the issuer's own keys begin, and no other key's.

One JWK set holds keys of both kinds. A client's key signs its access tokens, the issuer's own what is no
access token; the name, which the issuer gives, says which a key is, and so what it may be believed about.
"""

# Parameters that change how a token is read, bring their own key, or belong to encryption. None of our
# issuer's tokens has one, and every one of them has been an attack (RFC 8725 §3.10, CVE-2018-0114).
_REFUSED_PARAMETERS: Final = frozenset(
    {
        *("crit", "b64", "zip", "jwk", "jku", "x5u", "x5c"),
        *("enc", "epk", "apu", "apv", "iv", "tag", "p2s", "p2c"),
    }
)
_TYPES: Final = frozenset({"at+jwt", "application/at+jwt"})


class Header(NamedTuple):
    """What the unverified header says; only a name of a key and a claim about an algorithm."""

    alg: str
    kid: str


class Compact(NamedTuple):
    """The three parts of a token as they were sent; nothing in them is verified."""

    header: str
    payload: str
    signing_input: bytes
    signature: bytes


def split(token: str, limit: int = MAX_TOKEN_LENGTH) -> Compact:
    """Cut a token into its parts.

    Bounds the work first: an oversized token is refused before anything is allocated for it.

    Raises:
        TokenInvalid: not a string of three canonical base64url parts within `limit`.
    """
    if not isinstance(token, str) or len(token) > limit or not token.isascii():
        raise TokenInvalid("the token is not a string of ASCII within its limit")
    if token.count(".") != 2:
        raise TokenInvalid("the token does not have three parts")
    signing_input, _, signature = token.rpartition(".")
    header, _, payload = signing_input.partition(".")
    if not (header and payload and signature):
        raise TokenInvalid("a part of the token is empty")
    return Compact(header, payload, signing_input.encode("ascii"), decode_base64url(signature))


def read_header(part: str) -> Header:
    """Read the header of an access token (RFC 9068 §2.1), which no key of the issuer's own signs.

    Raises:
        TokenInvalid: not JSON, a refused parameter, another `typ`, no usable `kid` or `alg`.
    """
    header = _read_header(part, _TYPES)
    if header.kid.startswith(ISSUER_KID_PREFIX):
        raise TokenInvalid("the key is the issuer's own, which signs no access token")
    return header


def read_issuer_header(part: str, types: frozenset[str]) -> Header:
    """Read the header of a token of these types, which only the issuer's own keys sign; raises as above."""
    header = _read_header(part, types)
    if not header.kid.startswith(ISSUER_KID_PREFIX):
        raise TokenInvalid("the key is not the issuer's own")
    return header


def _read_header(part: str, types: frozenset[str]) -> Header:
    header = read_object(decode_base64url(part))
    if not _REFUSED_PARAMETERS.isdisjoint(header):
        raise TokenInvalid("the header has a parameter that is never accepted")
    # The type is what keeps an ID token, a logout token or a mail token from passing as an access token.
    typ = header.get("typ")
    if not isinstance(typ, str) or typ.lower() not in types:
        raise TokenInvalid("the token is of another type (typ)")
    alg, kid = header.get("alg"), header.get("kid")
    if not isinstance(alg, str):
        raise TokenInvalid("the header names no algorithm")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
        raise TokenInvalid("the header names no key")
    return Header(alg, kid)


def decode_base64url(part: str) -> bytes:
    """Decode unpadded base64url, accepting only the one spelling an encoder would give (RFC 7515 §2).

    The usual decoders skip foreign characters and ignore the unused bits of the last one, so that up to
    fifteen other strings mean the same signature. Encoding again and comparing leaves none of them.
    """
    raw = part.encode("ascii", "replace")
    try:
        decoded = base64.urlsafe_b64decode(raw + b"=" * (-len(raw) % 4))
    except binascii.Error as error:
        raise TokenInvalid("a part of the token is not base64url") from error
    if base64.urlsafe_b64encode(decoded).rstrip(b"=") != raw:
        raise TokenInvalid("a part of the token is not canonical base64url")
    return decoded


def read_object(raw: bytes) -> dict[str, object]:
    """Read a JSON object in which no name stands twice, no number is infinite and all text can be encoded.

    Raises:
        TokenInvalid: anything else, however deep.
    """
    try:
        text = raw.decode("utf-8")
        value = _decoder.decode(text)
        if "\\u" in text:
            # A lone surrogate is legal JSON, and breaks whoever writes it to a log or a database later.
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise TokenInvalid("a part of the token is not strict JSON") from error
    if not isinstance(value, dict):
        raise TokenInvalid("a part of the token is not a JSON object")
    return value


def _unique(pairs: list[tuple[str, object]]) -> Mapping[str, object]:
    # Two parsers may pick different ones of two equal names; what one checks, the other then uses.
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is not finite")
    return number


def _refuse_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


_decoder: Final = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant
)
