"""gRPC faces of validation: the public one for customers' services, and the gateways' own."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from authservice_validator import RevocationKind, VerifiedClaims
from google.protobuf.timestamp_pb2 import Timestamp

from chassis.errors import DeadlineExceeded, InvalidRequest, Unavailable
from chassis.rpc import RpcContext, RpcService, parse_id
from contracts.clients import ClientDirectory
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceServicer, add_TokenServiceServicer_to_server
from contracts.gen.internal.token.v1 import verification_pb2
from contracts.gen.internal.token.v1.verification_pb2_grpc import (
    VerificationServiceServicer,
    add_VerificationServiceServicer_to_server,
)
from contracts.token_use import ENROLLMENT
from services.token.revocations.feed import RevocationFeed
from services.token.revocations.models import Revocation
from services.token.signing.jwks import Jwks
from services.token.validation.models import Refusal, Verdict
from services.token.validation.service import ValidationService

MAX_BATCH = 1000
_ASK_EVERY_SECONDS = 1.0
_ASK_WITHIN_SECONDS = 0.5

_KINDS = {
    RevocationKind.SESSION: token_pb2.Revocation.KIND_SESSION,
    RevocationKind.USER: token_pb2.Revocation.KIND_USER,
    RevocationKind.CLIENT: token_pb2.Revocation.KIND_CLIENT,
    RevocationKind.TOKEN: token_pb2.Revocation.KIND_TOKEN,
    RevocationKind.KEY: token_pb2.Revocation.KIND_KEY,
}


class TokensRpc(TokenServiceServicer):
    """`auth.v1.TokenService`."""

    def __init__(self, validation: ValidationService, feed: RevocationFeed) -> None:
        """Take the rules."""
        self._validation = validation
        self._feed = feed

    async def ValidateToken(
        self, request: token_pb2.ValidateTokenRequest, _context: RpcContext
    ) -> token_pb2.ValidateTokenResponse:
        """Judge one token."""
        client = await self._validation.resolve_key(request.api_key)
        if client is None:
            return _answer(Refusal.INVALID_API_KEY)
        return _answer((await self._validation.validate(client, [request.access_token]))[0])

    async def ValidateTokens(
        self, request: token_pb2.ValidateTokensRequest, _context: RpcContext
    ) -> token_pb2.ValidateTokensResponse:
        """Judge up to a thousand tokens of one client."""
        if len(request.access_tokens) > MAX_BATCH:
            raise InvalidRequest(f"at most {MAX_BATCH} tokens in one call")
        if not request.access_tokens:
            # Nothing is asked, so that no look-up of a key goes without an answer that tells of it.
            return token_pb2.ValidateTokensResponse()
        client = await self._validation.resolve_key(request.api_key)
        if client is None:
            refused = [_answer(Refusal.INVALID_API_KEY) for _ in request.access_tokens]
            return token_pb2.ValidateTokensResponse(results=refused)
        verdicts = await self._validation.validate(client, request.access_tokens)
        return token_pb2.ValidateTokensResponse(results=[_answer(verdict) for verdict in verdicts])

    async def WatchRevocations(
        self, request: token_pb2.WatchRevocationsRequest, _context: RpcContext
    ) -> AsyncIterator[token_pb2.WatchRevocationsResponse]:
        """Stream the revocations of the client of a secret key, and of the issuer's keys."""
        client = await self._validation.client_of_server(request.api_key)
        ask_at = time.monotonic() + _ASK_EVERY_SECONDS
        async for revocations, is_last in self._feed.watch(client.id):
            if time.monotonic() >= ask_at:
                await self._check_key(request.api_key)
                ask_at = time.monotonic() + _ASK_EVERY_SECONDS
            yield _news(revocations, synced=is_last)

    async def _check_key(self, api_key: str) -> None:
        """Refuse a stream whose key was revoked, or whose client suspended, since it began."""
        try:
            async with asyncio.timeout(_ASK_WITHIN_SECONDS):
                await self._validation.client_of_server(api_key)
        except (TimeoutError, Unavailable, DeadlineExceeded):
            return  # what cannot be told now changes nothing


class VerificationRpc(VerificationServiceServicer):
    """`internal.token.v1.VerificationService`."""

    def __init__(
        self, validation: ValidationService, clients: ClientDirectory, jwks: Jwks, feed: RevocationFeed
    ) -> None:
        """Take the rules and the published keys."""
        self._validation = validation
        self._clients = clients
        self._jwks = jwks
        self._feed = feed

    async def GetKeys(
        self, request: verification_pb2.GetKeysRequest, _context: RpcContext
    ) -> verification_pb2.GetKeysResponse:
        """Return what a client's access tokens are verified with."""
        found = await self._jwks.of_access_tokens(parse_id(request.client_id, "client_id"))
        return verification_pb2.GetKeysResponse(jwks_json=found.body.decode())

    async def Verify(
        self, request: verification_pb2.VerifyRequest, _context: RpcContext
    ) -> verification_pb2.VerifyResponse:
        """Judge one token of a client; a suspended client's are not good."""
        client = await self._clients.get(parse_id(request.client_id, "client_id"))
        if not client.is_active:
            return verification_pb2.VerifyResponse(valid=False, error=str(Refusal.INVALID_API_KEY))
        verdict = (await self._validation.validate(client, [request.access_token]))[0]
        if isinstance(verdict, Refusal):
            return verification_pb2.VerifyResponse(valid=False, error=str(verdict))
        claims = json.dumps(dict(verdict.claims), separators=(",", ":"), default=_plain)
        return verification_pb2.VerifyResponse(valid=True, claims_json=claims)

    async def WatchRevocations(
        self, _request: verification_pb2.WatchRevocationsRequest, _context: RpcContext
    ) -> AsyncIterator[token_pb2.WatchRevocationsResponse]:
        """Stream the revocations of all clients."""
        async for revocations, is_last in self._feed.watch(None):
            yield _news(revocations, synced=is_last)


def validation_rpc(
    validation: ValidationService, clients: ClientDirectory, jwks: Jwks, feed: RevocationFeed
) -> list[RpcService]:
    """Return the slice's gRPC services."""
    return [
        RpcService("auth.v1.TokenService", TokensRpc(validation, feed), add_TokenServiceServicer_to_server),
        RpcService(
            "internal.token.v1.VerificationService",
            VerificationRpc(validation, clients, jwks, feed),
            add_VerificationServiceServicer_to_server,
        ),
    ]


def _answer(verdict: Verdict) -> token_pb2.ValidateTokenResponse:
    if not isinstance(verdict, Refusal) and verdict.token_use == ENROLLMENT:
        # Good for the set-up of a second factor here, and for nothing anywhere else.
        verdict = Refusal.INVALID_TOKEN
    if isinstance(verdict, Refusal):
        return token_pb2.ValidateTokenResponse(valid=False, error=str(verdict))
    claims: VerifiedClaims = verdict
    return token_pb2.ValidateTokenResponse(
        valid=True,
        user_id=claims.sub,
        email=claims.email or "",
        role=claims.role or "",
        email_verified=bool(claims.email_verified),
        client_id=claims.client_id,
        org_id=claims.org_id or "",
        org_slug=claims.org_slug or "",
        org_role=claims.org_role or "",
        org_permissions=claims.org_permissions,
        token_use=claims.token_use,
        scope=claims.scope or "",
        scopes=claims.scopes,
        service_account_id=claims.service_account_id or "",
        service_account_name=claims.service_account_name or "",
        cnf_jkt=str(claims.cnf.get("jkt", "")) if claims.cnf else "",
    )


def _news(revocations: list[Revocation], *, synced: bool) -> token_pb2.WatchRevocationsResponse:
    return token_pb2.WatchRevocationsResponse(
        revocations=[
            token_pb2.Revocation(
                kind=_KINDS[revocation.kind],
                id=revocation.ref,
                client_id=str(revocation.client_id),
                not_after=_timestamp(revocation.not_after),
                expires_at=_timestamp(revocation.expires_at),
            )
            for revocation in revocations
        ],
        synced=synced,
    )


def _timestamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment.astimezone(UTC))
    return stamp


def _plain(value: object) -> object:
    """Give JSON what the validator made immutable."""
    return dict(value) if hasattr(value, "keys") else list(value)  # type: ignore[call-overload]  # the two frozen kinds
