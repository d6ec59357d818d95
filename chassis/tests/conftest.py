"""The notes service on real servers."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from chassis.app import App
from chassis.context import HEADER, Access, CallerContext, sign_context
from chassis.ids import new_id
from chassis.internal_keys import InternalKeys
from chassis.migrations import security_statements
from chassis.probes import Probes
from chassis.provision import described, provision
from chassis.service import Service
from chassis.settings import ServiceSettings
from chassis.tests.notes import Base, note_routes
from local.servers import Servers

ROOT = "ab" * 32


@dataclass(slots=True)
class Notes:
    """The running service and how to call it."""

    service: Service
    app: App
    face: Any
    superuser_url: str

    def caller(self, client_id: UUID | None = None, **changes: Any) -> CallerContext:
        """A caller with an API key of a (new) tenant."""
        values = {
            "access": Access.API_KEY,
            "request_id": "test",
            "ip": "192.0.2.1",
            "client_id": client_id or new_id(),
        }
        return CallerContext(**{**values, **changes})

    async def call(
        self, method: str, path: str, caller: CallerContext | None, **options: Any
    ) -> httpx.Response:
        """Call the face with a signed context."""
        headers = dict(options.pop("headers", {}))
        if caller is not None:
            key = self.service.keys.key("gateway", "notes")
            headers[HEADER.decode()] = sign_context(caller, key, method, path).decode()
        transport = httpx.ASGITransport(self.face)
        async with httpx.AsyncClient(transport=transport, base_url="http://notes") as client:
            return await client.request(method, path, headers=headers, **options)

    async def sql(self, statement: str, *args: object) -> list[asyncpg.Record]:
        """Run a statement as superuser."""
        connection = await asyncpg.connect(self.superuser_url)
        try:
            return list(await connection.fetch(statement, *args))
        finally:
            await connection.close()


class NotesSettings(ServiceSettings):
    """Settings of the notes service."""

    service = "notes"


@pytest.fixture(scope="session")
def notes_settings(servers: Servers) -> NotesSettings:
    """A provisioned database with the notes tables."""
    address = servers.postgres_url.rpartition("@")[2].partition("/")[0]
    password = secrets.token_hex(8)
    urls = {
        f"NOTES_{variable}DATABASE_URL": f"postgresql://notes{role}:{password}@{address}/notes"
        for variable, role in (("", ""), ("JOBS_", "_jobs"), ("MIGRATION_", "_owner"))
    }
    provision(servers.postgres_url, described(urls))
    engine = create_engine(
        urls["NOTES_MIGRATION_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    )
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION current_client() RETURNS uuid LANGUAGE sql STABLE AS "
                "$$ SELECT nullif(current_setting('auth.client_id', true), '')::uuid $$"
            )
        )
        Base.metadata.create_all(connection)
        for statement in security_statements(Base.metadata, "notes", "notes_jobs"):
            connection.execute(text(statement))
    engine.dispose()
    return NotesSettings(
        database_url=SecretStr(urls["NOTES_DATABASE_URL"]),
        jobs_database_url=SecretStr(urls["NOTES_JOBS_DATABASE_URL"]),
        nats_url=SecretStr(servers.nats_url()),
        redis_url=SecretStr(servers.redis_url),
        master_key=SecretStr(ROOT),
        internal_keys=SecretStr(
            InternalKeys.derive(ROOT, [("gateway", "notes"), ("notes", "notes")]).render()
        ),
    )


@pytest.fixture(scope="session")
async def notes(servers: Servers, notes_settings: NotesSettings) -> AsyncIterator[Notes]:
    """The notes service, running."""
    service = Service(notes_settings)
    app = service.app(routes=[note_routes(service)], rpc=[], callers={})
    face = app.make_face(Probes(app.required, app.optional))
    async with app.started():
        yield Notes(service, app, face, f"{servers.postgres_url.rpartition('/')[0]}/notes")
