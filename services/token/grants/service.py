"""What the OpenID provider asks of the token service: codes, login sessions, and judgement of tokens."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from authservice_validator import TokenError, VerifiedClaims
from authservice_validator.jose import decode_base64url, read_object, split
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.ids import new_secret
from contracts.apps import AppDirectory
from contracts.clients import ClientDirectory, ClientNotFound
from contracts.oidc_claims import claims_within
from contracts.token_use import ENROLLMENT
from services.token.errors import LoginSessionNotFound
from services.token.grants import store
from services.token.grants.models import Authorization, CodeBinding
from services.token.sessions import store as sessions_store
from services.token.sessions.models import LiveSession
from services.token.validation.models import Refusal
from services.token.validation.service import ValidationService

log = structlog.get_logger()

CODE_TTL: Final = timedelta(seconds=60)
_PURGE_SECONDS: Final = 60.0
# A used code is remembered while its reuse may still end what it gave.
_USED_KEPT: Final = timedelta(days=1)

CODES = Counter("authorization_codes_total", "Authorization codes, by what became of them.", ["outcome"])


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """A token that is good now; the session of a user's token, and no session of a machine's.

    `requested_claims` is the `claims` parameter of its grant, less what its app may not ask for any more.
    """

    claims: VerifiedClaims
    session: LiveSession | None
    requested_claims: str = ""


class GrantService:
    """Keeps codes and tells of sessions; who redeems a code asks `Grants`."""

    def __init__(
        self,
        db: Database,
        clock: Clock,
        clients: ClientDirectory,
        apps: AppDirectory,
        validation: ValidationService,
    ) -> None:
        """Take where codes and sessions are, who knows tenants and apps, and who judges tokens."""
        self._db = db
        self._clock = clock
        self._clients = clients
        self._apps = apps
        self._validation = validation

    async def create_code(self, authorization: Authorization, binding: CodeBinding) -> str:
        """Keep what a user granted for a minute, and return the code that stands for it.

        Raises:
            LoginSessionNotFound: the login that the user granted it with is over.
        """
        code, now = new_secret("ac_"), self._clock.now()
        async with self._db.tenant(authorization.client_id) as tx:
            login = await store.login_session(tx, authorization.parent_id, now)
            if login is None or login.user_id != authorization.user_id:
                raise LoginSessionNotFound
            await store.insert_code(tx, hash_of(code), authorization, binding, now, now + CODE_TTL)
        CODES.labels("created").inc()
        return code

    async def login_session(self, client_id: UUID, session_id: UUID) -> LiveSession:
        """Return a login that lives, with its user; a grant to an app is none.

        Raises:
            LoginSessionNotFound: there is none.
        """
        async with self._db.tenant(client_id) as tx:
            session = await store.login_session(tx, session_id, self._clock.now())
        if session is None:
            raise LoginSessionNotFound
        return session

    async def verify(self, token: str) -> VerifiedToken | Refusal:
        """Judge an access token of whichever tenant it says to be of, for the issuer's own resources.

        One for other resources (RFC 8707) is refused.

        Raises:
            Unavailable: it cannot be told now.
        """
        client_id = _tenant_named_in(token)
        if client_id is None:
            return Refusal.INVALID_TOKEN
        try:
            client = await self._clients.get(client_id)
        except ClientNotFound:
            return Refusal.INVALID_TOKEN
        if not client.is_active:
            return Refusal.TOKEN_REVOKED
        verdict = (await self._validation.validate(client, [token]))[0]
        if not isinstance(verdict, VerifiedClaims):
            return verdict
        if verdict.token_use == ENROLLMENT or verdict.aud != (str(client_id),):
            return Refusal.INVALID_TOKEN
        if verdict.service_account_id is not None or verdict.sid is None:
            return VerifiedToken(verdict, None)
        async with self._db.tenant(client_id) as tx:
            session = await sessions_store.live_session(tx, UUID(verdict.sid), self._clock.now())
        if session is None:
            return Refusal.TOKEN_REVOKED
        return VerifiedToken(verdict, session, await self._requested_claims(verdict, session, client_id))

    async def _requested_claims(self, token: VerifiedClaims, session: LiveSession, client_id: UUID) -> str:
        grant = session.grant
        # What the user let one app ask for by name is not told to another that exchanged the token.
        if grant is None or not grant.requested_claims or token.azp != grant.app_id:
            return ""
        app = await self._apps.find(grant.app_id, client_id=client_id)
        return claims_within(grant.requested_claims, app.scopes) if app else ""

    async def purge(self) -> None:
        """Forget codes that mean nothing any more, for ever; a job of the service."""
        while True:
            try:
                async with self._db.platform() as tx:
                    await store.purge_codes(tx, self._clock.now() - _USED_KEPT)
            except Unavailable:
                log.warning("purge of authorization codes waits")
            await asyncio.sleep(_PURGE_SECONDS)


def hash_of(code: str) -> bytes:
    """Return what is stored of a code."""
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).digest()


def _tenant_named_in(token: str) -> UUID | None:
    """Read which tenant an unverified token says to be of, by whose keys it is then judged."""
    try:
        named = read_object(decode_base64url(split(token).payload)).get("client_id")
        return UUID(named) if isinstance(named, str) else None
    except (TokenError, ValueError):
        return None


def claims_json(claims: VerifiedClaims) -> str:
    """Write verified claims as JSON."""
    return json.dumps(dict(claims.claims), separators=(",", ":"), default=_plain)


def _plain(value: object) -> object:
    """Give JSON what the validator made immutable."""
    return dict(value) if hasattr(value, "keys") else list(value)  # type: ignore[call-overload]  # the two frozen kinds
