"""Proofs of possession (RFC 9449): that whoever sends a token, or asks for one, holds a certain key.

`read_proof` makes every check of §4.3 that needs no memory. What is left is the caller's: that the request
has one `DPoP` header only, that the proof's `jti` was not seen before (`DpopProof.expires_at` says for how
long to remember it), and, where nonces are demanded, that `DpopProof.nonce` is one of its own.
"""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar, Final
from urllib.parse import SplitResult, urlsplit

from authservice_validator.errors import TokenError, TokenInvalid
from authservice_validator.jose import decode_base64url, read_object, split
from authservice_validator.keys import KeyRefused, VerificationKey, read_jwk

ALGORITHMS: Final = ("ES256", "EdDSA", "RS256")
"""The algorithms of proofs, for `dpop_signing_alg_values_supported` and `WWW-Authenticate`."""

MAX_AGE: Final = timedelta(seconds=60)
LEEWAY: Final = timedelta(seconds=30)

_MAX_LENGTH: Final = 8 * 1024
_MAX_TEXT: Final = 512
_REFUSED: Final = frozenset({"crit", "b64", "zip", "jku", "x5u", "x5c", "enc"})
_THUMBPRINT_MEMBERS: Final = {
    "RSA": ("e", "kty", "n"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
}
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
# What `urlsplit` would take out or put up with, and no two parsers alike.
_NOT_IN_URLS: Final = re.compile(r"[\s\\]")


class DpopInvalid(TokenError):
    """The proof must not be believed; the message says which check refused it, and is meant for logs."""

    code: ClassVar[str] = "invalid_dpop_proof"


@dataclass(frozen=True, slots=True)
class DpopProof:
    """A proof whose signature, request and time were checked.

    Attributes:
        jkt: the SHA-256 thumbprint of its key (RFC 7638), which `cnf.jkt` of a bound token names.
        jti: its name, to be accepted once.
        nonce: the server's nonce that it carries, None without; whether it is one of the server's is not
            checked.
        expires_at: Unix seconds; from then on the proof is too old, and its `jti` may be forgotten.
    """

    jkt: str
    jti: str
    nonce: str | None
    expires_at: float


def read_proof(
    proof: str,
    *,
    method: str,
    url: str,
    now: float,
    access_token: str | None = None,
    jkt: str | None = None,
    max_age: timedelta = MAX_AGE,
    leeway: timedelta = LEEWAY,
) -> DpopProof:
    """Check a proof for one request (RFC 9449 §4.3).

    Args:
        proof: the value of the request's only `DPoP` header.
        method: the request's method.
        url: the URL that the client called, as the client knows it; query and fragment do not count.
        now: Unix seconds.
        access_token: the token that is sent with the proof; the proof must name it (`ath`).
        jkt: the key that the token or code is bound to; None accepts every key.
        max_age: for how long a proof is good.
        leeway: how far a client's clock may be ahead.

    Raises:
        DpopInvalid: any check fails.
    """
    try:
        return _read(proof, method, url, now, access_token, jkt, max_age, leeway)
    except (TokenInvalid, KeyRefused) as error:
        raise DpopInvalid(str(error)) from error


def thumbprint(jwk: Mapping[str, object]) -> str:
    """The SHA-256 thumbprint of a public key (RFC 7638 §3, RFC 8037 §2).

    Raises:
        KeyRefused: a kind of key that no proof has.
    """
    names = _THUMBPRINT_MEMBERS.get(str(jwk.get("kty")))
    if names is None or not all(isinstance(jwk.get(name), str) for name in names):
        raise KeyRefused("the key is of another kind")
    members = json.dumps({name: jwk[name] for name in names}, separators=(",", ":"))
    return _sha256(members)


def access_token_hash(access_token: str) -> str:
    """What `ath` of a proof is for a token (RFC 9449 §4.2)."""
    return _sha256(access_token)


def _read(
    proof: str,
    method: str,
    url: str,
    now: float,
    access_token: str | None,
    jkt: str | None,
    max_age: timedelta,
    leeway: timedelta,
) -> DpopProof:
    if not isinstance(proof, str) or len(proof) > _MAX_LENGTH:
        raise DpopInvalid("the proof is not a string within 8 KiB")
    parts = split(proof)
    key, key_thumbprint = _key(read_object(decode_base64url(parts.header)))
    if not key.verifies(parts.signing_input, parts.signature):
        raise DpopInvalid("the signature does not fit")
    # Only now is the payload read: what nobody signed never reaches the parser.
    payload = read_object(decode_base64url(parts.payload))
    if _text(payload, "htm") != method:
        raise DpopInvalid("the proof is for another method")
    if _target(_text(payload, "htu")) != _target(url):
        raise DpopInvalid("the proof is for another URL")
    issued_at = payload.get("iat")
    if isinstance(issued_at, bool) or not isinstance(issued_at, int | float):
        raise DpopInvalid("iat is not a number")
    # Compared before anything is added to it: an integer of JSON may be larger than any float.
    if issued_at > now + leeway.total_seconds() or issued_at <= now - max_age.total_seconds():
        raise DpopInvalid("the proof is of another time")
    if access_token is not None and not _same(_text(payload, "ath"), access_token_hash(access_token)):
        raise DpopInvalid("the proof is for another token")
    if jkt is not None and not _same(key_thumbprint, jkt):
        raise DpopInvalid("the proof is by another key")
    nonce = _text(payload, "nonce") if "nonce" in payload else None
    expires_at = issued_at + max_age.total_seconds()
    return DpopProof(key_thumbprint, _text(payload, "jti"), nonce, expires_at)


def _key(header: dict[str, object]) -> tuple[VerificationKey, str]:
    """Read the key that a proof brings along, bound to one algorithm; the header may only agree."""
    if header.get("typ") != "dpop+jwt":
        raise DpopInvalid("the typ is not dpop+jwt")
    if not _REFUSED.isdisjoint(header):
        raise DpopInvalid("the header has a parameter that is never accepted")
    jwk = header.get("jwk")
    if not isinstance(jwk, dict):
        raise DpopInvalid("the header has no jwk")
    key = read_jwk({**jwk, "kid": "dpop"})
    if header.get("alg") != key.alg:
        raise DpopInvalid("the algorithm is not the key's")
    return key, thumbprint(jwk)


def _target(url: str) -> tuple[str, str, int | None, str]:
    """A URL without query and fragment, in the one form of RFC 3986 §6.2.2 and §6.2.3."""
    if _NOT_IN_URLS.search(url):
        raise DpopInvalid("a URL holds white space or a backslash")
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise DpopInvalid("a URL cannot be read") from error
    if parts.username is not None or parts.password is not None or not parts.hostname:
        raise DpopInvalid("a URL names a user, or no host")
    scheme = parts.scheme.lower()
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
    return scheme, parts.hostname, port, parts.path or "/"


def _text(payload: dict[str, object], name: str) -> str:
    value = payload.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise DpopInvalid(f"{name} is not a string of up to {_MAX_TEXT} characters")
    return value


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode("utf-8", "surrogatepass"), right.encode("utf-8", "surrogatepass"))


def _sha256(text: str) -> str:
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
