"""The grant type `refresh_token` (RFC 6749 §6): rotation, with as much as was granted or less."""

from __future__ import annotations

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import InvalidRequest
from contracts.apps import App
from services.token.errors import InvalidGrant, InvalidRefreshToken, InvalidScope, InvalidTarget
from services.token.grants.tokens import GrantTokens, Opened, remaining
from services.token.oauth.authentication import acting_in
from services.token.oauth.models import AuthenticatedApp, TokenAnswer
from services.token.oauth.parameters import Parameters, read_scope
from services.token.sessions import refresh_tokens
from services.token.sessions import store as sessions_store
from services.token.sessions.models import Holder
from services.token.sessions.service import SessionService


class GrantRefreshing:
    """Renews grants."""

    def __init__(self, db: Database, sessions: SessionService, clock: Clock, tokens: GrantTokens) -> None:
        """Take who rotates, and who signs."""
        self._db = db
        self._clock = clock
        self._sessions = sessions
        self._tokens = tokens

    async def refresh(
        self,
        caller: CallerContext,
        client: AuthenticatedApp,
        parameters: Parameters,
        jkt: str | None,
    ) -> TokenAnswer:
        """Exchange a refresh token for its successor and new tokens about the user as it is now.

        What is asked for too much is refused before the token is used.

        Raises:
            InvalidRequest: there is no token.
            InvalidGrant: it opens nothing for this app and key. InvalidScope, InvalidTarget: more is asked
            for than was granted.
        """
        app, token = client.app, parameters.get("refresh_token")
        if token is None:
            raise InvalidRequest("Send the `refresh_token`.")
        caller = acting_in(caller, app.client.id)
        scopes, resources = read_scope(parameters.get("scope")), parameters.several("resource")
        if scopes is not None or resources:
            await self._check_narrows(app, token, scopes, resources)
        signers = await self._tokens.signers(app)
        holder = Holder(app.id, jkt, client.is_confidential, app.audiences)
        try:
            session, successor = await self._sessions.rotate(
                caller, app.client.id, token, holder, self._clock.now()
            )
        except InvalidRefreshToken:
            # Perhaps because the app has lost what was granted: then it is told so.
            await self._check_narrows(app, token, scopes, resources)
            raise InvalidGrant from None
        return await self._tokens.answer(
            app, signers, Opened(session, successor), scopes=scopes, audience=resources or None, jkt=jkt
        )

    async def _check_narrows(
        self, app: App, token: str, scopes: tuple[str, ...] | None, resources: tuple[str, ...]
    ) -> None:
        """Compare with what was granted, which never changes; what opens nothing is refused later."""
        async with self._db.tenant(app.client.id) as tx:
            grant = await sessions_store.grant_of_token(tx, refresh_tokens.hash_of(token), app.id)
        if grant is None:
            return
        if scopes is not None and not set(scopes) <= set(grant.scopes):
            raise InvalidScope
        if not set(resources) <= set(remaining(app, grant.audience)):
            raise InvalidTarget
