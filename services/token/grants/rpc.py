"""gRPC face of grants, for the OpenID provider."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import (
    GrantServiceServicer,
    add_GrantServiceServicer_to_server,
)
from contracts.origins import caller_behind
from services.token.device_codes.service import INTERVAL_SECONDS, TTL, DeviceCodes
from services.token.errors import InvalidClient
from services.token.grants.models import Authorization, CodeBinding
from services.token.grants.service import GrantService, claims_json
from services.token.oauth.authentication import ClientAuthentication
from services.token.oauth.issuer_tokens import IssuerTokens
from services.token.oauth.models import AuthenticatedApp
from services.token.oauth.parameters import read_client
from services.token.sessions.models import EndReason
from services.token.sessions.service import SessionService
from services.token.signing.algorithms import Algorithm
from services.token.validation.models import Refusal


class GrantsRpc(GrantServiceServicer):
    """`internal.token.v1.GrantService`."""

    def __init__(
        self,
        grants: GrantService,
        sessions: SessionService,
        authentication: ClientAuthentication,
        issuer_tokens: IssuerTokens,
        device_codes: DeviceCodes,
        clock: Clock,
    ) -> None:
        """Take the rules."""
        self._device_codes = device_codes
        self._grants = grants
        self._sessions = sessions
        self._authentication = authentication
        self._issuer_tokens = issuer_tokens
        self._clock = clock

    async def CreateAuthorizationCode(
        self, request: grants_pb2.CreateAuthorizationCodeRequest, _context: RpcContext
    ) -> grants_pb2.CreateAuthorizationCodeResponse:
        """Keep what a user granted."""
        binding = CodeBinding(request.redirect_uri, request.code_challenge, request.dpop_jkt)
        code = await self._grants.create_code(authorization_of(request.authorization), binding)
        return grants_pb2.CreateAuthorizationCodeResponse(code=code)

    async def GetLoginSession(
        self, request: grants_pb2.GetLoginSessionRequest, _context: RpcContext
    ) -> grants_pb2.LoginSession:
        """Tell who is logged in."""
        session = await self._grants.login_session(
            parse_id(request.client_id, "client_id"), parse_id(request.session_id, "session_id")
        )
        return grants_pb2.LoginSession(
            session_id=str(session.id),
            user=session.user,
            auth_time=int(session.auth_time.timestamp()),
            amr=session.amr,
            acr=session.acr,
            expires_at=int(session.expires_at.timestamp()),
        )

    async def EndLoginSession(
        self, request: grants_pb2.EndLoginSessionRequest, _context: RpcContext
    ) -> grants_pb2.EndLoginSessionResponse:
        """Log out at the issuer."""
        client_id = parse_id(request.client_id, "client_id")
        session_id = parse_id(request.session_id, "session_id")
        caller = caller_behind(request.origin, client_id)
        ended = await self._sessions.end_session(caller, None, session_id, EndReason.LOGOUT)
        return grants_pb2.EndLoginSessionResponse(ended=ended)

    async def AuthenticateApp(
        self, request: grants_pb2.AuthenticateAppRequest, _context: RpcContext
    ) -> grants_pb2.AuthenticateAppResponse:
        """Tell which app has proven itself."""
        members = ("client_id", "client_secret", "client_assertion_type", "client_assertion")
        parameters = {name: value for name in members if (value := getattr(request, name))}
        presented = replace(
            read_client(request.authorization or None, parameters), resources=tuple(request.resources)
        )
        client = await self._authentication.authenticate(caller_behind(request.origin, None), presented)
        if not isinstance(client, AuthenticatedApp):
            raise InvalidClient
        return grants_pb2.AuthenticateAppResponse(
            client_id=str(client.app.client.id), app_id=client.app.id, method=client.method
        )

    async def CreateDeviceCode(
        self, request: grants_pb2.CreateDeviceCodeRequest, _context: RpcContext
    ) -> grants_pb2.CreateDeviceCodeResponse:
        """Keep a device's request."""
        client_id = parse_id(request.client_id, "client_id")
        new = await self._device_codes.create(
            client_id,
            request.app_id,
            " ".join(dict.fromkeys(request.scopes)),
            tuple(dict.fromkeys(request.resources)),
            caller_behind(request.origin, client_id),
        )
        return grants_pb2.CreateDeviceCodeResponse(
            device_code=new.device_code,
            user_code=new.user_code,
            expires_in=int(TTL.total_seconds()),
            interval=INTERVAL_SECONDS,
        )

    async def FindDeviceCode(
        self, request: grants_pb2.FindDeviceCodeRequest, _context: RpcContext
    ) -> grants_pb2.DeviceRequest:
        """Tell what waits under a user code."""
        found = await self._device_codes.find(request.user_code)
        return grants_pb2.DeviceRequest(
            client_id=str(found.client_id),
            app_id=found.app_id,
            scopes=found.scopes,
            resources=found.audience,
            ip=found.ip,
            user_agent=found.user_agent,
            expires_at=int(found.expires_at.timestamp()),
        )

    async def DecideDeviceCode(
        self, request: grants_pb2.DecideDeviceCodeRequest, _context: RpcContext
    ) -> grants_pb2.DecideDeviceCodeResponse:
        """Take a user's answer to a device's request."""
        is_granted = request.HasField("authorization") and request.authorization.user_id
        caller = caller_behind(request.origin, None)
        if is_granted:
            await self._device_codes.approve(
                request.user_code, authorization_of(request.authorization), caller
            )
        else:
            refused_by = parse_id(request.user_id, "user_id")
            await self._device_codes.refuse(request.user_code, refused_by, caller)
        return grants_pb2.DecideDeviceCodeResponse()

    async def VerifyOAuthToken(
        self, request: grants_pb2.VerifyOAuthTokenRequest, _context: RpcContext
    ) -> grants_pb2.VerifyOAuthTokenResponse:
        """Judge an access token."""
        verified = await self._grants.verify(request.access_token)
        if isinstance(verified, Refusal):
            return grants_pb2.VerifyOAuthTokenResponse(valid=False, error=str(verified))
        session = verified.session
        return grants_pb2.VerifyOAuthTokenResponse(
            valid=True,
            claims_json=claims_json(verified.claims),
            user=session.user if session else None,
            requested_claims_json=verified.requested_claims,
        )

    async def EndGrants(
        self, request: grants_pb2.EndGrantsRequest, _context: RpcContext
    ) -> grants_pb2.EndGrantsResponse:
        """End what a user granted to an app."""
        caller = caller_behind(request.origin, parse_id(request.client_id, "client_id"))
        user_id = parse_id(request.user_id, "user_id")
        await self._sessions.end_grants(caller, user_id, request.app_id, _time(request.granted_until))
        return grants_pb2.EndGrantsResponse()

    async def ReadIdToken(
        self, request: grants_pb2.ReadIdTokenRequest, _context: RpcContext
    ) -> grants_pb2.ReadIdTokenResponse:
        """Read an `id_token_hint`."""
        claims = await self._issuer_tokens.read_id_token(request.id_token)
        if claims is None:
            return grants_pb2.ReadIdTokenResponse(valid=False)
        return grants_pb2.ReadIdTokenResponse(valid=True, claims_json=json.dumps(claims))

    async def SignToken(
        self, request: grants_pb2.SignTokenRequest, _context: RpcContext
    ) -> grants_pb2.SignTokenResponse:
        """Sign with the issuer's key."""
        try:
            claims = json.loads(request.claims_json)
            token = await self._issuer_tokens.sign(
                request.typ, Algorithm(request.alg), claims, self._clock.now()
            )
        except ValueError as error:
            raise InvalidRequest("this cannot be signed") from error
        return grants_pb2.SignTokenResponse(token=token)


def _time(seconds: int) -> datetime | None:
    """Read a time that may be left out.

    Raises:
        InvalidRequest: it is none.
    """
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (OverflowError, ValueError, OSError) as error:
        raise InvalidRequest("a time is out of bounds") from error


def authorization_of(message: grants_pb2.Authorization) -> Authorization:
    """Read what a user granted.

    Raises:
        InvalidRequest: it is malformed.
    """
    if not message.app_id:
        raise InvalidRequest("authorization.app_id is empty")
    return Authorization(
        client_id=parse_id(message.client_id, "client_id"),
        app_id=message.app_id,
        user_id=parse_id(message.user_id, "user_id"),
        parent_id=parse_id(message.session_id, "session_id"),
        scope=" ".join(dict.fromkeys(message.scopes)),
        audience=tuple(dict.fromkeys(message.resources)),
        nonce=message.nonce,
        requested_claims=message.claims_json,
    )


def grants_rpc(servicer: GrantsRpc) -> RpcService:
    """Return the slice's gRPC service."""
    return RpcService("internal.token.v1.GrantService", servicer, add_GrantServiceServicer_to_server)
