"""What the tests of token share: sessions opened as identity opens them, and a second process."""

from __future__ import annotations

import base64
import contextlib
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from jwt.types import Options

from chassis.ids import new_id
from chassis.probes import Probes
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from contracts.gen.internal.token.v1.secrets_pb2_grpc import SecretServiceStub
from contracts.gen.internal.token.v1.sessions_pb2_grpc import SessionServiceStub
from contracts.gen.internal.token.v1.verification_pb2_grpc import VerificationServiceStub
from services.token.tests.oauth_flow import Apps
from tests.harness import Answer, System, Tenant

if TYPE_CHECKING:
    from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceAsyncStub
    from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceAsyncStub
    from contracts.gen.internal.token.v1.secrets_pb2_grpc import SecretServiceAsyncStub
    from contracts.gen.internal.token.v1.sessions_pb2_grpc import SessionServiceAsyncStub
    from contracts.gen.internal.token.v1.verification_pb2_grpc import VerificationServiceAsyncStub

AT_ANY_TIME: Options = {"verify_iat": False}
"""For PyJWT, which goes by the machine's clock, and not by the one that tests move."""

MODES = ("v1_hs256", "v2_jwks", "v3_es256", "v3_eddsa")


def user_of(tenant: Tenant, **changes: Any) -> users_pb2.User:
    """A user of the tenant that identity could have made."""
    members = {
        "id": str(new_id()),
        "client_id": str(tenant.id),
        "email": f"u-{secrets.token_hex(4)}@example.com",
        "email_verified": True,
        "display_name": "Ada",
        "role": "user",
        "status": "active",
        "metadata_json": "{}",
        "created_at": 1_700_000_000_000_000,
        "updated_at": 1_700_000_000_000_000,
        "version": 1,
    }
    return users_pb2.User(**{**members, **changes})


def changed(user: users_pb2.User, **members: Any) -> users_pb2.User:
    """A copy of a user with other members."""
    copy = users_pb2.User()
    copy.CopyFrom(user)
    for name, value in members.items():
        setattr(copy, name, value)
    return copy


def claims_of(token: str) -> dict[str, Any]:
    """The claims of an access token, unverified."""
    return _part(token, 1)


def header_of(token: str) -> dict[str, Any]:
    """The header of an access token."""
    return _part(token, 0)


def _part(token: str, index: int) -> dict[str, Any]:
    part = token.split(".")[index]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return decoded


@dataclass(frozen=True, slots=True)
class Token:
    """The token service as its callers use it; `process` is 0 or 1."""

    system: System
    sessions: SessionServiceAsyncStub
    verification: VerificationServiceAsyncStub
    secrets: SecretServiceAsyncStub
    public: TokenServiceAsyncStub
    second_face: Any

    async def open(
        self, tenant: Tenant, user: users_pb2.User | None = None, **changes: Any
    ) -> sessions_pb2.OpenedSession:
        """Open a session as identity does after a password login."""
        origin = origin_pb2.Origin(ip="203.0.113.9", user_agent="pytest", request_id="r-1")
        members = {"amr": ["pwd"], "acr": "urn:authservice:acr:1fa", "origin": origin, **changes}
        request = sessions_pb2.OpenSessionRequest(
            client_id=str(tenant.id), user=user or user_of(tenant), **members
        )
        return await self.sessions.OpenSession(request)

    async def refresh(self, tenant: Tenant, token: str | None, *, process: int = 0, **options: Any) -> Answer:
        """Present a refresh token in the body, wanting the next one in the body."""
        body = {"token_transport": "json"} | ({} if token is None else {"refresh_token": token})
        return await self.post(tenant, "/api/auth/refresh", process=process, **{"json": body, **options})

    async def post(self, tenant: Tenant, path: str, *, process: int = 0, **options: Any) -> Answer:
        """POST with the tenant's API key to one of the two processes."""
        system = self.system
        if process == 1:
            system = replace(system, faces={**system.faces, "token": self.second_face})
        return await system.call("token", "POST", path, **{"caller": tenant.caller(), **options})

    async def validate(self, tenant: Tenant, access_token: str) -> token_pb2.ValidateTokenResponse:
        """Ask whether an access token is good."""
        request = token_pb2.ValidateTokenRequest(access_token=access_token, api_key=tenant.api_key)
        return await self.public.ValidateToken(request)


@pytest.fixture(scope="session")
async def second_face(system: System) -> AsyncIterator[Any]:
    """The face of a second process of the service: other pools, other caches, the same database."""
    app = system.definitions["token"].build(system.settings("token"), system.clock)
    async with app.started():
        yield app.make_face(Probes(app.required, app.optional))


@pytest.fixture(scope="session")
async def token(system: System, second_face: Any) -> AsyncIterator[Token]:
    """The service, with a channel for each kind of caller."""
    async with contextlib.AsyncExitStack() as stack:
        identity = await stack.enter_async_context(system.channel("token", caller="identity"))
        orgs = await stack.enter_async_context(system.channel("token", caller="orgs"))
        gateway = await stack.enter_async_context(system.channel("token", caller="gateway"))
        yield Token(
            system,
            SessionServiceStub(identity.for_stubs),
            VerificationServiceStub(gateway.for_stubs),
            SecretServiceStub(orgs.for_stubs),
            TokenServiceStub(gateway.for_stubs),
            second_face,
        )


@pytest.fixture(scope="session")
async def grants(system: System) -> AsyncIterator[GrantServiceAsyncStub]:
    """What federation asks."""
    async with system.channel("token", caller="federation") as channel:
        yield GrantServiceStub(channel.for_stubs)


@pytest.fixture(scope="session")
def apps(system: System, token: Token, grants: GrantServiceAsyncStub) -> Apps:
    """Makes apps."""
    return Apps(system, token, grants)
