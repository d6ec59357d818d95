"""Public keys of `private_key_jwt` assertions (RFC 7523), checked before they are stored."""

from __future__ import annotations

from typing import Any, Final

from authservice_validator.keys import KeyRefused, read_jwk
from pydantic_core import PydanticCustomError

ALGORITHMS: Final = frozenset({"RS256", "ES256", "EdDSA"})
_MAX_KEYS = 10


def check_assertion_keys(value: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return a JWK set of public signing keys, each with a `kid` and an `alg`; a private one is refused.

    Raises:
        PydanticCustomError: it is none.
    """
    if value is None:
        return None
    keys = value.get("keys")
    if not isinstance(keys, list) or not 0 < len(keys) <= _MAX_KEYS:
        raise PydanticCustomError("jwks_invalid", f"must have `keys`, 1 to {_MAX_KEYS}")
    kids = [key.get("kid") if isinstance(key, dict) else None for key in keys]
    if not all(isinstance(kid, str) and kid for kid in kids) or len(set(kids)) != len(kids):
        raise PydanticCustomError("jwks_invalid", "must name each key by a `kid` of its own")
    for key in keys:
        if key.get("alg") not in ALGORITHMS:
            raise PydanticCustomError("jwks_invalid", "must say `alg` of each key: RS256, ES256 or EdDSA")
        try:
            read_jwk(key)
        except KeyRefused as error:
            raise PydanticCustomError(
                "jwks_invalid", "holds a key that cannot be used, or a private one"
            ) from error
    return {"keys": keys}
