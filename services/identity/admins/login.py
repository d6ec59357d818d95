"""Logins of admins: password or assertion, then an authenticator app, then a token. Knows no HTTP or SQL.

An admin who must have an app and has none sets it up between the two: the login waits for it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.events import Actor, ActorType
from chassis.one_time import FeatureUnavailable, OneTimeState
from chassis.outbox import Outbox
from contracts import events
from contracts.admin_tokens import AdminTokens
from services.identity.admins import store
from services.identity.admins.assertions import AdminAssertions
from services.identity.admins.factors import AdminTotp
from services.identity.admins.models import Admin, Granted, Setup, Waiting
from services.identity.admins.store import PLATFORM
from services.identity.errors import (
    AccountLocked,
    HashingInterrupted,
    InvalidAssertion,
    InvalidCredentials,
    InvalidMfaCode,
    InvalidMfaToken,
    Overloaded,
)
from services.identity.lockouts.service import LockoutService
from services.identity.passwords.hasher import PasswordHasher
from services.identity.totp.codes import new_secret, otpauth_url, qr_svg
from services.identity.users.email import Email, EmailHasher

LOGINS = Counter("admin_logins_total", "Logins of admins, by what became of them.", ["outcome"])

_KIND: Final = "admin_mfa"
_TTL: Final = timedelta(minutes=10)
_ATTEMPTS: Final = 5
_ISSUER: Final = "AuthService admin"
_PASSWORD: Final = ("pwd",)  # RFC 8176 §2
_APP: Final = ("otp", "mfa")
_ASSERTED: Final = ("sso",)


class AdminLogin:
    """The rules of how an admin gets a token."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        hasher: PasswordHasher,
        lockouts: LockoutService,
        totp: AdminTotp,
        emails: EmailHasher,
        assertions: AdminAssertions,
        one_time: OneTimeState,
        tokens: AdminTokens | None,
        ttl: timedelta,
    ) -> None:
        """Take the parts; without a secret for tokens nobody logs in."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._hasher = hasher
        self._lockouts = lockouts
        self._totp = totp
        self._emails = emails
        self._assertions = assertions
        self._one_time = one_time
        self._tokens = tokens
        self._ttl = ttl

    async def log_in(self, caller: CallerContext, typed_email: str, password: str) -> Granted | Waiting:
        """Check a password and return a token, or what is still in the way of one.

        An unknown address, a wrong password and a suspended admin are the same refusal, after the same work.

        Raises:
            InvalidEmail: no admin can have this address.
            InvalidCredentials: the one refusal.
            AccountLocked, RateLimited: too many attempts were made.
            FeatureUnavailable: no secret for tokens is set, or a code is needed and Redis is away.
        """
        if self._tokens is None:
            raise FeatureUnavailable
        caller = _of_no_tenant(caller)
        email = Email.parse(typed_email)
        async with self._lockouts.turn(email, _at_platform(caller)):
            admin = await self._check_password(caller, email, password)
        return await self._proven(caller, admin, _PASSWORD)

    async def log_in_by_assertion(self, caller: CallerContext, text: str) -> Granted | Waiting:
        """Take an identity provider's word for who an admin is, once.

        Where the provider says that it saw a second factor, none is asked for here.

        Raises:
            InvalidAssertion: it is not good, was used, or is about nobody who may log in.
            FeatureUnavailable: no provider or no secret for tokens is set, or one that is needed is away.
        """
        if self._tokens is None:
            raise FeatureUnavailable
        caller = _of_no_tenant(caller)
        assertion = await self._assertions.verify(text)
        async with self._db.platform() as tx:
            admin = await store.find_by_sso(tx, assertion.identity)
            is_first = admin is not None and await store.use_assertion(tx, admin.id, assertion.issued_at)
        if admin is None or not is_first:
            reason = "unknown_identity" if admin is None else "suspended_or_replayed"
            await self._outbox.append(self._failed("", admin, reason), caller)
            LOGINS.labels("refused").inc()
            raise InvalidAssertion
        if assertion.is_mfa:
            return await self._grant(caller, admin, (*_ASSERTED, "mfa"))
        return await self._proven(caller, admin, _ASSERTED)

    async def verify(self, caller: CallerContext, mfa_token: str, code: str) -> Granted:
        """Complete a login by a code of the authenticator app.

        Raises:
            InvalidMfaToken: no login waits behind the token, or it saw too many attempts.
            InvalidMfaCode: the code is wrong or was used.
            AccountLocked: too many codes were wrong, at whichever logins.
        """
        caller = _of_no_tenant(caller)
        waiting = await self._one_time.attempt(_KIND, mfa_token, limit=_ATTEMPTS)
        if waiting is None or waiting["to_enroll"]:
            raise InvalidMfaToken
        async with self._db.platform() as tx:
            admin = await self._of(tx, waiting)
            refusal = await self._totp.refusal(tx, admin, code)
            if refusal is not None:
                await self._outbox.emit(tx, self._failed(admin.email_normalized, admin, refusal.code), caller)
        if refusal is not None:
            LOGINS.labels("refused").inc()
            raise refusal
        return await self._complete(caller, admin, mfa_token)

    async def set_up(self, mfa_token: str) -> Setup:
        """Make a secret for the app of an admin who must have one and has none.

        Raises:
            InvalidMfaToken: no login waits for that behind the token.
        """
        waiting = await self._one_time.read(_KIND, mfa_token)
        if waiting is None or not waiting["to_enroll"]:
            raise InvalidMfaToken
        secret = new_secret()
        async with self._db.platform() as tx:
            admin = await self._of(tx, waiting)
            if not await store.put_pending(tx, admin.id, admin.token_epoch, self._totp.seal(admin, secret)):
                raise InvalidMfaToken
        url = otpauth_url(secret, issuer=_ISSUER, account=admin.email)
        return Setup(secret, url, qr_svg(url))

    async def enable(self, caller: CallerContext, mfa_token: str, code: str) -> Granted:
        """Turn the app on by a code that it shows, and complete the login that waited for it.

        Raises:
            InvalidMfaToken: as `set_up`; or nothing was set up, or the login saw too many attempts.
            InvalidMfaCode: the code is wrong.
        """
        caller = _of_no_tenant(caller)
        waiting = await self._one_time.attempt(_KIND, mfa_token, limit=_ATTEMPTS)
        if waiting is None or not waiting["to_enroll"]:
            raise InvalidMfaToken
        async with self._db.platform() as tx:
            admin = await self._of(tx, waiting)
            if admin.totp_pending is None:
                raise InvalidMfaToken
            step = self._totp.step(admin, admin.totp_pending, code)
            if step is None:
                raise InvalidMfaCode
            if not await store.activate(tx, admin.id, admin.token_epoch, admin.totp_pending, step):
                raise InvalidMfaToken
            enabled = events.AdminMfaEnabled(target_id=admin.id)
            await self._outbox.emit(tx, enabled, caller, actor=_actor(admin))
        admin = replace(admin, totp_secret=admin.totp_pending, totp_pending=None)
        return await self._complete(caller, admin, mfa_token)

    async def _proven(self, caller: CallerContext, admin: Admin, amr: tuple[str, ...]) -> Granted | Waiting:
        """Give a token for a first factor, or let the login wait for the second one."""
        if admin.totp_secret is None and not admin.mfa_required:
            return await self._grant(caller, admin, amr)
        to_enroll = admin.totp_secret is None
        waiting = {
            "admin_id": str(admin.id),
            "epoch": admin.token_epoch,
            "to_enroll": to_enroll,
            "amr": amr,
        }
        token = await self._one_time.put(_KIND, waiting, ttl=_TTL)
        LOGINS.labels("waiting").inc()
        return Waiting(token, int(_TTL.total_seconds()), to_enroll)

    async def _check_password(self, caller: CallerContext, email: Email, password: str) -> Admin:
        """Reserve an attempt, check the password, and settle the attempt."""
        place = _at_platform(caller)
        async with self._db.platform() as tx:
            await store.enter_platform(tx)
            admin = await store.find_by_email(tx, email.normalized)
            attempt = await self._lockouts.reserve(tx, email, place)
        if isinstance(attempt, AccountLocked):
            await self._outbox.append(self._failed(email.normalized, admin, attempt.code), caller)
            raise attempt
        stored = admin.password_hash if admin else None
        try:
            matches = await self._hasher.verify(stored, password)
        except (Overloaded, HashingInterrupted):
            await self._lockouts.release(attempt, place)
            raise
        if admin is None or stored is None or not matches or not admin.is_active:
            reason = "suspended" if admin and matches else "wrong_password" if admin else "unknown_email"
            failed = self._failed(email.normalized, admin, reason, is_locked=attempt.locked_until is not None)
            await self._outbox.append(failed, caller)
            LOGINS.labels("refused").inc()
            raise InvalidCredentials
        stronger = await self._stronger_hash(stored, password)
        async with self._db.platform() as tx:
            await store.enter_platform(tx)
            await self._lockouts.succeeded(tx, attempt)
            if stronger:
                await store.replace_hash(tx, admin.id, stored, stronger)
        return admin

    async def _stronger_hash(self, stored: str, password: str) -> str | None:
        if not self._hasher.policy.is_weaker(stored):
            return None
        try:
            return await self._hasher.hash(password)
        except (Overloaded, HashingInterrupted):
            return None

    async def _of(self, tx: Tx, waiting: dict[str, Any]) -> Admin:
        """Return the admin of a waiting login, unless what proved it became void."""
        admin = await store.find(tx, UUID(waiting["admin_id"]))
        if admin is None or not admin.is_active or admin.token_epoch != waiting["epoch"]:
            raise InvalidMfaToken
        return admin

    async def _complete(self, caller: CallerContext, admin: Admin, mfa_token: str) -> Granted:
        waiting = await self._one_time.take(_KIND, mfa_token)
        if waiting is None:
            raise InvalidMfaToken
        return await self._grant(caller, admin, (*waiting.get("amr", _PASSWORD), *_APP))

    async def _grant(self, caller: CallerContext, admin: Admin, amr: tuple[str, ...]) -> Granted:
        if self._tokens is None:
            raise FeatureUnavailable
        now = self._clock.now()
        async with self._db.platform() as tx:
            if not await store.record_login(tx, admin.id, admin.token_epoch, now):
                raise InvalidCredentials
            succeeded = events.AdminLoginSucceeded(target_id=admin.id, amr=amr)
            await self._outbox.emit(tx, succeeded, caller, actor=_actor(admin))
        token = self._tokens.issue(admin.id, admin.token_epoch, amr, int(now.timestamp()), self._ttl)
        LOGINS.labels("granted").inc()
        return Granted(token, int(self._ttl.total_seconds()), replace(admin, last_login_at=now))

    def _failed(
        self, normalized: str, admin: Admin | None, reason: str, *, is_locked: bool = False
    ) -> events.AdminLoginFailed:
        return events.AdminLoginFailed(
            target_id=admin.id if admin else None,
            reason=reason,
            email_hash=self._emails.hash(Email(normalized, normalized)).hex() if normalized else "",
            locks=is_locked,
        )


def _of_no_tenant(caller: CallerContext) -> CallerContext:
    """An admin is of no tenant, whichever API key came along."""
    return replace(caller, client_id=None, key_id=None, key_kind=None)


def _at_platform(caller: CallerContext) -> CallerContext:
    return replace(caller, client_id=PLATFORM)


def _actor(admin: Admin) -> Actor:
    return Actor(ActorType.ADMIN, str(admin.id))
