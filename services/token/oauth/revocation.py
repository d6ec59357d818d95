"""Revocation of tokens by the client that got them (RFC 7009)."""

from __future__ import annotations

from uuid import UUID

from authservice_validator import VerifiedClaims
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import ClientDirectory
from services.token.oauth.authentication import acting_in
from services.token.oauth.introspection import id_of, own_token, tenant_of
from services.token.oauth.models import Authenticated, AuthenticatedAccount, AuthenticatedApp
from services.token.revocations.service import Revocations
from services.token.sessions import refresh_tokens
from services.token.sessions.service import SessionService
from services.token.validation.service import ValidationService

REVOKED = Counter("oauth_revocations_total", "Tokens presented for revocation.", ["kind"])


class TokenRevocation:
    """Revokes a client's own tokens; of what is another's it takes no notice, and says nothing."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        clients: ClientDirectory,
        sessions: SessionService,
        revocations: Revocations,
        validation: ValidationService,
    ) -> None:
        """Take who ends sessions, and who judges access tokens."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._sessions = sessions
        self._revocations = revocations
        self._validation = validation

    async def revoke(self, caller: CallerContext, client: Authenticated, token: str) -> None:
        """Revoke a refresh token with its whole grant, or one access token.

        Raises:
            Unavailable: it cannot be done now.
        """
        caller = acting_in(caller, tenant_of(client))
        if not refresh_tokens.is_well_formed(token):
            await self._revoke_access_token(caller, client, token)
        elif isinstance(client, AuthenticatedApp):
            is_ended = await self._sessions.end_of_token(caller, token, app_id=client.app.id)
            REVOKED.labels("refresh_token" if is_ended else "none").inc()

    async def _revoke_access_token(self, caller: CallerContext, client: Authenticated, token: str) -> None:
        client_id = tenant_of(client)
        tenant = await self._clients.get(client_id)
        verdict = (await self._validation.validate(tenant, [token]))[0]
        if not isinstance(verdict, VerifiedClaims) or not own_token(client, verdict):
            REVOKED.labels("none").inc()
            return
        of_user = isinstance(client, AuthenticatedApp) and verdict.sub != client.app.id
        session_id = UUID(verdict.sid) if of_user and verdict.sid else None
        async with self._db.tenant(client_id) as tx:
            await self._revocations.token(
                tx, client_id, verdict.jti, self._clock.now(), session_id=session_id
            )
            event = events.TokenRevoked(
                target_id=verdict.jti,
                subject=verdict.sub,
                app_id=None if isinstance(client, AuthenticatedAccount) else id_of(client),
            )
            await self._outbox.emit(tx, event, caller)
        await self._revocations.announce()
        REVOKED.labels("access_token").inc()
