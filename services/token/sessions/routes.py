"""HTTP face of sessions: refresh, logout, and the user's own sessions."""

from __future__ import annotations

import json
from typing import Annotated
from uuid import UUID

from fastapi import Cookie, Request, Response
from pydantic import Field

from chassis.context import Access, CallerContext
from chassis.geo import GeoDatabases
from chassis.http import KIB, Caller, Router, json_answer
from chassis.models import AnswerModel, RequestModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, Cursors, LimitParameter, Page
from chassis.user_agents import device_names
from contracts.session import (
    COOKIE_NAME,
    ModeParameter,
    RefreshCookie,
    SessionOpened,
    Time,
    Transport,
    TransportParameter,
    TransportRequest,
    check_cookie_origin,
    chosen_transport,
    session_answer,
)
from services.token.errors import InvalidRefreshToken
from services.token.sessions.models import Session
from services.token.sessions.service import SessionService

_MAX_TOKEN_LENGTH = 128

RefreshCookieParameter = Annotated[
    str | None, Cookie(alias=COOKIE_NAME, description="The refresh token; needs an allowed `Origin`.")
]
RefreshToken = Annotated[
    str | None,
    Field(max_length=_MAX_TOKEN_LENGTH, description="Without it, the cookie is used."),
]


class RefreshRequest(TransportRequest):
    """A refresh token, unless it is in the cookie, and where the next one goes."""

    refresh_token: RefreshToken = None


class LogoutRequest(RequestModel):
    """A refresh token, unless it is in the cookie."""

    refresh_token: RefreshToken = None


class SessionView(AnswerModel):
    """A session as its user sees it; `current` is the one that asks, `impersonated` one of the support."""

    id: UUID
    created_at: Time
    last_used_at: Time
    expires_at: Time
    ip: str
    place: str | None = Field(description="Where that is, approximately; null without a database.")
    user_agent: str
    device_name: str
    current: bool
    impersonated: bool


class SessionPage(Page[SessionView]):
    """One page of sessions; `sessions` is the same list under its older name."""

    sessions: list[SessionView]


def routes(sessions: SessionService, cookie: RefreshCookie, cursors: Cursors, geo: GeoDatabases) -> Router:
    """The slice's routes."""
    router = Router(tag="Sessions")
    _declare_tokens(router, sessions, cookie)
    _declare_own_sessions(router, sessions, cookie, cursors, geo)
    return router


def _declare_tokens(router: Router, sessions: SessionService, cookie: RefreshCookie) -> None:
    async def exchange(
        caller: CallerContext,
        request: RefreshRequest | None,
        in_cookie: str | None,
        transport: Transport,
        response: Response,
    ) -> SessionOpened:
        token = _presented(caller, request.refresh_token if request else None, in_cookie)
        if token is None:
            raise InvalidRefreshToken
        opened = await sessions.refresh(caller, token)
        if in_cookie is not None and transport is Transport.JSON:
            # What is in the cookie has just been used: sent again later, it would end the session.
            cookie.clear(response)
        return session_answer(opened, transport, cookie, response)

    async def at_hand(request: Request, body: bytes) -> Response | None:
        parsed = _read_refresh(request, body)
        if parsed is None:
            return None
        carrier = Response()
        transport = chosen_transport(parsed, None, None)
        caller, in_cookie = request.scope["caller"], request.cookies.get(COOKIE_NAME)
        return json_answer(await exchange(caller, parsed, in_cookie, transport, carrier), carrier)

    @router.post(
        "/api/auth/refresh",
        access=Access.API_KEY,
        limit="refresh",
        body_limit=16 * KIB,
        shortcut=at_hand,
        responses={
            401: {"description": "`invalid_refresh_token`: it opens nothing; log in again."},
            403: {"description": "`origin_not_allowed`: a cookie needs an allowed `Origin`."},
        },
    )
    async def refresh(
        caller: Caller,
        response: Response,
        request: RefreshRequest | None = None,
        auth_refresh: RefreshCookieParameter = None,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> SessionOpened:
        """Exchange a refresh token for a new one and a new access token.

        A refresh token is good once. Presented again within the grace (10 s unless configured), while its
        successor is unused, it gets the same successor, so that two tabs may refresh at once. Later it is
        taken for stolen: its session ends, and all tokens of that session are dead.
        """
        transport = chosen_transport(request, token_transport, session_mode)
        return await exchange(caller, request, auth_refresh, transport, response)

    @router.post(
        "/api/auth/logout",
        access=Access.API_KEY,
        limit="refresh",
        body_limit=16 * KIB,
        status_code=204,
        responses={403: {"description": "`origin_not_allowed`: a cookie needs an allowed `Origin`."}},
    )
    async def logout(
        caller: Caller,
        response: Response,
        request: LogoutRequest | None = None,
        auth_refresh: RefreshCookieParameter = None,
    ) -> None:
        """End the session of a refresh token and clear the cookie; 204 also when there is nothing to end."""
        token = _presented(caller, request.refresh_token if request else None, auth_refresh)
        if token is not None:
            await sessions.end_of_token(caller, token)
        cookie.clear(response)


def _declare_own_sessions(
    router: Router, sessions: SessionService, cookie: RefreshCookie, cursors: Cursors, geo: GeoDatabases
) -> None:
    @router.get(
        "/api/auth/sessions",
        access=Access.USER,
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list."}},
    )
    async def list_sessions(
        caller: Caller, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> SessionPage:
        """List the user's live sessions, the newest first."""
        scope = f"sessions|{caller.client_id}|{caller.user_id}"
        before = UUID(str(cursors.read(cursor, scope)[0])) if cursor else None
        found = await sessions.list(
            caller.require_client(), caller.require_user(), before=before, limit=limit + 1
        )
        shown = found[:limit]
        views = await _views(shown, caller.session_id, geo)
        following = cursors.make([str(shown[-1].id)], scope) if len(found) > limit else None
        return SessionPage(items=views, sessions=views, next_cursor=following)

    @router.delete("/api/auth/sessions", access=Access.USER, status_code=204)
    async def end_sessions(caller: Caller, response: Response) -> None:
        """End all of the user's sessions, this one too, at every gateway within a second."""
        await sessions.end_all(caller, caller.require_user(), "user_revoked")
        cookie.clear(response)

    @router.delete(
        "/api/auth/sessions/{session_id}",
        access=Access.USER,
        status_code=204,
        responses={404: {"description": "`session_not_found`: the user has no such live session."}},
    )
    async def end_session(session_id: UUID, caller: Caller) -> None:
        """End one of the user's sessions."""
        await sessions.end_one(caller, session_id)


def _read_refresh(request: Request, body: bytes) -> RefreshRequest | None:
    """Parse what is plain and without fault; FastAPI judges the rest, and words its faults."""
    if request.scope["query_string"] or request.headers.get("content-type") != "application/json":
        return None
    try:
        return RefreshRequest.model_validate(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _presented(caller: CallerContext, in_body: str | None, in_cookie: str | None) -> str | None:
    """Return the refresh token of a request; the body's wins, and then the cookie proves nothing.

    Raises:
        OriginNotAllowed: it is in the cookie, and another site may be behind the request.
    """
    if in_body is not None:
        return in_body
    if in_cookie is not None:
        check_cookie_origin(caller)
    return in_cookie


async def _views(found: list[Session], current: UUID | None, geo: GeoDatabases) -> list[SessionView]:
    names = await device_names(session.user_agent for session in found)
    return [
        SessionView(
            id=session.id,
            created_at=session.created_at,
            last_used_at=session.last_used_at,
            expires_at=session.expires_at,
            ip=session.ip,
            place=geo.place(session.ip).name,
            user_agent=session.user_agent,
            device_name=name,
            current=session.id == current,
            impersonated=session.impersonator_id is not None,
        )
        for session, name in zip(found, names, strict=True)
    ]
