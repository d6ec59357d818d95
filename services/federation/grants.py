"""The token service, as the provider calls it for what users grant to apps."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from chassis.context import CallerContext
from chassis.rpc import Channel
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from contracts.origins import origin_of
from services.federation.authorize.models import AuthorizationRequest
from services.federation.authorize.parameters import Parameters
from services.federation.issuer_sessions.models import Login

if TYPE_CHECKING:
    from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceAsyncStub


class Grants:
    """Makes codes, and ends what came of them."""

    def __init__(self, token: Channel) -> None:
        """Take the way to the token service."""
        self._stub = cast("GrantServiceAsyncStub", GrantServiceStub(cast("Any", token.for_stubs)))

    async def create_code(self, caller: CallerContext, request: AuthorizationRequest, login: Login) -> str:
        """Return the code by which an app gets what it asked for, from the user of a login.

        Raises:
            RemoteError: of kind NOT_FOUND: the login's session has ended meanwhile.
            Unavailable: the token service is away.
        """
        authorization = grants_pb2.Authorization(
            client_id=str(login.client_id),
            app_id=request.app.id,
            user_id=str(login.user_id),
            session_id=str(login.session_id),
            scopes=request.scopes,
            resources=request.resources,
            nonce=request.nonce,
            claims_json=request.claims_json,
        )
        answer = await self._stub.CreateAuthorizationCode(
            grants_pb2.CreateAuthorizationCodeRequest(
                authorization=authorization,
                redirect_uri=request.redirect_uri,
                code_challenge=request.code_challenge,
                dpop_jkt=request.dpop_jkt,
                origin=origin_of(caller),
            )
        )
        return answer.code

    async def end_grants(
        self,
        client_id: UUID,
        user_id: UUID,
        app_id: str,
        caller: CallerContext | None = None,
        *,
        granted_until: datetime | None = None,
    ) -> None:
        """End whatever a user's app holds, its unused codes too; nothing happens where it holds nothing.

        With a time, what was granted later goes on.

        Raises:
            Unavailable: the token service is away.
        """
        await self._stub.EndGrants(
            grants_pb2.EndGrantsRequest(
                client_id=str(client_id),
                user_id=str(user_id),
                app_id=app_id,
                origin=origin_of(caller) if caller else None,
                granted_until=int(granted_until.timestamp()) if granted_until else 0,
            )
        )

    async def read_id_token(self, id_token: str) -> dict[str, object] | None:
        """Return the claims of an ID token that we issued, expired or not; None for whatever is none.

        Raises:
            Unavailable: the token service is away.
        """
        answer = await self._stub.ReadIdToken(grants_pb2.ReadIdTokenRequest(id_token=id_token))
        return json.loads(answer.claims_json) if answer.valid else None

    async def authenticate_app(
        self, caller: CallerContext, authorization: str, parameters: Parameters
    ) -> str:
        """Return the id of the app that a request has proven to come from (RFC 6749 §2.3).

        Raises:
            RemoteError: `invalid_client`: it has not.
            Unavailable: the token service is away.
        """
        answer = await self._stub.AuthenticateApp(
            grants_pb2.AuthenticateAppRequest(
                authorization=authorization,
                client_id=parameters.get("client_id"),
                client_secret=parameters.get("client_secret"),
                client_assertion_type=parameters.get("client_assertion_type"),
                client_assertion=parameters.get("client_assertion"),
                resources=parameters.resources,
                origin=origin_of(caller),
            )
        )
        return answer.app_id
