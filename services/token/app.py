"""Builds the token service, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.consumers import Consumer
from chassis.events import Event
from chassis.geo import GeoDatabases
from chassis.last_used import LastUsed
from chassis.paging import Cursors
from chassis.service import Definition, Service
from contracts.apps import AppDirectory
from contracts.clients import ClientDirectory
from contracts.dpop import DpopNonces, DpopProofs
from contracts.session import RefreshCookie
from contracts.step_up import RemoteStepUpGuard
from contracts.topology import RPC_CALLERS
from services.token.config import TokenSettings
from services.token.device_codes.service import DeviceCodes
from services.token.exchange.routes import routes as exchange_routes
from services.token.exchange.rpc import exchange_rpc
from services.token.exchange.service import ExchangeService
from services.token.grants.codes import CodeRedemption
from services.token.grants.ended_apps import EndedApps
from services.token.grants.handlers import GrantHandlers
from services.token.grants.refreshing import GrantRefreshing
from services.token.grants.routes import routes as grant_routes
from services.token.grants.rpc import GrantsRpc, grants_rpc
from services.token.grants.service import GrantService
from services.token.grants.tokens import GrantTokens
from services.token.oauth.assertions import Assertions
from services.token.oauth.authentication import ClientAuthentication
from services.token.oauth.documents import DocumentTenants
from services.token.oauth.introspection import Introspection
from services.token.oauth.issuer_tokens import IssuerTokens
from services.token.oauth.machine_tokens import MachineTokens
from services.token.oauth.proofs import TokenProofs, used_once
from services.token.oauth.revocation import TokenRevocation
from services.token.oauth.routes import routes as oauth_routes
from services.token.revocations.feed import RevocationFeed
from services.token.revocations.routes import routes as revocation_routes
from services.token.revocations.service import Revocations
from services.token.revocations.suspensions import Suspensions
from services.token.revocations.sweeps import StatusSweeps
from services.token.revocations.tenants import TenantTokens
from services.token.service_accounts import store as account_store
from services.token.service_accounts.directory import ServiceAccountDirectory
from services.token.service_accounts.routes import routes as account_routes
from services.token.service_accounts.service import ServiceAccountService
from services.token.sessions.pruning import Pruning
from services.token.sessions.refresh_tokens import Successors
from services.token.sessions.routes import routes as session_routes
from services.token.sessions.rpc import sessions_rpc
from services.token.sessions.service import SessionService
from services.token.signing.access_tokens import AccessTokens
from services.token.signing.client_secrets import ClientSecrets
from services.token.signing.jwks import Jwks
from services.token.signing.keyring import Keyring
from services.token.signing.routes import routes as signing_routes
from services.token.signing.rpc import secrets_rpc
from services.token.signing.schedule import RotationSchedule
from services.token.signing.seal_check import SealCheck
from services.token.signing.service import SigningService
from services.token.signing.stages import KeyStages
from services.token.status_lists.bits import StatusBits
from services.token.status_lists.routes import routes as status_list_routes
from services.token.status_lists.service import StatusLists
from services.token.tables import Base
from services.token.token_exchange.service import TokenExchange
from services.token.validation.keys import public_keys, secrets
from services.token.validation.rpc import validation_rpc
from services.token.validation.service import ValidationService
from services.token.validation.standing import Standing


def build(settings: TokenSettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    db, bus = service.db, service.bus
    orgs = service.channel("orgs", settings.orgs_grpc)
    clients, apps = ClientDirectory(orgs, bus), AppDirectory(orgs, bus)

    revocations = Revocations(db, bus, service.clock, settings.jwt_access_ttl)
    bits = StatusBits()
    feed = RevocationFeed(db, bus, service.clock, bits)

    seal_check = SealCheck(db, service.sealer)
    keyring = Keyring(db, service.sealer, bus, service.clock, seal_check)
    feed.on_key(keyring.drop)
    jwks = Jwks(db, bus, service.clock, clients, keyring, max_clients=settings.jwks_max_clients)
    guard = RemoteStepUpGuard(service.channel("identity", settings.identity_grpc))
    stages = KeyStages(
        db,
        service.outbox,
        bus,
        service.clock,
        service.sealer,
        keyring,
        revocations,
        access_ttl=settings.jwt_access_ttl,
        # An ID token may be shown as a hint for as long as its session lives.
        issuer_ttl=max(settings.jwt_access_ttl, settings.session_absolute_ttl),
    )
    signing = SigningService(
        db,
        service.outbox,
        bus,
        service.clock,
        clients=clients,
        keyring=keyring,
        stages=stages,
        revocations=revocations,
        guard=guard,
        period=settings.signing_key_rotation,
    )
    schedule = RotationSchedule(db, service.clock, clients, stages, settings.signing_key_rotation)

    async def on_clients_created(created: Sequence[Event]) -> None:
        await signing.on_clients_created(created)
        await schedule.on_clients_changed(created)

    new_clients = Consumer(
        bus, db, on_clients_created, name="token-new-clients", subject="events.orgs.client_created"
    )
    key_periods = Consumer(
        bus, db, schedule.on_clients_changed, name="token-key-periods", subject="events.orgs.client_updated"
    )
    suspensions = Suspensions(db, service.clock, clients, revocations)
    suspended_clients = Consumer(
        bus,
        db,
        suspensions.on_clients_updated,
        name="token-suspended-clients",
        subject="events.orgs.client_updated",
    )

    access_tokens = AccessTokens(
        settings.base_url, settings.jwt_access_ttl, with_status=settings.status_lists
    )
    sessions = SessionService(
        db,
        service.outbox,
        service.clock,
        clients,
        keyring,
        access_tokens,
        Successors(service.sealer),
        revocations,
        settings,
    )
    status_lists = StatusLists(
        db, service.clock, keyring, feed, bits, settings.base_url, settings.status_list_ttl
    )

    exchange = ExchangeService(db, service.clock, service.sealer, sessions)

    verifying_keys = public_keys(db, bus, service.clock)
    validation = ValidationService(
        clients,
        verifying_keys,
        secrets(db, bus, service.sealer),
        Standing(db, service.clock, feed.revoked),
        feed.revoked,
        service.clock,
        settings.base_url,
        apps,
    )

    cursors = Cursors(service.sealer)
    accounts = ServiceAccountService(
        db,
        service.outbox,
        bus,
        service.clock,
        clients=clients,
        cursors=cursors,
        revocations=revocations,
        guard=guard,
    )
    key_usage = LastUsed(db, service.clock, account_store.note_uses)
    assertions = Assertions(db, service.clock, settings.base_url)
    authentication = ClientAuthentication(
        service.outbox,
        documents=DocumentTenants(db),
        clients=clients,
        accounts=ServiceAccountDirectory(db, bus, service.clock),
        apps=apps,
        assertions=assertions,
        secrets=ClientSecrets(db, service.sealer),
        usage=key_usage,
    )
    machines = MachineTokens(
        service.outbox, service.clock, clients=clients, keyring=keyring, access_tokens=access_tokens
    )
    introspection = Introspection(db, service.clock, clients, validation)
    revocation = TokenRevocation(
        db, service.outbox, service.clock, clients, sessions, revocations, validation
    )

    grants = GrantService(db, service.clock, clients, apps, validation)
    issuer_tokens = IssuerTokens(keyring, verifying_keys, settings.base_url)
    grant_tokens = GrantTokens(service.outbox, service.clock, keyring, access_tokens, issuer_tokens, settings)
    ended_apps = EndedApps(db, service.clock, sessions, revocations)
    disabled_apps = Consumer(
        bus, db, ended_apps.on_apps_updated, name="token-disabled-apps", subject="events.orgs.app_updated"
    )
    deleted_apps = Consumer(
        bus, db, ended_apps.on_apps_deleted, name="token-deleted-apps", subject="events.orgs.app_deleted"
    )
    device_codes = DeviceCodes(db, service.outbox, service.clock, grant_tokens)
    handlers = GrantHandlers(
        CodeRedemption(db, service.outbox, service.clock, grant_tokens, sessions, revocations),
        GrantRefreshing(db, sessions, service.clock, grant_tokens),
        machines,
        device_codes,
        TokenExchange(db, service.outbox, service.clock, keyring, access_tokens, validation),
    )
    proofs = TokenProofs(
        DpopProofs(
            service.clock,
            settings.base_url,
            DpopNonces(service.sealer, service.clock),
            used_once(db),
        )
    )
    grants_servicer = GrantsRpc(grants, sessions, authentication, issuer_tokens, device_codes, service.clock)

    cookie = RefreshCookie.of(settings)
    return service.app(
        routes=[
            session_routes(sessions, cookie, cursors, GeoDatabases(settings.geoip_db, None)),
            exchange_routes(exchange, cookie),
            signing_routes(signing, jwks),
            account_routes(accounts),
            oauth_routes(
                authentication, proofs, machines, introspection, revocation, issuer_tokens, service.clock
            ),
            grant_routes(authentication, proofs, handlers.by_type()),
            revocation_routes(
                feed, TenantTokens(db, service.outbox, service.clock, clients, revocations, guard)
            ),
            status_list_routes(status_lists),
        ],
        rpc=[
            sessions_rpc(sessions),
            exchange_rpc(exchange),
            secrets_rpc(signing),
            grants_rpc(grants_servicer),
            *validation_rpc(validation, clients, jwks, feed),
        ],
        callers=RPC_CALLERS,
        jobs={
            "revocation feed": feed.run,
            "new clients": new_clients.run,
            "suspended clients": suspended_clients.run,
            "key housekeeping": signing.housekeeping,
            "key rotation": schedule.run,
            "key periods": key_periods.run,
            "revocation housekeeping": revocations.housekeeping,
            "status sweeps": StatusSweeps(db, service.clock, revocations, settings.jwt_access_ttl).run,
            "exchange code purge": exchange.purge,
            "authorization codes": grants.purge,
            "device codes": device_codes.purge,
            "disabled apps": disabled_apps.run,
            "deleted apps": deleted_apps.run,
            "app secret usage": apps.run,
            "session pruning": Pruning(db, service.clock).run,
            "key usage": key_usage.run,
            "used assertions": assertions.housekeeping,
        },
        resources=[seal_check, key_usage],
    )


DEFINITION = Definition(
    settings=TokenSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
