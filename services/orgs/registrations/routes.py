"""HTTP face of initial access tokens, for admins."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from chassis.context import Access
from chassis.http import Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter, Page
from contracts.session import Time
from contracts.step_up import REFUSALS
from services.orgs.clients.requests import Name
from services.orgs.registrations.models import InitialAccessToken, TokenStatus
from services.orgs.registrations.service import RegistrationService

_MAX_USES = 1000
_DEFAULT_TTL = timedelta(days=7)
_TOKENS = "/api/admin/clients/{client_id}/initial-access-tokens"


class CreateInitialAccessTokenRequest(RequestModel):
    """What lets apps register: once, within a week, unless said otherwise."""

    name: Name = "registration"
    max_uses: Annotated[int, Field(ge=1, le=_MAX_USES, strict=True)] = 1
    expires_at: AwareDatetime | None = Field(None, description="Within a year; in seven days by default.")


class InitialAccessTokenView(AnswerModel):
    """An initial access token, without what makes it one."""

    id: UUID
    name: str
    prefix: str
    status: TokenStatus
    max_uses: int
    uses: int
    created_at: Time
    expires_at: Time
    revoked_at: Time | None
    last_used_at: Time | None

    @classmethod
    def of(cls, token: InitialAccessToken, now: datetime) -> InitialAccessTokenView:
        """Show a token."""
        return cls(
            id=token.id,
            name=token.name,
            prefix=token.prefix,
            status=token.status(now),
            max_uses=token.max_uses,
            uses=token.uses,
            created_at=token.created_at,
            expires_at=token.expires_at,
            revoked_at=token.revoked_at,
            last_used_at=token.last_used_at,
        )


class InitialAccessTokenCreatedView(AnswerModel):
    """A new initial access token."""

    initial_access_token: InitialAccessTokenView
    token: str = Field(
        description="The token itself, to be sent as a bearer to `POST /register`. Shown once."
    )


def routes(registrations: RegistrationService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: apps")

    @router.get(
        _TOKENS,
        access=Access.ADMIN,
        limit="admin",
        permission="apps:read",
        responses={404: {"description": "`client_not_found`"}},
    )
    async def list_initial_access_tokens(
        client_id: UUID, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> Page[InitialAccessTokenView]:
        """List what lets apps register at a client, dead ones too, the newest first."""
        now = registrations.now()
        found, following = await registrations.tokens(client_id, limit=limit, cursor=cursor)
        return Page(items=[InitialAccessTokenView.of(token, now) for token in found], next_cursor=following)

    @router.post(
        _TOKENS,
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        idempotent=True,
        status_code=201,
        responses={
            **REFUSALS,
            404: {"description": "`client_not_found`"},
            409: {"description": "`too_many_initial_access_tokens`: revoke one first."},
        },
    )
    async def create_initial_access_token(
        client_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        request: CreateInitialAccessTokenRequest | None = None,
    ) -> InitialAccessTokenCreatedView:
        """Let an app, or as many as `max_uses`, register itself at `POST /register` (RFC 7591).

        Apps that register themselves are never trusted: users are asked for consent. They get no more than
        the client's settings allow.
        """
        wanted, now = request or CreateInitialAccessTokenRequest(), registrations.now()
        new = await registrations.give_token(
            caller,
            client_id,
            name=wanted.name,
            max_uses=wanted.max_uses,
            expires_at=wanted.expires_at or now + _DEFAULT_TTL,
            step_up_token=step_up_token,
        )
        return InitialAccessTokenCreatedView(
            initial_access_token=InitialAccessTokenView.of(new.token, now), token=new.raw
        )

    @router.delete(
        _TOKENS + "/{token_id}",
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        status_code=204,
        responses={404: {"description": "`initial_access_token_not_found`"}},
    )
    async def revoke_initial_access_token(client_id: UUID, token_id: UUID, caller: Caller) -> None:
        """Revoke what lets apps register; those that did stay."""
        await registrations.revoke_token(caller, client_id, token_id)

    return router
