"""Builds the token service, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.service import Definition, Service
from contracts.clients import ClientDirectory
from contracts.topology import RPC_CALLERS
from services.token.config import TokenSettings
from services.token.revocations.models import RevocationRow
from services.token.revocations.service import Revocations
from services.token.sessions.models import RefreshTokenRow, SessionRow, UserRow
from services.token.sessions.refresh_tokens import Successors
from services.token.sessions.rpc import sessions_rpc
from services.token.sessions.service import SessionService
from services.token.signing.access_tokens import AccessTokens
from services.token.signing.keyring import Keyring
from services.token.signing.models import JwtSecretRow, SealCheckRow, SigningKeyRow
from services.token.signing.seal_check import SealCheck
from services.token.tables import Base

TABLES = (SigningKeyRow, JwtSecretRow, SealCheckRow, SessionRow, RefreshTokenRow, UserRow, RevocationRow)


def build(settings: TokenSettings, clock: Clock | None = None) -> App:
    """Connect everything the service needs."""
    service = Service(settings, clock)
    clients = ClientDirectory(service.channel("orgs", settings.orgs_grpc), service.bus)
    seal_check = SealCheck(service.db, service.sealer)
    keyring = Keyring(service.db, service.sealer, service.bus, service.clock, seal_check)
    access_tokens = AccessTokens(settings.base_url, settings.jwt_access_ttl)
    revocations = Revocations(service.bus, settings.jwt_access_ttl)
    sessions = SessionService(
        service.db,
        service.outbox,
        service.clock,
        clients,
        keyring,
        access_tokens,
        Successors(service.sealer),
        revocations,
        settings,
    )
    return service.app(routes=[], rpc=[sessions_rpc(sessions)], callers=RPC_CALLERS, resources=[seal_check])


DEFINITION = Definition(
    settings=TokenSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
