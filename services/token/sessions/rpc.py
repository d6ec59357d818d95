"""gRPC face of sessions, for the services that decide who may have one."""

from __future__ import annotations

from datetime import timedelta

from chassis.context import CallerContext
from chassis.errors import InvalidRequest
from chassis.rpc import RpcContext, RpcService, parse_id
from chassis.user_agents import device_names
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.gen.internal.token.v1.sessions_pb2_grpc import (
    SessionServiceServicer,
    add_SessionServiceServicer_to_server,
)
from contracts.origins import caller_behind
from contracts.session import to_micros
from contracts.token_use import ACCESS
from services.token.sessions.models import Opening, Session
from services.token.sessions.service import SessionService

_MAX_LISTED = 1000


class SessionsRpc(SessionServiceServicer):
    """`internal.token.v1.SessionService`."""

    def __init__(self, sessions: SessionService) -> None:
        """Take the rules."""
        self._sessions = sessions

    async def OpenSession(
        self, request: sessions_pb2.OpenSessionRequest, _context: RpcContext
    ) -> sessions_pb2.OpenedSession:
        """Open a session."""
        if request.user.client_id != request.client_id:
            raise InvalidRequest("user.client_id is not client_id")
        parse_id(request.user.id, "user.id")
        caller = _caller(request.client_id, request.origin)
        return await self._sessions.open(caller, request.user, opening_of(request))

    async def RefreshSession(
        self, request: sessions_pb2.RefreshSessionRequest, _context: RpcContext
    ) -> sessions_pb2.OpenedSession:
        """Rotate a refresh token."""
        caller = _caller(request.client_id, request.origin)
        return await self._sessions.refresh(caller, request.refresh_token)

    async def EndSessionOfToken(
        self, request: sessions_pb2.EndSessionOfTokenRequest, _context: RpcContext
    ) -> sessions_pb2.EndSessionOfTokenResponse:
        """Log out."""
        await self._sessions.end_of_token(_caller(request.client_id, request.origin), request.refresh_token)
        return sessions_pb2.EndSessionOfTokenResponse()

    async def EndSessions(
        self, request: sessions_pb2.EndSessionsRequest, _context: RpcContext
    ) -> sessions_pb2.EndSessionsResponse:
        """End a user's sessions, all or all but one."""
        kept = parse_id(request.except_session_id, "except_session_id") if request.except_session_id else None
        ended = await self._sessions.end_all(
            _caller(request.client_id, request.origin),
            parse_id(request.user_id, "user_id"),
            request.reason or "ended",
            kept=kept,
        )
        return sessions_pb2.EndSessionsResponse(ended=ended)

    async def EndSession(
        self, request: sessions_pb2.EndSessionRequest, _context: RpcContext
    ) -> sessions_pb2.EndSessionResponse:
        """End one session of a user."""
        ended = await self._sessions.end_session(
            _caller(request.client_id, request.origin),
            parse_id(request.user_id, "user_id"),
            parse_id(request.session_id, "session_id"),
            request.reason or "ended",
        )
        return sessions_pb2.EndSessionResponse(ended=ended)

    async def ListSessions(
        self, request: sessions_pb2.ListSessionsRequest, _context: RpcContext
    ) -> sessions_pb2.ListSessionsResponse:
        """List a user's live sessions."""
        if not 1 <= request.limit <= _MAX_LISTED:
            raise InvalidRequest(f"limit is not within 1 and {_MAX_LISTED}")
        found = await self._sessions.list(
            parse_id(request.client_id, "client_id"),
            parse_id(request.user_id, "user_id"),
            before=parse_id(request.before, "before") if request.before else None,
            limit=request.limit,
        )
        names = await device_names(session.user_agent for session in found)
        return sessions_pb2.ListSessionsResponse(
            sessions=[_listed(session, name) for session, name in zip(found, names, strict=True)]
        )

    async def PutUser(
        self, request: sessions_pb2.PutUserRequest, _context: RpcContext
    ) -> sessions_pb2.PutUserResponse:
        """Take over a newer copy of a user."""
        parse_id(request.user.id, "user.id")
        caller = _caller(request.user.client_id, request.origin)
        await self._sessions.put_user(caller, request.user)
        return sessions_pb2.PutUserResponse()

    async def ForgetUser(
        self, request: sessions_pb2.ForgetUserRequest, _context: RpcContext
    ) -> sessions_pb2.ForgetUserResponse:
        """Erase a deleted user."""
        caller = _caller(request.client_id, request.origin)
        await self._sessions.forget_user(caller, parse_id(request.user_id, "user_id"))
        return sessions_pb2.ForgetUserResponse()


def opening_of(request: sessions_pb2.OpenSessionRequest) -> Opening:
    """Read how a session is to begin."""
    return Opening(
        amr=tuple(request.amr),
        acr=request.acr,
        token_use=request.token_use or ACCESS,
        only_for=timedelta(seconds=request.only_for) if request.only_for > 0 else None,
        act_json=request.act_json,
        has_refresh_token=not request.no_refresh_token,
    )


def sessions_rpc(sessions: SessionService) -> RpcService:
    """Return the slice's gRPC service."""
    return RpcService(
        "internal.token.v1.SessionService", SessionsRpc(sessions), add_SessionServiceServicer_to_server
    )


def _listed(session: Session, device_name: str) -> sessions_pb2.ListedSession:
    return sessions_pb2.ListedSession(
        id=str(session.id),
        created_at=to_micros(session.created_at),
        last_used_at=to_micros(session.last_used_at),
        expires_at=to_micros(session.expires_at),
        ip=session.ip,
        user_agent=session.user_agent,
        device_name=device_name,
        amr=session.amr,
        impersonator_id=session.impersonator_id or "",
    )


def _caller(client_id: str, origin: origin_pb2.Origin) -> CallerContext:
    return caller_behind(origin, parse_id(client_id, "client_id"))
