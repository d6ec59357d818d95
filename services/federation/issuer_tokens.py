"""Tokens as the provider meets them: the issuer's, signed for it or come back, and apps' access tokens."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chassis.rpc import Channel
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """An access token that is good now; `requested_claims` is its grant's `claims` parameter, or empty."""

    claims: Mapping[str, Any]
    user: users_pb2.User | None
    requested_claims: str

    @property
    def scopes(self) -> frozenset[str]:
        """What the user granted."""
        return frozenset(str(self.claims.get("scope", "")).split())


class IssuerTokens:
    """Asks the token service, which has the keys and knows what was revoked."""

    def __init__(self, token: Channel) -> None:
        """Take the way to the token service."""
        self._stub = GrantServiceStub(token.for_stubs)

    async def sign(self, typ: str, algorithm: str, claims: Mapping[str, object]) -> str:
        """Return claims signed by the issuer, with its `iss`, and an `iat` and a `jti` of their own.

        Raises:
            Unavailable: the token service is away; so of every method.
        """
        asked = grants_pb2.SignTokenRequest(typ=typ, alg=algorithm, claims_json=json.dumps(claims))
        return str((await self._stub.SignToken(asked)).token)

    async def verify_access_token(self, token: str) -> VerifiedToken | None:
        """Return an access token of any tenant, good as of now; None for anything else."""
        answer = await self._stub.VerifyOAuthToken(grants_pb2.VerifyOAuthTokenRequest(access_token=token))
        if not answer.valid:
            return None
        return VerifiedToken(
            json.loads(answer.claims_json),
            answer.user if answer.HasField("user") else None,
            answer.requested_claims_json,
        )
