"""Builds the provider, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.service import Definition, Service
from contracts.topology import RPC_CALLERS
from services.federation.config import FederationSettings
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.tables import Base


def build(settings: FederationSettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    token = service.channel("token", settings.token_grpc)
    logins = IssuerSessions(service.db, service.clock, token, settings.base_url)
    return service.app(routes=[], rpc=[], callers=RPC_CALLERS, jobs={"issuer session purge": logins.purge})


DEFINITION = Definition(
    settings=FederationSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
