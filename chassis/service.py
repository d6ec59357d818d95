"""A service: what each of them has, and its command line (`serve | migrate | migration | openapi | rewrap`).

`app.py` of a service takes a `Service`, builds its slices on it from top to bottom, and returns
`service.app(…)`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import structlog
import uvloop
from pydantic import SecretStr
from sqlalchemy import MetaData
from starlette.types import ASGIApp

from chassis import telemetry, workers
from chassis.app import App, Job, Resource
from chassis.bus import Bus
from chassis.clock import Clock, SystemClock
from chassis.database import Database, DatabaseUnavailable
from chassis.http import Router, ServiceFace, build_api
from chassis.idempotency import Idempotency
from chassis.internal_keys import InternalKeys
from chassis.one_time import OneTimeState
from chassis.outbox import Outbox
from chassis.probes import PATHS, Probes
from chassis.ratelimit import closing_redis, connect_redis
from chassis.rewrap import FAILED, Step, rewrap
from chassis.rpc import Channel, RpcServer, RpcService, TlsFiles
from chassis.sealing import Sealer, parse_key
from chassis.settings import Environment, ServiceSettings, Settings

log = structlog.get_logger()

GATEWAY = "gateway"

S = TypeVar("S", bound=ServiceSettings)


class Service:
    """What every service has; nothing connects before the process starts."""

    def __init__(self, settings: ServiceSettings, clock: Clock | None = None) -> None:
        """Construct the parts from the settings; tests bring their own clock."""
        self.name = settings.service
        self.settings = settings
        self.clock = clock or SystemClock()
        self.keys = InternalKeys.parse(settings.internal_keys.get_secret_value())
        self.tls = read_tls(settings)
        previous = (
            settings.master_key_previous.get_secret_value().split(",") if settings.master_key_previous else []
        )
        self.sealer = Sealer(parse_key(settings.master_key.get_secret_value()), *map(parse_key, previous))
        self.db = Database(
            settings.database_url.get_secret_value(),
            settings.jobs_database_url.get_secret_value(),
            service=self.name,
            pool_size=settings.database_pool_size,
            statement_timeout=settings.database_statement_timeout.total_seconds(),
        )
        self.bus = Bus(settings.nats_url.get_secret_value(), process=self.name)
        self.redis = connect_redis(settings.redis_url.get_secret_value()) if settings.redis_url else None
        self.one_time = OneTimeState(self.redis, settings.redis_key_prefix)
        self.outbox = Outbox(self.db, self.bus, self.clock, service=self.name)
        self.idempotency = Idempotency(self.db, self.sealer)
        self._channels: list[Channel] = []

    def channel(self, callee: str, addresses: str) -> Channel:
        """Return a channel to another service; it starts and stops with the process."""
        channel = Channel(addresses, caller=self.name, callee=callee, keys=self.keys, tls=self.tls)
        self._channels.append(channel)
        return channel

    def app(
        self,
        *,
        routes: list[Router],
        rpc: list[RpcService],
        callers: Mapping[str, frozenset[str]],
        jobs: Mapping[str, Job] | None = None,
        resources: Sequence[Resource] = (),
    ) -> App:
        """Assemble the process: faces, the parts every service has, the slices' resources and jobs."""
        api = build_api(self.name, routes, self.idempotency, self.outbox)

        def make_face(probes: Probes) -> ASGIApp:
            key = self.keys.key(GATEWAY, self.name)
            return ServiceFace(
                api,
                key=key,
                probes=probes,
                probe_paths=PATHS,
                outbox=self.outbox,
                shortcuts={
                    where: shortcut for router in routes for where, shortcut in router.shortcuts.items()
                },
            )

        def make_rpc() -> RpcServer:
            return RpcServer(
                rpc,
                process=self.name,
                keys=self.keys,
                callers=callers,
                tls=self.tls,
                share_port=workers.is_worker(),
                with_reflection=self.settings.environment is Environment.DEVELOPMENT,
            )

        return App(
            name=self.name,
            settings=self.settings,
            make_face=make_face,
            make_rpc=make_rpc,
            resources=[self.db, self.bus, *closing_redis(self.redis), *self._channels, *resources],
            jobs={"relay": self.outbox.relay, "idempotency purge": self.idempotency.purge, **(jobs or {})},
            required={"database": self.db.check},
            optional={"nats": self.bus.check, **({"redis": self._ping_redis} if self.redis else {})},
            share_ports=workers.is_worker(),
            api=api,
        )

    async def _ping_redis(self) -> None:
        if self.redis is not None:
            await self.redis.ping()


SettingsIn = TypeVar("SettingsIn", bound=Settings, contravariant=True)


class Build(Protocol[SettingsIn]):
    """`build` of an `app.py`: makes the whole process from its settings; tests bring their own clock."""

    def __call__(self, settings: SettingsIn, clock: Clock | None = None) -> App:
        """Build, connecting to nothing yet."""
        ...


@dataclass(frozen=True, slots=True)
class Definition(Generic[S]):
    """A service as its `__main__.py` hands it over."""

    settings: type[S]
    build: Build[S]
    tables: MetaData
    migrations: Path
    rewraps: Sequence[Step] = ()


def read_tls(settings: Settings) -> TlsFiles | None:
    """Read the certificate, key and CA named in the settings; None without them."""
    if not (settings.internal_tls_cert and settings.internal_tls_key and settings.internal_tls_ca):
        return None
    return TlsFiles(
        settings.internal_tls_cert.read_bytes(),
        settings.internal_tls_key.read_bytes(),
        settings.internal_tls_ca.read_bytes(),
    )


def main(definition: Definition[S]) -> int:
    """Run the command named in the arguments."""
    match sys.argv[1:]:
        case ["serve"]:
            return serve(definition.settings.load(), definition.build)
        case ["migrate"]:
            return migrate_database(definition)
        case ["migration", message]:
            return _draft_migration(definition, message)
        case ["rewrap"]:
            return _rewrap(definition)
        case ["openapi"]:
            sys.stdout.write(json.dumps(contract(definition), indent=1) + "\n")
            return 0
        case _:
            name = definition.settings.service
            sys.stderr.write(
                f'usage: python -m services.{name} serve | migrate | migration "what" | openapi | rewrap\n'
            )
            return 2


SettingsT = TypeVar("SettingsT", bound=Settings)


def serve(settings: SettingsT, build: Build[SettingsT]) -> int:
    """Run the process, or `WEB_CONCURRENCY` of them on the same ports."""
    telemetry.configure_logging(settings.log_level, settings.log_format, process=settings.service)
    if workers.is_worker():
        workers.end_with_parent()
    elif settings.web_concurrency > 1:
        if not (settings.port and settings.grpc_port):
            sys.stderr.write("WEB_CONCURRENCY over 1 needs fixed ports: set PORT and GRPC_PORT.\n")
            return 2
        return workers.serve_many(settings.web_concurrency)
    telemetry.configure_tracing(settings.service)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(build(settings).run())
    except OSError as error:
        sys.stderr.write(f"{settings.service} cannot serve on {settings.host}:{settings.port}: {error}\n")
        return 1
    finally:
        telemetry.stop_tracing()
    return 0


def placeholder(settings: type[S]) -> S:
    """Return settings that connect to nothing, to build the app for its contract only."""
    url = SecretStr("postgresql://nobody@localhost/none")
    return settings(
        database_url=url,
        jobs_database_url=url,
        nats_url=SecretStr("nats://localhost"),
        master_key=SecretStr("00" * 32),
        internal_keys=SecretStr(""),
    )


def contract(definition: Definition[S]) -> dict[str, Any]:
    """Return the service's OpenAPI document."""
    api = definition.build(placeholder(definition.settings)).api
    if api is None:
        raise LookupError("the app has no HTTP API")
    return api.openapi()


def migrate_database(definition: Definition[S]) -> int:
    """Bring the service's database to the newest revision, as its owner; the exit code."""
    settings = definition.settings.load()
    telemetry.configure_logging(settings.log_level, settings.log_format, process=settings.service)
    if settings.migration_database_url is None:
        sys.stderr.write("MIGRATION_DATABASE_URL is not set: it names the owner of the tables.\n")
        return 2
    # Imported here: no process that serves needs Alembic.
    from chassis.migrations import migrate

    asyncio.run(
        migrate(
            settings.migration_database_url.get_secret_value(),
            folder=definition.migrations,
            metadata=definition.tables,
            tenant_url=settings.database_url.get_secret_value(),
            jobs_url=settings.jobs_database_url.get_secret_value(),
        )
    )
    return 0


def _rewrap(definition: Definition[S]) -> int:
    settings = definition.settings.load()
    telemetry.configure_logging(settings.log_level, settings.log_format, process=settings.service)
    service = Service(settings)

    async def run() -> int:
        await service.db.start()
        try:
            return await rewrap(service.db, service.sealer, definition.tables, definition.rewraps)
        finally:
            await service.db.stop()

    try:
        return asyncio.run(run())
    except DatabaseUnavailable:
        sys.stderr.write("The database is away. What was sealed anew stays so: run it again.\n")
        return FAILED


def _draft_migration(definition: Definition[S], message: str) -> int:
    from chassis.migrations import draft_migration

    draft_migration(
        os.environ["MIGRATION_DATABASE_URL"],
        folder=definition.migrations,
        metadata=definition.tables,
        message=message,
    )
    return 0
