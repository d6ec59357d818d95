"""HTTP face of exchange codes."""

from __future__ import annotations

from fastapi import Response
from pydantic import Field, TypeAdapter

from chassis.context import Access
from chassis.http import KIB, Caller, Router
from contracts.session import (
    EnrollmentRequired,
    MfaRequired,
    ModeParameter,
    RefreshCookie,
    SessionOpened,
    TransportParameter,
    TransportRequest,
    chosen_transport,
    session_answer,
)
from services.token.exchange.service import ExchangeService

_WAITING: TypeAdapter[MfaRequired | EnrollmentRequired] = TypeAdapter(MfaRequired | EnrollmentRequired)


class ExchangeRequest(TransportRequest):
    """The `auth_code` of a redirect, and where the refresh token goes."""

    code: str = Field(min_length=1, max_length=128)


def routes(exchange: ExchangeService, cookie: RefreshCookie) -> Router:
    """The slice's routes."""
    router = Router(tag="Sessions")

    @router.post(
        "/api/auth/redirect/exchange",
        access=Access.API_KEY,
        limit="login",
        body_limit=4 * KIB,
        responses={400: {"description": "`invalid_code`: unknown, used, older than a minute, or another's"}},
    )
    async def exchange_code(
        body: ExchangeRequest,
        caller: Caller,
        response: Response,
        token_transport: TransportParameter = None,
        session_mode: ModeParameter = None,
    ) -> SessionOpened | MfaRequired | EnrollmentRequired:
        """Exchange the `auth_code` of a redirect for what the login came to.

        A code is good once, for 60 seconds, with a key of the client it was made for. The answer is that of
        a login: a session, or what is still in the way of one.
        """
        outcome = await exchange.exchange(caller, body.code)
        if outcome.HasField("session"):
            transport = chosen_transport(body, token_transport, session_mode)
            return session_answer(outcome.session, transport, cookie, response)
        return _WAITING.validate_json(outcome.answer_json)

    return router
