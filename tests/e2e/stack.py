"""The running system as those see it who use it: HTTP and gRPC at its gateways, and nothing of its insides.

Two doors of intruders stand beside: `sql` (who has the database), `call(base=…)` (who reaches a port inside).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import asyncpg
import grpc
import httpx

from contracts.gen.auth.v1 import token_pb2
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub
from local.servers import delete_folder
from local.service_process import ServiceProcess
from local.system import System

ORIGIN = "https://app.example.com"
PASSWORD = "violet-harbour-27-lanterns"
EVENT_SECONDS = 3.0
TOKEN_MODES = ("v1_hs256", "v2_jwks", "v3_es256", "v3_eddsa")
_POLL_SECONDS = 0.05
_PLENTY = "1000000/60"

ENVIRONMENT = {
    "BCRYPT_COST": "10",
    "OIDC_ALLOW_PRIVATE": "true",
    "ADMIN_SSO_ISSUER": "https://id.example.com",
    "ADMIN_SSO_CLIENT_ID": "admin-console",
    **{
        f"RATE_LIMIT_{name}": _PLENTY
        for name in ("DEFAULT", "LOGIN", "SIGNUP", "REFRESH", "SENSITIVE", "PUBLIC", "ADMIN", "REFUSED")
    },
}
"""Cheap hashes, apps on this machine, a provider of admins' logins, and limits that no test reaches by its
mere size; wrong admin keys stay limited."""

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]


class Caller(Protocol):
    """Someone with credentials."""

    @property
    def headers(self) -> dict[str, str]:
        """What proves it."""
        ...


@dataclass(frozen=True, slots=True)
class Admin:
    """Whoever holds the break-glass key."""

    key: str = field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The key."""
        return {"x-admin-key": self.key}


@dataclass(frozen=True, slots=True)
class Tenant:
    """A client, with the keys it was given."""

    id: str
    api_key: str
    publishable_key: str
    document: dict[str, Any]

    @property
    def headers(self) -> dict[str, str]:
        """The secret key."""
        return {"x-api-key": self.api_key}


@dataclass(frozen=True, slots=True)
class Login:
    """A user with an open session."""

    tenant: Tenant
    email: str
    user_id: str
    session_id: str
    access_token: str
    refresh_token: str

    @classmethod
    def of(cls, tenant: Tenant, answer: httpx.Response) -> Login:
        """Read an answer that opened or renewed a session; the refresh token comes from body or cookie."""
        body = answer.json()
        refresh = body.get("refresh_token") or answer.cookies.get("auth_refresh") or ""
        user = body["user"]
        return cls(tenant, user["email"], user["id"], body["session"]["id"], body["access_token"], refresh)

    @property
    def headers(self) -> dict[str, str]:
        """The client's secret key and the user's access token."""
        return {**self.tenant.headers, "authorization": f"Bearer {self.access_token}"}


class Stack:
    """A system with two of everything that must not mind, and the clients that speak to it."""

    def __init__(self, system: System, http: httpx.AsyncClient) -> None:
        """Take a running system."""
        self.system = system
        self.http = http
        self.admin = Admin(system.env["ADMIN_API_KEY"])
        self._channels: dict[str, grpc.aio.Channel] = {}

    @classmethod
    @contextlib.asynccontextmanager
    async def started(
        cls, processes: Mapping[str, int], env: Mapping[str, str] | None = None
    ) -> AsyncIterator[Stack]:
        """Start a system of its own in a new folder; stop it and delete the folder at the end."""
        folder = Path(tempfile.mkdtemp(prefix="authservice-stack-")) / "local"
        # PostgreSQL does not run as root; its user must be able to pass through to its data.
        folder.parent.chmod(0o711)
        try:
            wanted = {**ENVIRONMENT, **(env or {})}
            system = System.start(folder, processes=processes, env=wanted, with_demo=False, durable=False)
            try:
                async with _client() as http:
                    stack = cls(system, http)
                    yield stack
                    for channel in stack._channels.values():
                        await channel.close()
            finally:
                system.stop()
        finally:
            delete_folder(folder)
            folder.parent.rmdir()

    @property
    def base_url(self) -> str:
        """The public origin, which is the issuer of tokens."""
        return self.system.env["BASE_URL"]

    def processes(self, kind: str) -> list[ServiceProcess]:
        """The processes of one kind, in order."""
        return [process for process in self.system.processes.values() if process.kind == kind]

    @property
    def gateways(self) -> list[str]:
        """The HTTP addresses of the gateways."""
        return [process.url for process in self.processes("gateway")]

    async def call(
        self,
        method: str,
        path: str,
        caller: Caller | None = None,
        *,
        gateway: int = 0,
        base: str | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        **options: Any,
    ) -> httpx.Response:
        """Send one request to a gateway (or to `base`) with the caller's credentials; `headers` win."""
        sent = {**(caller.headers if caller else {}), **(headers or {})}
        url = (base or self.gateways[gateway]) + path
        return await self.http.request(method, url, json=json, headers=sent, **options)

    async def tenant(self, token_mode: str = "v3_es256", **members: Any) -> Tenant:
        """Create a client with the admin key."""
        body = {
            "name": f"Tenant {secrets.token_hex(4)}",
            "token_mode": token_mode,
            "allowed_origins": [ORIGIN],
        }
        answer = await self.call("POST", "/api/admin/clients", self.admin, json={**body, **members})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Tenant(made["client"]["id"], made["api_key"], made["publishable_key"], made["client"])

    async def sign_up(self, tenant: Tenant, email: str | None = None, **options: Any) -> Login:
        """Make a user of the client, with the password `PASSWORD`."""
        body = {
            "email": email or f"user-{secrets.token_hex(6)}@example.org",
            "password": PASSWORD,
            "display_name": "Ada",
            "token_transport": "json",
        }
        answer = await self.call("POST", "/api/auth/signup", tenant, json=body, **options)
        assert answer.status_code == 201, answer.text
        return Login.of(tenant, answer)

    async def log_in(self, user: Login, password: str = PASSWORD, **options: Any) -> Login:
        """Open another session of a user."""
        body = {"email": user.email, "password": password, "token_transport": "json"}
        answer = await self.call("POST", "/api/auth/login", user.tenant, json=body, **options)
        assert answer.status_code == 200, answer.text
        return Login.of(user.tenant, answer)

    async def refresh(self, tenant: Tenant, refresh_token: str, **options: Any) -> httpx.Response:
        """Present a refresh token in the body."""
        body = {"refresh_token": refresh_token, "token_transport": "json"}
        return await self.call("POST", "/api/auth/refresh", tenant, json=body, **options)

    async def issuer_keys(self) -> list[dict[str, str]]:
        """The issuer's own keys, which are in every public key set."""
        nobody = {"client_id": "00000000-0000-0000-0000-000000000000"}
        keys: list[dict[str, str]] = (await self.call("GET", "/.well-known/jwks.json", params=nobody)).json()[
            "keys"
        ]
        assert keys
        return keys

    async def validate(
        self, access_token: str, api_key: str, *, gateway: int = 0
    ) -> token_pb2.ValidateTokenResponse:
        """Ask `TokenService.ValidateToken` at a gateway."""
        address = self.processes("gateway")[gateway].grpc
        request = token_pb2.ValidateTokenRequest(access_token=access_token, api_key=api_key)
        stub = TokenServiceStub(self.channel(address))
        return await stub.ValidateToken(request, timeout=10)

    async def raw_rpc(self, address: str, method: str, body: bytes, metadata: Metadata = ()) -> bytes:
        """Call a method by its name with a message's bytes; grpc.aio.AioRpcError when it is refused."""
        call = cast("Any", self.channel(address).unary_unary(method))
        return bytes(await call(body, metadata=metadata, timeout=5))

    def channel(self, address: str) -> grpc.aio.Channel:
        """The one channel to an address."""
        if address not in self._channels:
            self._channels[address] = grpc.aio.insecure_channel(address)
        return self._channels[address]

    async def events(self, client_id: str, **filters: Any) -> list[dict[str, Any]]:
        """What the audit log tells an administrator of a client now, newest first."""
        parameters = {"client_id": client_id, "limit": 1000, **filters}
        answer = await self.call("GET", "/api/admin/audit-events", self.admin, params=parameters)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["items"])

    async def event(self, client_id: str, event_type: str, **filters: Any) -> dict[str, Any]:
        """Wait until the audit log shows an event of a type; answers the newest."""

        async def newest() -> dict[str, Any] | None:
            found = await self.events(client_id, event_type=event_type, **filters)
            return found[0] if found else None

        return await eventually(newest, within=EVENT_SECONDS, what=f"an event {event_type} {filters}")

    async def verify_chain(self, client_id: str) -> dict[str, Any]:
        """Have the client's audit chain verified."""
        answer = await self.call(
            "GET", "/api/admin/audit-events/chain/verify", self.admin, params={"client_id": client_id}
        )
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def sql(self, service: str, statement: str, *args: Any) -> list[asyncpg.Record]:
        """Run a statement as superuser: what an intruder in the database could do."""
        base = self.system.servers.postgres_url.rpartition("/")[0]
        connection = await asyncpg.connect(f"{base}/{service}")
        try:
            return list(await connection.fetch(statement, *args))
        finally:
            await connection.close()


def _client() -> httpx.AsyncClient:
    """A client without a cookie jar: the stack decides which cookies it sends."""
    jar = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
    return httpx.AsyncClient(cookies=jar, timeout=30, limits=limits, trust_env=False)


async def eventually(probe: Callable[[], Awaitable[T | None]], *, within: float, what: str) -> T:
    """Ask until the answer is neither None nor False; AssertionError when `within` seconds pass."""
    deadline = time.monotonic() + within
    while True:
        found = await probe()
        if found is not None and found is not False:
            return found
        assert time.monotonic() < deadline, f"not within {within} s: {what}"
        await asyncio.sleep(_POLL_SECONDS)
