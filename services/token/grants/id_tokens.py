"""What an ID token says (OpenID Connect Core §2, §3.1.3.6), and the other tokens of the issuer's keys."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from authservice_validator import KeysUnavailable, TokenError
from authservice_validator.jose import decode_base64url, read_object, split

from chassis.errors import Unavailable
from chassis.ids import new_id
from contracts.apps import App
from contracts.oidc_claims import requested_claims, user_claims
from services.token.sessions.models import LiveSession
from services.token.signing.algorithms import Algorithm, base64url
from services.token.signing.keyring import Keyring
from services.token.signing.models import ISSUER_ID
from services.token.validation.keys import StoredKeys

_TTL: Final = timedelta(minutes=10)
_HASH_OF: Final = {
    Algorithm.RS256: hashlib.sha256,
    Algorithm.ES256: hashlib.sha256,
    Algorithm.EDDSA: hashlib.sha512,
}
_ID_TOKEN: Final = "JWT"  # noqa: S105 - a type
OPENID: Final = "openid"


@dataclass(frozen=True, slots=True)
class Authentication:
    """What an ID token is about: a grant's session and what goes with this one answer."""

    session: LiveSession
    scopes: tuple[str, ...]
    access_token: str
    nonce: str = ""


class IssuerTokens:
    """Signs what is no access token, with the issuer's keys."""

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
        signer = await self._keyring.issuer_signer(algorithm)
        own = {"iss": self._issuer, "iat": int(now.timestamp()), "jti": str(new_id())}
        return signer.token({**claims, **own}, typ)

    async def read_id_token(self, token: str) -> dict[str, object] | None:
        """Return the claims of an ID token that we signed, be it expired; None for whatever is none.

        Raises:
            Unavailable: the key is not at hand now.
        """
        try:
            parts = split(token)
            header = read_object(decode_base64url(parts.header))
            kid = header.get("kid")
            if header.get("typ") != _ID_TOKEN or not isinstance(kid, str):
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

    async def id_token(self, app: App, authentication: Authentication, now: datetime) -> str:
        """Sign the ID token of a grant, for the app whose it is.

        Raises:
            DatabaseUnavailable: the key is not at hand and PostgreSQL is away.
        """
        session, algorithm = authentication.session, Algorithm(app.id_token_alg)
        grant = session.grant
        if grant is None:
            raise LookupError("an ID token is of a grant")
        asked = requested_claims(grant.requested_claims, "id_token")
        digest = _HASH_OF[algorithm](authentication.access_token.encode()).digest()
        claims: dict[str, object] = {
            **user_claims(session.user, authentication.scopes, asked),
            "sub": session.user.id,
            "aud": app.id,
            "azp": app.id,
            "exp": int((now + _TTL).timestamp()),
            "auth_time": int(session.auth_time.timestamp()),
            "acr": session.acr,
            "amr": session.amr,
            "at_hash": base64url(digest[: len(digest) // 2]).decode(),
            "sid": str(grant.parent_id),
        }
        if authentication.nonce:
            claims["nonce"] = authentication.nonce
        return await self.sign(_ID_TOKEN, algorithm, claims, now)
