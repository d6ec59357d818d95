"""Tokens of the issuer's own keys: everything that is no access token."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from authservice_validator import KeysUnavailable, TokenError
from authservice_validator.jose import decode_base64url, read_object, split

from chassis.errors import Unavailable
from chassis.ids import new_id
from services.token.signing.algorithms import Algorithm, Signer
from services.token.signing.keyring import Keyring
from services.token.signing.models import ISSUER_ID
from services.token.validation.keys import StoredKeys

ID_TOKEN: Final = "JWT"  # noqa: S105 - a type


class IssuerTokens:
    """Signs with the issuer's keys, and knows its ID tokens again."""

    def __init__(self, keyring: Keyring, public_keys: StoredKeys, issuer: str) -> None:
        """Take the keys, private and public, and `iss`."""
        self._keyring = keyring
        self._public_keys = public_keys
        self._issuer = issuer

    async def sign(self, typ: str, algorithm: Algorithm, claims: dict[str, object], now: datetime) -> str:
        """Sign claims; `iss`, `iat` and `jti` are added.

        Raises:
            ValueError: the issuer has no key of that kind, or signs no such token.
            DatabaseUnavailable: the key is not at hand and PostgreSQL is away.
        """
        return await self.sign_by(await self.signer(algorithm), typ, claims, now)

    async def signer(self, algorithm: Algorithm) -> Signer:
        """Return what `sign_by` takes, to be loaded before anything is used up for the token.

        Raises:
            ValueError: the issuer has no key of that kind.
            DatabaseUnavailable: the key is not at hand and PostgreSQL is away.
        """
        return await self._keyring.issuer_signer(algorithm)

    async def sign_by(self, signer: Signer, typ: str, claims: dict[str, object], now: datetime) -> str:
        """Sign claims, as `sign` does, with a key that is at hand.

        Raises:
            ValueError: the issuer signs no such token.
        """
        own = {"iss": self._issuer, "iat": int(now.timestamp()), "jti": str(new_id())}
        return await signer.token({**claims, **own}, typ)

    async def read_id_token(self, token: str) -> dict[str, object] | None:
        """Return the claims of an ID token that we signed, be it expired; None for whatever is none.

        Raises:
            Unavailable: the key is not at hand now.
        """
        try:
            parts = split(token)
            header = read_object(decode_base64url(parts.header))
            kid = header.get("kid")
            if header.get("typ") != ID_TOKEN or not isinstance(kid, str):
                return None
            key = self._public_keys.find(kid) or await self._public_keys.get(kid)
            is_ours = header.get("alg") == key.alg and self._public_keys.owner(kid) == ISSUER_ID
            if not is_ours or not key.verifies(parts.signing_input, parts.signature):
                return None
            claims = read_object(decode_base64url(parts.payload))
        except TokenError:
            return None
        except KeysUnavailable as error:
            raise Unavailable from error
        # What else is of this type, a signed userinfo answer above all, names no login.
        return claims if claims.get("iss") == self._issuer and "auth_time" in claims else None
