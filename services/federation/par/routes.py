"""HTTP face of pushed authorization requests."""

from __future__ import annotations

from fastapi import Request

from chassis.context import Access
from chassis.errors import InvalidRequest
from chassis.http import KIB, Caller, Router
from chassis.models import AnswerModel
from services.federation.authorize.parameters import Parameters, read_form
from services.federation.authorize.pushed import TTL
from services.federation.authorize.routes import FORM_BODY
from services.federation.par.service import PATH, ParService


class PushedAnswer(AnswerModel):
    """What stands for the request at `/authorize`."""

    request_uri: str
    expires_in: int


def routes(par: ParService) -> Router:
    """The slice's routes."""
    router = Router(tag="OpenID Connect")

    @router.post(
        PATH,
        access=Access.OAUTH,
        limit="oauth",
        body_limit=64 * KIB,
        status_code=201,
        request_body=FORM_BODY,
        responses={
            400: {
                "description": "What `/authorize` would refuse, by the same codes; `invalid_dpop_proof`, "
                "`use_dpop_nonce`"
            },
            401: {"description": "`invalid_client`"},
        },
    )
    async def push_authorization_request(request: Request, caller: Caller) -> PushedAnswer:
        """Take an authorization request from the app itself, instead of by the browser (RFC 9126).

        The app proves who it is as at `POST /token`. The answer's `request_uri` is good once, for 90 seconds,
        at `GET /authorize` with the same `client_id`. A `DPoP` header binds the code to its key.
        """
        if request.scope["query_string"]:
            raise InvalidRequest("Send the parameters in the body, never in the URL.")
        authorization = request.headers.get("authorization", "")
        try:
            parameters = read_form(request.headers.get("content-type", ""), await request.body())
        except InvalidRequest:
            # Who has proven nothing is told that first, and not what a body should be.
            await par.authenticate(caller, authorization, Parameters.of(()))
            raise
        request_uri = await par.push(caller, authorization, request.headers.getlist("dpop"), parameters)
        return PushedAnswer(request_uri=request_uri, expires_in=int(TTL.total_seconds()))

    return router
