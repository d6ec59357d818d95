"""Admin tokens at the edge: verified here, and good only for what the directory says of the admin now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from chassis.clock import Clock
from chassis.context import Access, CallerContext
from chassis.errors import Forbidden, NotFound
from chassis.events import ActorType
from contracts.admin_directory import AdminDirectory
from contracts.admin_tokens import AdminTokenRefused, AdminTokens
from gateway.tokens import ExpiredToken, InvalidToken, RevokedToken


class Admins:
    """Turns an admin token into a caller, and knows which admins may still act in users' names."""

    def __init__(self, tokens: AdminTokens, directory: AdminDirectory, clock: Clock) -> None:
        """Take what verifies tokens, and who knows the admins."""
        self._tokens = tokens
        self._directory = directory
        self._now: Callable[[], float] = lambda: clock.now().timestamp()

    async def check_actor(self, actor_id: str, client_id: UUID) -> None:
        """Check that who acts in the name of a client's user may still do so.

        Raises:
            RevokedToken: it is no admin any more, or may not act there.
            Unavailable: identity is away.
        """
        if actor_id == ActorType.ADMIN_KEY:
            return
        try:
            admin = await self._directory.get(UUID(actor_id))
        except ValueError:
            raise RevokedToken from None
        if admin is None or not admin.is_active:
            raise RevokedToken
        now = CallerContext(
            access=Access.ADMIN,
            request_id="",
            admin_id=admin.id,
            admin_permissions=admin.permissions,
            admin_scopes=admin.scopes,
        )
        try:
            now.check_permission("users:impersonate")
            now.check_client_scope(client_id)
        except (Forbidden, NotFound):
            raise RevokedToken from None

    async def resolve(self, token: str, anonymous: CallerContext) -> CallerContext:
        """Return the admin whose token it is; `anonymous` is what is known of the request so far.

        Raises:
            InvalidToken: it is no admin token or too old, or its admin was suspended, changed or removed.
            Unavailable: identity is away.
        """
        try:
            claims = self._tokens.verify(token, self._now())
        except AdminTokenRefused as error:
            raise (ExpiredToken if error.is_expired else InvalidToken) from None
        admin = await self._directory.get(claims.admin_id)
        if admin is None or not admin.is_active or admin.token_epoch != claims.epoch:
            raise RevokedToken
        return replace(
            anonymous,
            access=Access.ADMIN,
            admin_id=admin.id,
            admin_permissions=admin.permissions,
            admin_scopes=admin.scopes,
            auth_time=claims.issued_at,
            amr=claims.amr,
        )
