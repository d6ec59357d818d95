"""Builds the provider, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.consumers import Consumer
from chassis.public_http import PublicClient
from chassis.service import Definition, Service
from contracts.apps import AppDirectory
from contracts.topology import RPC_CALLERS
from services.federation.backchannel.service import CONSUMER, SUBJECT, BackchannelLogout
from services.federation.config import FederationSettings
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.issuer_tokens import IssuerTokens
from services.federation.tables import Base


def build(settings: FederationSettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    token = service.channel("token", settings.token_grpc)
    logins = IssuerSessions(service.db, service.clock, token, settings.base_url)
    apps = AppDirectory(service.channel("orgs", settings.orgs_grpc), service.bus)
    tokens = IssuerTokens(token)

    to_apps = PublicClient(
        timeout=settings.logout_timeout.total_seconds(),
        max_answer=0,
        allow_private=settings.oidc_allow_private,
    )
    backchannel = BackchannelLogout(
        service.db, service.outbox, service.clock, apps=apps, tokens=tokens, http=to_apps
    )
    ended_logins = Consumer(
        service.bus, service.db, backchannel.on_sessions_revoked, name=CONSUMER, subject=SUBJECT
    )

    return service.app(
        routes=[],
        rpc=[],
        callers=RPC_CALLERS,
        jobs={
            "issuer session purge": logins.purge,
            "ended logins": ended_logins.run,
            "logout deliveries": backchannel.sweep,
            "logout delivery purge": backchannel.purge,
        },
        resources=[to_apps],
    )


DEFINITION = Definition(
    settings=FederationSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
