"""The services in one event loop, on real servers, called through their real faces.

A test makes its own tenant, so nothing is cleaned between tests. Requests carry a context signed as the
gateway signs it; RPCs and events go over real sockets.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import secrets
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import asyncpg
import httpx
import nats
from pydantic import SecretStr
from redis.asyncio import Redis

from chassis.app import App
from chassis.context import ALL, HEADER, Access, CallerContext, KeyKind, sign_context
from chassis.database import Database
from chassis.events import Event
from chassis.ids import new_id
from chassis.internal_keys import InternalKeys
from chassis.migrations import migrate
from chassis.probes import Probes
from chassis.provision import described, provision
from chassis.rpc import Channel
from chassis.service import Definition
from contracts.admin_roles import PERMISSIONS
from contracts.topology import CALLS, SERVICES, pairs_of
from local.servers import Servers

EVENT_SECONDS = 10.0
MAIL_SECONDS = 10.0
BASE_URL = "http://localhost:8080"
ORIGIN = "https://app.example.com"


class AdjustableClock:
    """The machine's clock plus an offset that a test moves."""

    def __init__(self) -> None:
        """Start at the machine's time."""
        self.offset = timedelta(0)

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC) + self.offset

    @contextlib.contextmanager
    def advanced(self, by: timedelta) -> Iterator[None]:
        """Move the clock for a while."""
        self.offset += by
        try:
            yield
        finally:
            self.offset -= by


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of a problem document."""
        return str(self.json["code"])


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail that reached the inbox of development."""

    kind: str
    recipient: str
    sender: str
    subject: str
    text: str
    html: str

    @property
    def link(self) -> str:
        """The one link of its text."""
        (link,) = re.findall(r"https?://\S+", self.text)
        return str(link)

    @property
    def token(self) -> str:
        """The token in the link, in the query or behind the `#`."""
        parts = urlsplit(self.link)
        return parse_qs(parts.query or parts.fragment)["token"][0]


@dataclass(frozen=True, slots=True)
class Tenant:
    """A client made for one test."""

    id: UUID
    api_key: str
    publishable_key: str
    document: dict[str, Any]

    def caller(self, **changes: Any) -> CallerContext:
        """A caller with the secret API key."""
        context = CallerContext(
            access=Access.API_KEY,
            request_id=f"test-{secrets.token_hex(4)}",
            ip="203.0.113.7",
            user_agent="pytest",
            origin=ORIGIN,
            client_id=self.id,
            key_id=str(new_id()),
            key_kind=KeyKind.SECRET,
        )
        return replace(context, **changes)

    def user_caller(self, user_id: UUID | str, session_id: UUID | str, **changes: Any) -> CallerContext:
        """A caller with an access token of this tenant."""
        ids = {"user_id": UUID(str(user_id)), "session_id": UUID(str(session_id))}
        return self.caller(access=Access.USER, role="user", **ids, **changes)


@dataclass(slots=True)
class System:
    """The running services."""

    servers: Servers
    clock: AdjustableClock
    root_key: str
    spare_key: str
    definitions: dict[str, Definition[Any]]
    environment: dict[str, str]
    ports: dict[str, int]
    apps: dict[str, App] = field(default_factory=dict)
    faces: dict[str, Any] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    @contextlib.asynccontextmanager
    async def started(cls, servers: Servers) -> AsyncIterator[System]:
        """Provision, migrate and start every service."""
        definitions = {name: import_module(f"services.{name}.app").DEFINITION for name in SERVICES}
        system = cls(
            servers=servers,
            clock=AdjustableClock(),
            root_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            spare_key=base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            definitions=definitions,
            environment=_database_urls(servers.postgres_url),
            ports={name: _free_port() for name in SERVICES},
        )
        await asyncio.to_thread(provision, servers.postgres_url, described(system.environment))
        for name in definitions:
            # One after the other: Alembic's environment is global to a process.
            await system.migrate(name)
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(system._listening())
            for name in definitions:
                await stack.enter_async_context(system._running(name))
            yield system

    async def migrate(self, name: str) -> None:
        """Run the service's migrations."""
        prefix, definition = name.upper(), self.definitions[name]
        await migrate(
            self.environment[f"{prefix}_MIGRATION_DATABASE_URL"],
            folder=definition.migrations,
            metadata=definition.tables,
            tenant_url=self.environment[f"{prefix}_DATABASE_URL"],
            jobs_url=self.environment[f"{prefix}_JOBS_DATABASE_URL"],
        )

    def settings(self, name: str, **changes: Any) -> Any:
        """Return the settings of a service in this system; `changes` win."""
        prefix = name.upper()
        values: dict[str, Any] = {
            "database_url": SecretStr(self.environment[f"{prefix}_DATABASE_URL"]),
            "jobs_database_url": SecretStr(self.environment[f"{prefix}_JOBS_DATABASE_URL"]),
            "nats_url": SecretStr(self.servers.nats_url(name)),
            "redis_url": SecretStr(self.servers.redis_url),
            "master_key": SecretStr(self.root_key),
            # Opened with and not used: what a test seals anew under it, the running processes can read.
            "master_key_previous": SecretStr(self.spare_key),
            "internal_keys": SecretStr(InternalKeys.derive(self.root_key, pairs_of(name)).render()),
            "base_url": BASE_URL,
            "grpc_port": self.ports[name],
        }
        values |= {f"{callee}_grpc": f"127.0.0.1:{self.ports[callee]}" for callee in CALLS[name]}
        if name == "identity":
            values |= {"bcrypt_cost": 10, "hash_niceness": 0, "admin_token_secret": self.admin_token_secret}
        if name in ("orgs", "federation"):
            values["oidc_allow_private"] = True
        return self.definitions[name].settings(**{**values, **changes})

    @property
    def admin_token_secret(self) -> SecretStr:
        """What signs admin tokens."""
        return SecretStr(f"admin-tokens-{self.root_key}")

    @contextlib.asynccontextmanager
    async def _running(self, name: str) -> AsyncIterator[None]:
        app = self.definitions[name].build(self.settings(name), self.clock)
        self.apps[name] = app
        self.faces[name] = app.make_face(Probes(app.required, app.optional))
        async with app.started():
            assert app.make_rpc is not None
            server = app.make_rpc()
            await server.start(f"127.0.0.1:{self.ports[name]}")
            try:
                yield
            finally:
                await server.stop(0)

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        client = await nats.connect(self.servers.nats_url("admin"))

        async def hear(message: Any) -> None:
            self.events.append(Event.decode(message.data))
            self._news.set()

        await client.subscribe("events.>", cb=hear)
        yield
        await client.close()

    async def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        caller: CallerContext | None = None,
        json: Any = None,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
        cookies: dict[str, str] | None = None,
    ) -> Answer:
        """Call a service's face as the gateway does; without a caller, as someone who reached the port."""
        sent = dict(headers or {})
        if caller is not None:
            url = httpx.URL(f"http://service{path}")
            key = InternalKeys.derive(self.root_key, pairs_of("gateway")).key("gateway", service)
            sent[HEADER.decode()] = sign_context(caller, key, method, url.raw_path.decode()).decode()
        if cookies:
            sent["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        transport = httpx.ASGITransport(self.faces[service])
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            # In a task of its own, as a server does: the request's deadline must not become the test's.
            answer = await asyncio.create_task(
                client.request(method, path, json=json, headers=sent, content=content)
            )
        return Answer(answer.status_code, answer.headers, answer.content)

    def admin(self, **changes: Any) -> CallerContext:
        """A caller with the break-glass key; with an `admin_id`, an owner unless told otherwise."""
        context = CallerContext(
            access=Access.ADMIN,
            request_id=f"test-{secrets.token_hex(4)}",
            ip="203.0.113.1",
            user_agent="pytest",
            admin_permissions=tuple(PERMISSIONS),
            admin_scopes=(ALL,),
        )
        return replace(context, **changes)

    async def tenant(self, token_mode: str = "v3_es256", **members: Any) -> Tenant:
        """Create a client through the admin route of orgs."""
        body = {
            "name": f"Tenant {secrets.token_hex(4)}",
            "token_mode": token_mode,
            "allowed_origins": [ORIGIN],
        }
        answer = await self.call(
            "orgs", "POST", "/api/admin/clients", caller=self.admin(), json={**body, **members}
        )
        assert answer.status == 201, answer.body
        made = answer.json
        return Tenant(UUID(made["client"]["id"]), made["api_key"], made["publishable_key"], made["client"])

    async def app(self, tenant: Tenant, **members: Any) -> tuple[str, str]:
        """Create an OAuth app of a tenant through the admin route; its id and its secret, "" without one."""
        body = {"name": "App", "redirect_uris": ["https://app.example.com/callback"], **members}
        path = f"/api/admin/clients/{tenant.id}/apps"
        answer = await self.call("orgs", "POST", path, caller=self.admin(), json=body)
        assert answer.status == 201, answer.body
        return answer.json["app"]["id"], answer.json["client_secret"] or ""

    async def event(
        self,
        event_type: str,
        *,
        client_id: UUID | None,
        target_id: str | None = None,
        after: int = 0,
        **data: Any,
    ) -> Event:
        """Wait for an event of a type and tenant, and of a target perhaps; `data` members must match.

        `after` skips as many.
        """
        deadline = asyncio.get_running_loop().time() + EVENT_SECONDS
        while True:
            found = [
                event
                for event in self.events
                if event.type == event_type
                and event.client_id == client_id
                and target_id in (None, event.target_id)
                and all(event.data.get(name) == value for name, value in data.items())
            ]
            if len(found) > after:
                return found[after]
            self._news.clear()
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                seen = sorted({event.type for event in self.events if event.client_id == client_id})
                raise AssertionError(f"no event {event_type} {data}; seen: {seen}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), left)

    async def mails(self, email: str, kind: str | None = None, *, count: int = 1) -> list[Mail]:
        """Wait until `count` mails to an address, of a kind perhaps, are in the inbox; the oldest first.

        With `count=0` whatever is there now is returned.
        """
        deadline = asyncio.get_running_loop().time() + MAIL_SECONDS
        while True:
            rows = await self.sql(
                "identity",
                """
                SELECT kind, recipient, sender, subject, text, html FROM local_inbox
                WHERE recipient = $1 AND ($2::text IS NULL OR kind = $2) ORDER BY created_at, id
                """,
                email,
                kind,
            )
            if len(rows) >= count:
                return [Mail(**row) for row in rows]
            assert asyncio.get_running_loop().time() < deadline, f"{len(rows)} mails {kind} to {email}"
            await asyncio.sleep(0.05)

    async def mail_requests_done(self, client_id: UUID) -> None:
        """Wait until every request for mail at a client was looked at."""
        async with asyncio.timeout(MAIL_SECONDS):
            while await self.sql("identity", "SELECT 1 FROM mail_requests WHERE client_id = $1", client_id):
                await asyncio.sleep(0.05)

    async def redis_flush(self) -> None:
        """Lose everything that Redis has."""
        async with Redis.from_url(self.servers.redis_url) as redis:
            await redis.flushall()

    @contextlib.asynccontextmanager
    async def channel(self, callee: str, *, caller: str, port: int | None = None) -> AsyncIterator[Channel]:
        """A gRPC channel to a service in another's name; `port` is of another process of it."""
        keys = InternalKeys.derive(self.root_key, [(caller, callee)])
        address = f"127.0.0.1:{port or self.ports[callee]}"
        channel = Channel(address, caller=caller, callee=callee, keys=keys)
        await channel.start()
        try:
            yield channel
        finally:
            await channel.stop()

    @contextlib.asynccontextmanager
    async def db(self, service: str) -> AsyncIterator[Database]:
        """The service's database, as the service itself sees it."""
        prefix = service.upper()
        urls = (self.environment[f"{prefix}_DATABASE_URL"], self.environment[f"{prefix}_JOBS_DATABASE_URL"])
        database = Database(*urls, service=f"test-{service}", pool_size=4, statement_timeout=5)
        await database.start()
        try:
            yield database
        finally:
            await database.stop()

    async def sql(self, service: str, statement: str, *args: Any) -> list[asyncpg.Record]:
        """Run a statement as superuser: what an attacker with the database could do."""
        base, _, _ = self.servers.postgres_url.rpartition("/")
        connection = await asyncpg.connect(f"{base}/{service}")
        try:
            return list(await connection.fetch(statement, *args))
        finally:
            await connection.close()


def _database_urls(admin_url: str) -> dict[str, str]:
    """Name three roles and a database for each service on the given server."""
    address = admin_url.rpartition("@")[2].partition("/")[0]
    urls = {}
    for service in SERVICES:
        for variable, role in (
            ("", service),
            ("JOBS_", f"{service}_jobs"),
            ("MIGRATION_", f"{service}_owner"),
        ):
            password = secrets.token_urlsafe(12)
            urls[f"{service.upper()}_{variable}DATABASE_URL"] = (
                f"postgresql://{role}:{password}@{address}/{service}"
            )
    return urls


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
