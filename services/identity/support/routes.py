"""HTTP face of support."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import Field, StringConstraints

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, Cursors, LimitParameter, Page
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.session import SessionRef, Time, UserView, from_micros, user_view
from contracts.step_up import REFUSALS
from services.identity.account.service import AccountService
from services.identity.support.models import Search, UserChange, UserDetails
from services.identity.support.service import SupportService
from services.identity.users.encoding import encode_user
from services.identity.users.fields import DisplayName, Locale, Metadata, Phone, Role, metadata_json
from services.identity.users.models import UserStatus

_MIN_IMPERSONATION = 60
_MAX_IMPERSONATION = 3600

SearchParameter = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=320,
        pattern=r"^[^\x00]+$",
        description="The beginning of an address or of a display name, or an id.",
    ),
]
StatusParameter = Annotated[UserStatus | None, Query(description="Only users with this status.")]

_NO_USER: dict[int | str, dict[str, Any]] = {404: {"description": "`user_not_found`"}}
_NOT_SPREAD: dict[int | str, dict[str, Any]] = {
    503: {"description": "`change_not_spread`: changed; sessions and tokens follow shortly"}
}


class SupportUserView(UserView):
    """A user as support sees it; nothing secret."""

    has_password: bool
    factors: list[str] = Field(description="Second factors that the user could show now.")
    locked_until: Time | None = Field(
        None, description="End of the last lock of the address or of the second factors, while one holds."
    )

    @classmethod
    def of(cls, details: UserDetails) -> SupportUserView:
        """Show a user."""
        view = user_view(encode_user(details.user))
        return cls(
            **dict(view),
            has_password=details.has_password,
            factors=list(details.factors),
            locked_until=details.locked_until,
        )


class UserChangeRequest(RequestModel):
    """The fields to change; those left out stay, `locale` and `phone` may be null."""

    status: UserStatus | None = None
    email_verified: bool | None = None
    role: Role | None = None
    display_name: DisplayName | None = None
    metadata: Metadata | None = None
    locale: Locale | None = None
    phone: Phone | None = None

    def change(self) -> UserChange:
        """The change; null means "leave it" where null cannot be stored."""
        nullable = {"locale", "phone"}
        named = {
            name for name in self.model_fields_set if name in nullable or getattr(self, name) is not None
        }
        return UserChange(
            fields=frozenset(named),
            status=self.status,
            email_verified=self.email_verified,
            role=self.role,
            display_name=self.display_name,
            metadata_json=metadata_json(self.metadata) if self.metadata is not None else None,
            locale=self.locale,
            phone=self.phone,
        )


class SupportSessionView(AnswerModel):
    """A session of a user; `impersonator_id` names the admin who acts in it, if one does."""

    id: UUID
    created_at: Time
    last_used_at: Time
    expires_at: Time
    ip: str
    user_agent: str
    device_name: str
    amr: list[str]
    impersonator_id: str | None

    @classmethod
    def of(cls, session: sessions_pb2.ListedSession) -> SupportSessionView:
        """Show a session."""
        return cls(
            id=UUID(session.id),
            created_at=from_micros(session.created_at),
            last_used_at=from_micros(session.last_used_at),
            expires_at=from_micros(session.expires_at),
            ip=session.ip,
            user_agent=session.user_agent,
            device_name=session.device_name,
            amr=list(session.amr),
            impersonator_id=session.impersonator_id or None,
        )


class SessionsRevoked(AnswerModel):
    """How many sessions ended."""

    revoked_sessions: int


class ImpersonateRequest(RequestModel):
    """Why, for the audit log, and for how long; an access token's life is the most."""

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]
    duration_seconds: int = Field(900, ge=_MIN_IMPERSONATION, le=_MAX_IMPERSONATION)


class ActorView(AnswerModel):
    """The `act` claim: who acts (RFC 8693 §4.1)."""

    sub: str


class ImpersonationOpened(AnswerModel):
    """A session in the user's name; there is no refresh token."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = Field(description="Seconds until the token and the session are over.")
    user: UserView
    session: SessionRef
    act: ActorView


def routes(support: SupportService, accounts: AccountService, cursors: Cursors) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: users")
    _declare_users(router, support, accounts)
    _declare_sessions(router, support, cursors)
    return router


def _declare_users(router: Router, support: SupportService, accounts: AccountService) -> None:
    @router.get(
        "/api/admin/clients/{client_id}/users",
        access=Access.ADMIN,
        permission="users:read",
        limit="admin",
        responses={
            400: {"description": "`invalid_cursor`: not a cursor of this list with these filters"},
            404: {"description": "`client_not_found`"},
        },
    )
    async def list_users(
        client_id: UUID,
        q: SearchParameter = None,
        status: StatusParameter = None,
        limit: LimitParameter = DEFAULT_LIMIT,
        cursor: CursorParameter = None,
    ) -> Page[UserView]:
        """List a client's users, the newest first; `q` finds by beginning of address or name, or by id."""
        found, following = await support.page(client_id, Search(q, status), limit=limit, cursor=cursor)
        return Page(items=[user_view(encode_user(user)) for user in found], next_cursor=following)

    @router.get(
        "/api/admin/clients/{client_id}/users/{user_id}",
        access=Access.ADMIN,
        permission="users:read",
        limit="admin",
        responses=_NO_USER,
    )
    async def get_user(client_id: UUID, user_id: UUID) -> SupportUserView:
        """Answer a user: the profile, which factors there are, and whether the address is locked."""
        return SupportUserView.of(await support.get(client_id, user_id))

    @router.patch(
        "/api/admin/clients/{client_id}/users/{user_id}",
        access=Access.ADMIN,
        permission="users:write",
        limit="admin",
        responses={
            **_NO_USER,
            422: {"description": "`validation_failed`: a field breaks its rule, or none is named"},
            **_NOT_SPREAD,
        },
    )
    async def update_user(
        client_id: UUID, user_id: UUID, body: UserChangeRequest, caller: Caller
    ) -> SupportUserView:
        """Change a user: suspend and let in again, mark the address as verified, role and profile.

        A suspended user's sessions have ended and its tokens are dead when this answers; what waits for a
        second factor or behind a link is void. Members that are not listed, such as `id` or `email`, are
        ignored.
        """
        return SupportUserView.of(await support.change(caller, client_id, user_id, body.change()))

    @router.delete(
        "/api/admin/clients/{client_id}/users/{user_id}",
        access=Access.ADMIN,
        permission="users:write",
        limit="admin",
        status_code=204,
        responses={**_NO_USER, **_NOT_SPREAD, **REFUSALS},
    )
    async def delete_user(client_id: UUID, user_id: UUID, caller: Caller, step_up_token: StepUpToken) -> None:
        """Delete a user for ever, suspended or not: data, factors and sessions. Needs a step-up.

        The address may sign up again; it gets another id, and nothing of what was deleted.
        """
        await accounts.delete_of(caller, client_id, user_id, step_up_token)

    @router.post(
        "/api/admin/clients/{client_id}/users/{user_id}/unlock",
        access=Access.ADMIN,
        permission="users:write",
        limit="admin",
        responses=_NO_USER,
    )
    async def unlock_user(client_id: UUID, user_id: UUID, caller: Caller) -> SupportUserView:
        """Take back the locks that failed attempts put on the user's address, from wherever they came."""
        return SupportUserView.of(await support.unlock(caller, client_id, user_id))

    @router.post(
        "/api/admin/clients/{client_id}/users/{user_id}/reset-mfa",
        access=Access.ADMIN,
        permission="users:write",
        limit="admin",
        responses={**_NO_USER, **_NOT_SPREAD, **REFUSALS},
    )
    async def reset_user_mfa(
        client_id: UUID, user_id: UUID, caller: Caller, step_up_token: StepUpToken
    ) -> SupportUserView:
        """Remove the authenticator app, the recovery codes and the passkeys of a user who has lost them.

        Its sessions end, and no device is trusted any more. Be sure who asks: the next login needs the
        password only, unless the client demands a second factor, which is then set up anew.
        """
        details = await support.reset_factors(caller, client_id, user_id, step_up_token=step_up_token)
        return SupportUserView.of(details)


def _declare_sessions(router: Router, support: SupportService, cursors: Cursors) -> None:
    @router.get(
        "/api/admin/clients/{client_id}/users/{user_id}/sessions",
        access=Access.ADMIN,
        permission="users:read",
        limit="admin",
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list"}, **_NO_USER},
    )
    async def list_user_sessions(
        client_id: UUID,
        user_id: UUID,
        limit: LimitParameter = DEFAULT_LIMIT,
        cursor: CursorParameter = None,
    ) -> Page[SupportSessionView]:
        """List a user's live sessions, the newest first."""
        scope = f"user-sessions|{client_id}|{user_id}"
        before = UUID(str(cursors.read(cursor, scope)[0])) if cursor else None
        found = await support.sessions(client_id, user_id, limit=limit, before=before)
        following = cursors.make([str(found.following)], scope) if found.following else None
        return Page(
            items=[SupportSessionView.of(session) for session in found.sessions], next_cursor=following
        )

    @router.post(
        "/api/admin/clients/{client_id}/users/{user_id}/revoke-sessions",
        access=Access.ADMIN,
        permission="users:write",
        limit="admin",
        responses={**_NO_USER, **_NOT_SPREAD},
    )
    async def revoke_user_sessions(client_id: UUID, user_id: UUID, caller: Caller) -> SessionsRevoked:
        """End all of a user's sessions, and void logins and links that wait."""
        return SessionsRevoked(revoked_sessions=await support.end_sessions(caller, client_id, user_id))

    @router.post(
        "/api/admin/clients/{client_id}/users/{user_id}/impersonate",
        access=Access.ADMIN,
        permission="users:impersonate",
        limit="admin",
        body_limit=4 * KIB,
        responses={
            **_NO_USER,
            409: {"description": "`user_not_active`: the user or its client is suspended"},
            **REFUSALS,
        },
    )
    async def impersonate_user(
        client_id: UUID, user_id: UUID, body: ImpersonateRequest, caller: Caller, step_up_token: StepUpToken
    ) -> ImpersonationOpened:
        """Open a session in a user's name, for an hour at most and never renewed.

        Its token says who acts in the claim `act`, for which a page should show a banner. It opens what only
        reads, and little else: password, address, factors and the account itself are for the user alone
        (403 `impersonation_refused`). Everything done with it is on record with the admin's id.
        """
        acted = await support.impersonate(
            caller,
            client_id,
            user_id,
            reason=body.reason,
            ttl=timedelta(seconds=body.duration_seconds),
            step_up_token=step_up_token,
        )
        opened = acted.opened
        return ImpersonationOpened(
            access_token=opened.access_token,
            expires_in=opened.expires_in,
            user=user_view(opened.user),
            session=SessionRef(id=UUID(opened.session_id)),
            act=ActorView(sub=acted.actor_id),
        )
