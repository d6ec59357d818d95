"""Builds identity, top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

import os
from pathlib import Path

import structlog

from chassis.app import App
from chassis.clock import Clock
from chassis.consumers import Consumer
from chassis.database import Tx
from chassis.geo import GeoDatabases
from chassis.http import Router
from chassis.paging import Cursors
from chassis.service import Definition, Service
from contracts.admin_tokens import AdminTokens
from contracts.clients import ClientDirectory
from contracts.session import RefreshCookie
from contracts.topology import RPC_CALLERS
from services.identity.account.routes import routes as account_routes
from services.identity.account.service import AccountService
from services.identity.admins.assertions import AdminAssertions
from services.identity.admins.factors import AdminTotp
from services.identity.admins.login import AdminLogin
from services.identity.admins.routes import routes as admin_routes
from services.identity.admins.rpc import admin_directory_rpc
from services.identity.admins.service import AdminService
from services.identity.admins.step_up import AdminStepUp
from services.identity.auth_rpc.mailed import MailedLinks
from services.identity.auth_rpc.rpc import auth_rpc
from services.identity.captcha.service import VERIFY_URLS, CaptchaRules, CaptchaService
from services.identity.config import IdentitySettings
from services.identity.devices import store as device_store
from services.identity.devices.routes import routes as device_routes
from services.identity.devices.service import DeviceService
from services.identity.email_change.routes import routes as email_change_routes
from services.identity.email_change.service import EmailChangeService
from services.identity.email_tokens.mailbox import MailboxProofs
from services.identity.email_tokens.service import EmailTokens
from services.identity.imports.routes import routes as import_routes
from services.identity.imports.service import ImportService
from services.identity.lockouts.factors import FactorLockouts
from services.identity.lockouts.service import LockoutService
from services.identity.lockouts.spray import SprayLimiter
from services.identity.login_rpc.options import LoginOptions, SignUpOptions
from services.identity.login_rpc.rpc import login_rpc
from services.identity.logins.models import FactorSource
from services.identity.logins.service import LoginGate
from services.identity.magic_links.routes import routes as magic_link_routes
from services.identity.magic_links.service import MagicLinkService
from services.identity.mail.delivery import Delivery
from services.identity.mail.routes import routes as mail_routes
from services.identity.mail.senders import InboxSender, ResendSender, Sender, SmtpSender
from services.identity.mail.service import Mailer
from services.identity.mail.words import Words
from services.identity.mail_pages.routes import routes as mail_page_routes
from services.identity.mail_requests.service import MailRequests
from services.identity.passkeys import store as passkey_store
from services.identity.passkeys.decoys import Decoys
from services.identity.passkeys.logins import PasskeyLogins
from services.identity.passkeys.parties import RelyingParties
from services.identity.passkeys.registrations import PasskeyRegistrations
from services.identity.passkeys.routes import routes as passkey_routes
from services.identity.passkeys.service import PasskeyFactors, PasskeyService
from services.identity.password_reset.routes import routes as reset_routes
from services.identity.password_reset.service import PasswordResetService
from services.identity.passwords import store as password_store
from services.identity.passwords.breaches import LeakedPasswords
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.inventory import SchemeInventory
from services.identity.passwords.new_passwords import NewPasswords
from services.identity.passwords.policy import PasswordPolicy
from services.identity.passwords.routes import routes as password_routes
from services.identity.passwords.schemes import HashPolicy
from services.identity.passwords.service import PasswordService
from services.identity.recovery_codes import store as recovery_code_store
from services.identity.recovery_codes.codes import CodeHasher
from services.identity.recovery_codes.factor import RecoveryCodeFactor
from services.identity.recovery_codes.routes import routes as recovery_code_routes
from services.identity.recovery_codes.service import RecoveryCodeService
from services.identity.risk.provider import RiskProvider
from services.identity.risk.service import RiskService
from services.identity.rules import factor_lockout_rules, lockout_rules, policy_rules, relying_party
from services.identity.second_factors.fresh_proof import FreshProof
from services.identity.second_factors.login import SecondFactorLogin
from services.identity.second_factors.service import SecondFactors
from services.identity.security_policy.routes import routes as security_policy_routes
from services.identity.security_policy.service import SecurityPolicyService
from services.identity.sessions.client import SessionClient
from services.identity.sessions.duties import SessionDuties
from services.identity.step_up.risk import ActionRisk
from services.identity.step_up.routes import routes as step_up_routes
from services.identity.step_up.rpc import step_up_rpc
from services.identity.step_up.service import StepUpService
from services.identity.step_up.verification import StepUpVerification
from services.identity.support.routes import routes as support_routes
from services.identity.support.service import SupportService
from services.identity.tables import Base
from services.identity.totp import store as totp_store
from services.identity.totp.factor import TotpFactor
from services.identity.totp.routes import routes as totp_routes
from services.identity.totp.service import TotpService
from services.identity.ui_config.routes import CaptchaView, Method
from services.identity.ui_config.routes import routes as ui_config_routes
from services.identity.users.email import DomainBlocklist, EmailHasher
from services.identity.users.models import User
from services.identity.users.routes import routes as profile_routes
from services.identity.users.rpc import users_rpc
from services.identity.users.service import ProfileService
from services.identity.verification.routes import routes as verification_routes
from services.identity.verification.service import VerificationService

log = structlog.get_logger()


async def _delete_password(tx: Tx, user: User) -> None:
    await password_store.delete(tx, user.id)


async def _delete_passkeys(tx: Tx, user: User) -> None:
    await passkey_store.delete_all(tx, user.id)


async def _delete_totp(tx: Tx, user: User) -> None:
    await totp_store.delete(tx, user.id)


async def _delete_recovery_codes(tx: Tx, user: User) -> None:
    await recovery_code_store.delete(tx, user.id)


_void_unproven = (_delete_password, _delete_passkeys, _delete_totp, _delete_recovery_codes)
"""What goes when an account is taken back by the owner of its mailbox; every kind of credential is here."""


def build(settings: IdentitySettings, clock: Clock | None = None) -> App:
    """Build everything the service needs; nothing connects before the process starts."""
    service = Service(settings, clock)
    db, outbox, clock = service.db, service.outbox, service.clock
    orgs = service.channel("orgs", settings.orgs_grpc)
    clients = ClientDirectory(orgs, service.bus)
    sessions = SessionClient(service.channel("token", settings.token_grpc))
    duties = SessionDuties(db, sessions, clock)
    emails = EmailHasher(service.sealer.derive("email-hash"))
    lockouts = LockoutService(db, outbox, clock, lockout_rules(settings), emails)
    mailer = Mailer(outbox, clock, service.sealer, emails, is_on=settings.mail_way != "none")
    delivery = Delivery(
        db,
        outbox,
        clock,
        sealer=service.sealer,
        clients=clients,
        words=Words(settings.email_from),
        sender=_mail_sender(settings, service),
    )
    hasher = PasswordHasher(
        HashPolicy(settings.password_hash, settings.bcrypt_cost),
        workers=settings.hash_workers or max(1, (os.cpu_count() or 1) // settings.web_concurrency),
        queue=settings.hash_queue,
        niceness=settings.hash_niceness,
    )
    geo = GeoDatabases(settings.geoip_db, settings.asn_db)
    devices = DeviceService(db, outbox, clock, clients)
    provider = _risk_provider(settings)
    risk = RiskService(
        db,
        clock,
        emails=emails,
        geo=geo,
        provider=provider,
        failure_window=settings.lockout_window,
    )
    totp_factor = TotpFactor(service.sealer, clock)
    codes = CodeHasher(service.sealer.derive_all("recovery-code"), service.sealer.key_id)
    recovery_factor = RecoveryCodeFactor(codes, clock)
    sources: list[FactorSource] = [totp_factor, recovery_factor, PasskeyFactors()]
    gate = LoginGate(
        db,
        outbox,
        clock,
        clients=clients,
        sessions=sessions,
        one_time=service.one_time,
        factors=sources,
        devices=devices,
        risk=risk,
        mailer=mailer,
    )
    tokens = EmailTokens(db, clock)
    mailbox = MailboxProofs(outbox, clock, duties, _void_unproven)
    verification = VerificationService(
        db,
        clock,
        tokens=tokens,
        mailer=mailer,
        proofs=mailbox,
        duties=duties,
        base_url=settings.base_url,
    )
    blocklist = DomainBlocklist(settings.blocked_email_domains)
    mail_requests = MailRequests(db, outbox, clock, service.sealer)
    captcha = _captcha(settings)
    leaked = LeakedPasswords(settings.password_breach_url, settings.password_breach_timeout.total_seconds())
    new_passwords = NewPasswords(
        PasswordPolicy(policy_rules(settings)),
        clients,
        leaked,
        block_leaked=settings.password_block_breached,
    )
    passwords = PasswordService(
        db,
        outbox,
        clock,
        hasher=hasher,
        new_passwords=new_passwords,
        captcha=captcha,
        lockouts=lockouts,
        emails=emails,
        blocklist=blocklist,
        gate=gate,
        clients=clients,
        devices=devices,
        sprays=SprayLimiter(outbox, clock, lockout_rules(settings), settings.lockout_spray_threshold),
        duties=duties,
        verification=verification,
    )
    resets = PasswordResetService(
        db,
        outbox,
        clock,
        tokens=tokens,
        mailer=mailer,
        requests=mail_requests,
        proofs=mailbox,
        emails=emails,
        hasher=hasher,
        new_passwords=new_passwords,
        lockouts=lockouts,
        distrust=device_store.distrust_all,
        duties=duties,
        base_url=settings.base_url,
    )
    magic_links = MagicLinkService(
        db,
        outbox,
        clock,
        clients=clients,
        tokens=tokens,
        mailer=mailer,
        requests=mail_requests,
        proofs=mailbox,
        emails=emails,
        blocklist=blocklist,
        gate=gate,
        sessions=sessions,
        duties=duties,
        base_url=settings.base_url,
    )
    profiles = ProfileService(db, outbox, clock, duties)
    factor_lockouts = FactorLockouts(outbox, clock, factor_lockout_rules(settings), emails)
    factors = SecondFactors(
        db, outbox, totp=totp_factor, recovery_codes=recovery_factor, lockouts=factor_lockouts, mailer=mailer
    )
    assertions = AdminAssertions(
        clock, issuer=settings.admin_sso_issuer, client_id=settings.admin_sso_client_id
    )
    admin_totp = AdminTotp(db, clock, service.sealer, factor_lockout_rules(settings))
    guard = StepUpService(
        db,
        outbox,
        clock,
        clients=clients,
        one_time=service.one_time,
        factors=sources,
        risk=ActionRisk(db, risk),
        admins=admin_totp,
    )
    proofs = FreshProof(clock, gate, passwords, factors, guard)
    totp = TotpService(
        db,
        outbox,
        clock,
        clients=clients,
        totp=totp_factor,
        recovery_codes=recovery_factor,
        factors=factors,
        proofs=proofs,
        gate=gate,
        duties=duties,
    )
    parties = RelyingParties(clients, relying_party(settings))
    passkey_logins = _passkey_logins(service, parties, gate, emails)
    second_leg = SecondFactorLogin(db, factors, gate)
    recovery_codes = RecoveryCodeService(db, outbox, recovery_factor, proofs)
    registrations = PasskeyRegistrations(
        db, outbox, clock, parties=parties, one_time=service.one_time, gate=gate, proofs=proofs, mailer=mailer
    )
    passkeys = PasskeyService(db, outbox, clients, proofs)
    inventory = SchemeInventory(db, service.bus, hasher)
    imports = ImportService(db, outbox, clock, clients=clients, policy=hasher.policy, inventory=inventory)
    email_changes = EmailChangeService(
        db,
        outbox,
        clock,
        guard=guard,
        gate=gate,
        passwords=passwords,
        tokens=tokens,
        mailer=mailer,
        blocklist=blocklist,
        duties=duties,
        base_url=settings.base_url,
    )
    accounts = AccountService(
        db,
        outbox,
        clock,
        guard=guard,
        sessions=sessions,
        duties=duties,
        mailer=mailer,
        emails=emails,
    )
    cookie = RefreshCookie.of(settings)
    cursors = Cursors(service.sealer)
    support = SupportService(
        db,
        outbox,
        clock,
        clients=clients,
        lockouts=lockouts,
        factor_lockouts=factor_lockouts,
        sessions=sessions,
        duties=duties,
        factors=sources,
        guard=guard,
        cursors=cursors,
    )
    return service.app(
        routes=[
            password_routes(passwords, cookie),
            profile_routes(profiles),
            account_routes(accounts),
            email_change_routes(email_changes),
            _ui_config(settings, clients),
            totp_routes(totp, second_leg, cookie),
            recovery_code_routes(recovery_codes, second_leg, cookie),
            step_up_routes(StepUpVerification(db, guard, factors, passwords, passkey_logins)),
            _admins(service, settings, hasher, lockouts, emails, admin_totp, assertions, guard),
            support_routes(support, accounts, cursors),
            device_routes(devices, geo),
            verification_routes(verification),
            reset_routes(resets),
            mail_page_routes(clients, tokens, verification, resets, email_changes),
            magic_link_routes(magic_links, cookie),
            mail_routes(db, is_local=settings.mail_way == "local"),
            security_policy_routes(SecurityPolicyService(clients, orgs)),
            import_routes(imports),
            passkey_routes(registrations, passkey_logins, passkeys, cookie),
        ],
        rpc=[
            auth_rpc(clients, sessions, passwords, profiles, MailedLinks(verification, resets, magic_links)),
            users_rpc(db),
            admin_directory_rpc(db),
            step_up_rpc(guard),
            login_rpc(
                clients,
                _login_options(settings),
                passwords,
                second_leg,
                passkey_logins,
                totp,
                sessions,
                resets,
                magic_links,
            ),
        ],
        callers=RPC_CALLERS,
        jobs={
            "session duties": duties.run,
            "email change purge": email_changes.purge,
            "lockout purge": lockouts.purge,
            "device purge": devices.purge,
            "risk purge": risk.purge,
            "refresh token reuses": _reuse_consumer(service, risk).run,
            "password schemes": inventory.run,
            "mail": _mail_consumer(service, delivery).run,
            "mail sweep": delivery.sweep,
            "mail purge": delivery.purge,
            "mail requests": mail_requests.run,
            "email token purge": tokens.purge,
        },
        resources=[hasher, provider, captcha, leaked, delivery, assertions],
    )


def _ui_config(settings: IdentitySettings, clients: ClientDirectory) -> Router:
    """Build the route that tells pages what this installation has."""
    return ui_config_routes(clients, methods=_methods(settings), captcha=_captcha_view(settings))


def _login_options(settings: IdentitySettings) -> LoginOptions:
    captcha = _captcha_view(settings) if settings.captcha_login_required else None
    return LoginOptions(
        _methods(settings),
        has_mail=settings.mail_way != "none",
        captcha=captcha,
        sign_up=_sign_up_options(settings),
        relying_party=relying_party(settings),
    )


def _sign_up_options(settings: IdentitySettings) -> SignUpOptions:
    needs_captcha, captcha = settings.captcha_signup_required, _captcha_view(settings)
    return SignUpOptions(
        captcha if needs_captcha else None,
        is_possible=captcha is not None or not needs_captcha,
        min_password_length=settings.password_min_length,
    )


def _methods(settings: IdentitySettings) -> tuple[Method, ...]:
    methods: list[Method] = ["password"]
    if settings.mail_way != "none":
        methods.append("magic_link")
    if settings.redis_url is not None:
        methods.append("passkey")
    return tuple(methods)


def _captcha_view(settings: IdentitySettings) -> CaptchaView | None:
    if not settings.captcha_site_key:
        return None
    return CaptchaView(provider=settings.captcha_provider or "custom", site_key=settings.captcha_site_key)


def _captcha(settings: IdentitySettings) -> CaptchaService:
    provider, secret = settings.captcha_provider, settings.captcha_secret
    required = {"signup": settings.captcha_signup_required, "login": settings.captcha_login_required}
    rules = CaptchaRules(
        verify_url=settings.captcha_verify_url or (VERIFY_URLS[provider] if provider else None),
        secret=secret.get_secret_value() if secret else "",
        hostnames=frozenset(settings.captcha_hostnames or ()),
        min_score=settings.captcha_min_score,
        required=[action for action, is_required in required.items() if is_required],
    )
    return CaptchaService(rules, settings.captcha_timeout.total_seconds())


def _risk_provider(settings: IdentitySettings) -> RiskProvider:
    key = settings.risk_provider_api_key
    return RiskProvider(
        settings.risk_provider_url,
        key.get_secret_value() if key else None,
        settings.risk_provider_timeout.total_seconds(),
    )


def _reuse_consumer(service: Service, risk: RiskService) -> Consumer:
    return Consumer(
        service.bus,
        service.db,
        risk.mark_reuses,
        name="identity-token-reuse",
        subject="events.token.refresh_token_reuse_detected",
    )


def _mail_sender(settings: IdentitySettings, service: Service) -> Sender:
    match settings.mail_way:
        case "resend" if settings.resend_api_key:
            return ResendSender(settings.resend_api_key.get_secret_value(), settings.resend_api_url)
        case "smtp" if settings.smtp_url:
            return SmtpSender(settings.smtp_url.get_secret_value())
        case "none":
            log.warning("no way to send mail is configured: what needs it answers 503")
    return InboxSender(service.db, service.clock)


def _mail_consumer(service: Service, delivery: Delivery) -> Consumer:
    return Consumer(
        service.bus,
        service.db,
        delivery.on_queued,
        name="identity-mail",
        subject="events.identity.mail_queued",
        max_batch=20,
    )


def _admins(
    service: Service,
    settings: IdentitySettings,
    hasher: PasswordHasher,
    lockouts: LockoutService,
    emails: EmailHasher,
    totp: AdminTotp,
    assertions: AdminAssertions,
    guard: StepUpService,
) -> Router:
    key = settings.admin_token_key(settings.admin_api_key)
    login = AdminLogin(
        service.db,
        service.outbox,
        service.clock,
        hasher=hasher,
        lockouts=lockouts,
        totp=totp,
        emails=emails,
        assertions=assertions,
        one_time=service.one_time,
        tokens=AdminTokens(key, issuer=settings.base_url) if key else None,
        ttl=settings.admin_access_ttl,
    )
    admins = AdminService(
        service.db,
        service.outbox,
        service.bus,
        service.clock,
        hasher=hasher,
        policy=PasswordPolicy(policy_rules(settings)),
        cursors=Cursors(service.sealer),
    )
    return admin_routes(login, admins, AdminStepUp(service.db, service.outbox, guard, totp))


def _passkey_logins(
    service: Service, parties: RelyingParties, gate: LoginGate, emails: EmailHasher
) -> PasskeyLogins:
    return PasskeyLogins(
        service.db,
        service.outbox,
        service.clock,
        parties=parties,
        one_time=service.one_time,
        gate=gate,
        emails=emails,
        decoys=Decoys(service.sealer.derive("passkey-decoys")),
    )


DEFINITION = Definition(
    settings=IdentitySettings,
    build=build,
    tables=Base.metadata,
    migrations=Path(__file__).parent / "migrations",
)
