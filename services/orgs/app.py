"""Builds the registry, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.last_used import LastUsed
from chassis.paging import Cursors
from chassis.service import Definition, Service
from contracts.step_up import RemoteStepUpGuard
from contracts.topology import RPC_CALLERS
from services.orgs.admin_rpc.rpc import admin_rpc
from services.orgs.api_keys import store as key_store
from services.orgs.api_keys.routes import routes as api_key_routes
from services.orgs.api_keys.service import ApiKeyService
from services.orgs.apps import store as app_store
from services.orgs.apps.directory import AppAnswers
from services.orgs.apps.id_documents import IdDocuments, guarded_client
from services.orgs.apps.routes import routes as app_routes
from services.orgs.apps.rpc import apps_rpc
from services.orgs.apps.service import AppService
from services.orgs.apps.uris import PublicUrls
from services.orgs.clients.routes import routes as client_routes
from services.orgs.clients.rpc import clients_rpc, settings_rpc
from services.orgs.clients.service import ClientService
from services.orgs.config import OrgsSettings
from services.orgs.registrations.routes import routes as registration_routes
from services.orgs.registrations.rpc import registrations_rpc
from services.orgs.registrations.service import RegistrationService
from services.orgs.tables import Base


def build(settings: OrgsSettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    db, outbox, bus = service.db, service.outbox, service.bus
    cursors = Cursors(service.sealer)
    guard = RemoteStepUpGuard(service.channel("identity", settings.identity_grpc))
    token = service.channel("token", settings.token_grpc)

    usage = LastUsed(db, service.clock, key_store.note_uses)
    api_keys = ApiKeyService(db, outbox, bus, cursors, usage, service.clock, guard)
    urls = PublicUrls(allow_private=settings.oidc_allow_private)
    clients = ClientService(
        db, outbox, bus, cursors, service.clock, default_token_mode=settings.default_token_mode, urls=urls
    )
    apps = AppService(db, outbox, bus, service.clock, cursors=cursors, guard=guard, urls=urls)
    registrations = RegistrationService(
        db, outbox, bus, service.clock, cursors=cursors, guard=guard, urls=urls
    )
    app_answers = AppAnswers(db)
    to_documents = guarded_client(
        allow_private=settings.oidc_allow_private, ca_file=settings.client_id_document_ca_file
    )
    documents = IdDocuments(db, outbox, service.clock, to_documents)
    secret_usage = LastUsed(db, service.clock, app_store.note_uses)
    return service.app(
        routes=[
            client_routes(clients),
            api_key_routes(api_keys),
            app_routes(apps),
            registration_routes(registrations),
        ],
        rpc=[
            clients_rpc(clients, api_keys),
            settings_rpc(clients),
            apps_rpc(app_answers, documents, secret_usage),
            registrations_rpc(registrations),
            admin_rpc(clients, api_keys, outbox, token),
        ],
        callers=RPC_CALLERS,
        jobs={"key usage": usage.run, "app secret usage": secret_usage.run},
        resources=[usage, secret_usage, to_documents],
    )


DEFINITION = Definition(
    settings=OrgsSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
