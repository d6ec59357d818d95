"""Introspection (RFC 7662, RFC 9701): what a token is worth now, told to who may know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

from authservice_validator import VerifiedClaims
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.database import Database
from contracts.clients import Client, ClientDirectory
from contracts.token_use import ENROLLMENT
from services.token.errors import InvalidClient
from services.token.oauth import store
from services.token.oauth.models import Authenticated, AuthenticatedAccount, AuthenticatedApp
from services.token.sessions import refresh_tokens
from services.token.validation.service import ValidationService

INTROSPECTIONS = Counter("introspections_total", "Introspections, by what they found.", ["active"])

INACTIVE: Final[Mapping[str, object]] = {"active": False}


class Introspection:
    """Tells about tokens of the asking client's own tenant.

    The tenant itself and its service accounts are told of all its access tokens; any other app of its own
    tokens only. Refresh tokens are told of to the app that got them. Whatever is none of these, another
    tenant's above all, is the same `{"active": false}`, so that nothing can be learned from it (RFC 7662 §4).
    """

    def __init__(
        self, db: Database, clock: Clock, clients: ClientDirectory, validation: ValidationService
    ) -> None:
        """Take who judges access tokens, and where refresh tokens are."""
        self._db = db
        self._clock = clock
        self._clients = clients
        self._validation = validation

    async def of(self, client: Authenticated, token: str) -> Mapping[str, object]:
        """Say what a token is worth now.

        Raises:
            InvalidClient: the client is a public app, which anybody can say to be.
            Unavailable: it cannot be told now.
        """
        if isinstance(client, AuthenticatedApp) and not client.is_confidential:
            raise InvalidClient
        if refresh_tokens.is_well_formed(token):
            document = await self._refresh_token(client, token)
        else:
            document = await self._access_token(client, token)
        INTROSPECTIONS.labels(str(document is not INACTIVE).lower()).inc()
        return document

    async def _access_token(self, client: Authenticated, token: str) -> Mapping[str, object]:
        verdict = (await self._validation.validate(await self._tenant(client), [token]))[0]
        if not isinstance(verdict, VerifiedClaims) or verdict.token_use == ENROLLMENT:
            return INACTIVE
        if not _may_know(client, verdict):
            return INACTIVE
        token_type = "Bearer" if verdict.cnf is None else "DPoP"
        username = {"username": verdict.email} if verdict.email else {}
        return {**verdict.claims, "active": True, "token_type": token_type, **username}

    async def _refresh_token(self, client: Authenticated, token: str) -> Mapping[str, object]:
        if not isinstance(client, AuthenticatedApp):
            return INACTIVE
        app, now = client.app, self._clock.now()
        async with self._db.tenant(app.client.id) as tx:
            found = await store.live_refresh_token(tx, refresh_tokens.hash_of(token), app.id, now)
        if found is None:
            return INACTIVE
        return {
            "active": True,
            "scope": found.scope,
            "client_id": str(app.client.id),
            "azp": app.id,
            "sub": str(found.user_id),
            "sid": str(found.session_id),
            "iat": int(found.created_at.timestamp()),
            "exp": int(found.expires_at.timestamp()),
            **({"cnf": {"jkt": found.jkt}} if found.jkt else {}),
        }

    async def _tenant(self, client: Authenticated) -> Client:
        if isinstance(client, AuthenticatedAccount):
            return await self._clients.get(client.account.client_id)
        return client.app.client


def own_token(client: Authenticated, claims: VerifiedClaims) -> bool:
    """Whether an access token was given to this very client."""
    if isinstance(client, AuthenticatedAccount):
        return claims.service_account_id == str(client.account.id)
    return claims.claims.get("azp") == client.app.id


def tenant_of(client: Authenticated) -> UUID:
    """Return the tenant of a client."""
    return client.account.client_id if isinstance(client, AuthenticatedAccount) else client.app.client.id


def id_of(client: Authenticated) -> str:
    """Return the `client_id` that a client goes by."""
    return str(client.account.id) if isinstance(client, AuthenticatedAccount) else client.app.id


def _may_know(client: Authenticated, claims: VerifiedClaims) -> bool:
    return isinstance(client, AuthenticatedAccount) or client.app.is_tenant or own_token(client, claims)
