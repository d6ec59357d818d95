"""`private_key_jwt`: a client proves itself by a JWT that it signs (RFC 7523 §3, OpenID Connect Core §9)."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from authservice_validator import TokenError
from authservice_validator.jose import decode_base64url, read_object, split
from authservice_validator.keys import KeyRefused, read_jwk

from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.database import Database
from chassis.errors import Unavailable
from services.token.errors import InvalidClient
from services.token.oauth import store

log = structlog.get_logger()

_LONGEST_LIFE: Final = timedelta(minutes=10)
_TYPES: Final = frozenset({"jwt", "client-authentication+jwt"})
_PARAMETERS: Final = frozenset({"alg", "kid", "typ"})
_MAX_JTI: Final = 255
_HOUSEKEEPING_SECONDS: Final = 600.0


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who should have signed: an account or app of a tenant, with its public keys (a JWK set, or empty)."""

    client_id: UUID
    id: str
    jwks_json: str


class Assertions:
    """Checks assertions; each is good once."""

    def __init__(self, db: Database, clock: Clock, issuer: str) -> None:
        """Take where used ones are remembered, and the issuer that they must be meant for."""
        self._db = db
        self._clock = clock
        # RFC 7523 §3: the issuer or the URL of the token endpoint. Nothing else of ours is an audience.
        endpoints = ("/oauth/token", "/token", "/par")  # RFC 9126 §2: of pushed requests, too
        self._audiences = frozenset({issuer, *(f"{issuer}{path}" for path in endpoints)})

    async def check(self, signatory: Signatory, assertion: str) -> None:
        """Accept an assertion of an account or app and use it up.

        Raises:
            InvalidClient: it is forged, not its own, not for us, too old or too long, or was used.
            Unavailable: it cannot be told now whether it was used.
        """
        try:
            payload = _verified(signatory, assertion)
            jti, expires_at = self._judge(signatory.id, payload)
        except (TokenError, KeyRefused, ValueError, TypeError, OverflowError) as error:
            log.warning("client assertion refused", signatory=signatory.id, reason=str(error))
            raise InvalidClient from None
        name = hashlib.sha256(f"{signatory.id}|{jti}".encode()).digest()
        async with self._db.tenant(signatory.client_id) as tx:
            if not await store.use_assertion(tx, name, expires_at + MAX_CLOCK_DIFFERENCE):
                raise InvalidClient

    async def housekeeping(self) -> None:
        """Forget what has expired, for ever; a job of the service."""
        while True:
            try:
                async with self._db.platform() as tx:
                    await store.delete_expired(tx, self._clock.now())
            except Unavailable:
                log.warning("used assertions wait for the database")
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    def _judge(self, own: str, payload: dict[str, Any]) -> tuple[str, datetime]:
        """Check the claims and return `jti` and `exp`."""
        if payload.get("iss") != own or payload.get("sub") != own:
            raise ValueError("iss and sub must be the client")
        audience = payload.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        if len(audiences) != 1 or audiences[0] not in self._audiences:
            raise ValueError("aud must be the issuer or its token endpoint, alone")
        jti = payload.get("jti")
        if not isinstance(jti, str) or not 0 < len(jti) <= _MAX_JTI:
            raise ValueError("jti is missing")
        now = self._clock.now()
        expires_at = _time(payload, "exp")
        if expires_at is None or not now - MAX_CLOCK_DIFFERENCE < expires_at < now + _LONGEST_LIFE:
            raise ValueError("exp is missing, past, or too far away")
        for name in ("nbf", "iat"):
            moment = _time(payload, name)
            if moment is not None and moment > now + MAX_CLOCK_DIFFERENCE:
                raise ValueError(f"{name} is in the future")
        return jti, expires_at


def _verified(signatory: Signatory, assertion: str) -> dict[str, Any]:
    """Return the payload of an assertion that one of the signatory's keys has signed."""
    parts = split(assertion)
    header = read_object(decode_base64url(parts.header))
    typ = header.get("typ", "JWT")
    if not header.keys() <= _PARAMETERS or not isinstance(typ, str) or typ.lower() not in _TYPES:
        raise ValueError("the header has another type, or a parameter that is not accepted")
    keys = json.loads(signatory.jwks_json)["keys"] if signatory.jwks_json else []
    jwk = next((jwk for jwk in keys if jwk["kid"] == header.get("kid")), None)
    if jwk is None:
        raise ValueError("the client has no such key")
    key = read_jwk(jwk)
    # The key's algorithm is what counts; the header may only agree (RFC 8725 §3.1).
    if header.get("alg") != key.alg or not key.verifies(parts.signing_input, parts.signature):
        raise ValueError("the signature does not fit")
    return dict(read_object(decode_base64url(parts.payload)))


def _time(payload: dict[str, Any], name: str) -> datetime | None:
    value = payload.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is not a number")
    return datetime.fromtimestamp(value, UTC)
