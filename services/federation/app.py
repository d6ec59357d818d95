"""Builds the provider, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

from pathlib import Path

from chassis.app import App
from chassis.clock import Clock
from chassis.consumers import Consumer, all_of
from chassis.geo import GeoDatabases
from chassis.paging import Cursors
from chassis.public_http import PublicClient
from chassis.ratelimit import RateLimiter
from chassis.service import Definition, Service
from contracts.apps import AppDirectory
from contracts.dpop import DpopNonces, DpopProofs, in_redis
from contracts.topology import RPC_CALLERS
from services.federation.authorize.answers import Answers
from services.federation.authorize.hints import IdTokenHints
from services.federation.authorize.pushed import PushedRequests
from services.federation.authorize.requests import AuthorizationRequests, BrowserSecret
from services.federation.authorize.routes import Redirector
from services.federation.authorize.routes import routes as authorize_routes
from services.federation.authorize.service import AuthorizationService
from services.federation.backchannel.service import CONSUMER, SUBJECT, BackchannelLogout
from services.federation.config import FederationSettings
from services.federation.consents.page import routes as consent_page_routes
from services.federation.consents.routes import routes as consent_routes
from services.federation.consents.service import ConsentService
from services.federation.devices.routes import DevicePages, FormTokens
from services.federation.devices.routes import routes as device_routes
from services.federation.devices.service import DeviceService
from services.federation.devices.waiting import KIND, WaitingDevices
from services.federation.discovery.routes import routes as discovery_routes
from services.federation.grants import Grants
from services.federation.issuer_sessions.service import IssuerSessions
from services.federation.issuer_tokens import IssuerTokens
from services.federation.login.account_routes import routes as account_routes
from services.federation.login.accounts import HostedAccounts
from services.federation.login.browsers import Browsers, DeviceCookie
from services.federation.login.identity import IdentityLogins
from services.federation.login.routes import routes as login_routes
from services.federation.login.service import HostedLogin
from services.federation.login.steps import Steps
from services.federation.logout.routes import Logout
from services.federation.logout.routes import routes as logout_routes
from services.federation.logout.service import LogoutService
from services.federation.par.routes import routes as par_routes
from services.federation.par.service import ParService
from services.federation.registration.routes import routes as registration_routes
from services.federation.tables import Base
from services.federation.userinfo.routes import routes as userinfo_routes
from services.federation.userinfo.service import UserinfoService


def build(settings: FederationSettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    db, bus = service.db, service.bus
    token = service.channel("token", settings.token_grpc)
    logins = IssuerSessions(service.db, service.clock, token, settings.base_url)
    orgs = service.channel("orgs", settings.orgs_grpc)
    apps = AppDirectory(orgs, bus)
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

    grants = Grants(token)

    consents = ConsentService(db, service.outbox, service.clock, grants)
    withdrawn_consents = Consumer(
        bus,
        db,
        consents.on_withdrawn,
        name="federation-withdrawn-consents",
        subject="events.federation.consent_withdrawn",
    )
    deleted_users = Consumer(
        bus,
        db,
        all_of(consents.on_users_deleted, logins.on_users_deleted),
        name="federation-deleted-users",
        subject="events.identity.user_deleted",
    )
    deleted_apps = Consumer(
        bus,
        db,
        consents.on_apps_deleted,
        name="federation-deleted-apps",
        subject="events.orgs.app_deleted",
    )

    answers = Answers(settings.base_url)
    browsers = BrowserSecret(settings.base_url)
    redirector = Redirector(answers)
    requests = AuthorizationRequests(service.one_time, apps, answers)
    pushed = PushedRequests(service.one_time)
    authorization = AuthorizationService(
        service.outbox,
        service.clock,
        apps=apps,
        hints=IdTokenHints(grants),
        pushed=pushed,
        requests=requests,
        consents=consents,
        grants=grants,
    )
    proofs = DpopProofs(
        service.clock,
        settings.base_url,
        DpopNonces(service.sealer, service.clock),
        in_redis(service.one_time, service.clock),
    )
    par = ParService(grants, authorization, pushed, proofs)

    userinfo = UserinfoService(tokens, proofs, settings.base_url)

    logout = Logout(
        LogoutService(service.outbox, apps, grants), logins, browsers, service.sealer, service.clock
    )

    identity = IdentityLogins(service.channel("identity", settings.identity_grpc))
    hosted_login = HostedLogin(
        identity,
        Steps(service.one_time, service.sealer),
        logins,
        settings.base_url,
    )
    waiting_devices = WaitingDevices(service.one_time, apps, service.clock)
    devices = DeviceService(
        token,
        service.outbox,
        apps=apps,
        grants=grants,
        consents=consents,
        limiter=RateLimiter(service.redis, settings.redis_key_prefix),
    )
    device_pages = DevicePages(
        devices,
        waiting_devices,
        logins,
        browsers,
        FormTokens(service.sealer),
        GeoDatabases(settings.geoip_db, None),
    )

    waiting_for_login = Browsers(
        {"authz": requests, KIND: waiting_devices}, browsers, DeviceCookie(settings.base_url)
    )

    return service.app(
        routes=[
            userinfo_routes(userinfo, settings.base_url),
            logout_routes(logout),
            device_routes(devices, device_pages, settings.base_url),
            discovery_routes(settings.base_url),
            authorize_routes(authorization, requests, pushed, logins, browsers, redirector),
            login_routes(hosted_login, waiting_for_login),
            account_routes(HostedAccounts(identity, hosted_login, apps), waiting_for_login),
            consent_page_routes(authorization, requests, logins, browsers, redirector),
            par_routes(par),
            registration_routes(orgs, settings.base_url),
            consent_routes(consents, Cursors(service.sealer)),
        ],
        rpc=[],
        callers=RPC_CALLERS,
        jobs={
            "issuer session purge": logins.purge,
            "ended logins": ended_logins.run,
            "logout deliveries": backchannel.sweep,
            "logout delivery purge": backchannel.purge,
            "withdrawn consents": withdrawn_consents.run,
            "deleted users": deleted_users.run,
            "deleted apps": deleted_apps.run,
        },
        resources=[to_apps],
    )


DEFINITION = Definition(
    settings=FederationSettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
