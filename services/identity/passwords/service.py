"""Sign-up, login and change of passwords. Knows no HTTP and no SQL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import AppError, FieldError, Unauthenticated
from chassis.events import Actor, ActorType, DomainEvent
from chassis.ids import new_id
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import ClientDirectory
from contracts.security_policy import SecurityPolicy
from services.identity.captcha.service import CaptchaService
from services.identity.devices.service import DeviceService
from services.identity.errors import (
    AccountLocked,
    CaptchaFailed,
    CaptchaRequired,
    CaptchaUnavailable,
    EmailTaken,
    HashingInterrupted,
    InvalidCredentials,
    LoginBlocked,
    Overloaded,
    PasswordChangedMeanwhile,
    ProofOutdated,
    SessionsNotEnded,
    SessionUnavailable,
    SourceLocked,
    WeakPassword,
    WrongPassword,
)
from services.identity.lockouts.models import Attempt
from services.identity.lockouts.service import LockoutService
from services.identity.lockouts.spray import SprayLimiter
from services.identity.logins.models import Browser, Method, Outcome, Proof
from services.identity.logins.service import LoginGate
from services.identity.passwords import store
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.models import Account
from services.identity.passwords.new_passwords import NewPasswords
from services.identity.passwords.schemes import scheme_of
from services.identity.risk.signals import is_listed
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import DutyKind
from services.identity.users import store as users
from services.identity.users.email import DomainBlocklist, Email, EmailHasher
from services.identity.users.fields import metadata_json
from services.identity.users.models import NewUser, User, UserId
from services.identity.verification.service import VerificationService

log = structlog.get_logger()

_METHOD = "password"
_PASSWORD_CHANGED = "password_changed"  # noqa: S105 - a reason's name
_AMR = ("pwd",)  # RFC 8176 §2


@dataclass(frozen=True, slots=True)
class Signup:
    """What a new user gives; the fields are checked by `users.fields`, email and password here."""

    email: str
    password: str
    display_name: str
    metadata: dict[str, Any]
    captcha_token: str | None = None


class PasswordService:
    """The rules of everything that a password opens."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        hasher: PasswordHasher,
        new_passwords: NewPasswords,
        captcha: CaptchaService,
        lockouts: LockoutService,
        emails: EmailHasher,
        blocklist: DomainBlocklist,
        gate: LoginGate,
        clients: ClientDirectory,
        devices: DeviceService,
        sprays: SprayLimiter,
        duties: SessionDuties,
        verification: VerificationService,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._hasher = hasher
        self._new_passwords = new_passwords
        self._captcha = captcha
        self._lockouts = lockouts
        self._emails = emails
        self._blocklist = blocklist
        self._gate = gate
        self._clients = clients
        self._devices = devices
        self._sprays = sprays
        self._duties = duties
        self._verification = verification

    async def sign_up(self, caller: CallerContext, signup: Signup, browser: Browser) -> Outcome:
        """Create a user and open its first session.

        Raises:
            InvalidEmail, EmailDomainBlocked, WeakPassword: a rule is broken.
            CaptchaRequired, CaptchaFailed, CaptchaUnavailable: see `CaptchaService`.
            EmailTaken: the client has a user with this address.
            SessionUnavailable: the user exists now, but the token service is away.
            LoginBlocked: the user exists now, but the client's policy refuses logins as risky as this one.
        """
        email = Email.parse(signup.email)
        try:
            self._blocklist.check(email)
            await self._captcha.check(caller, "signup", signup.captcha_token)
            await self._new_passwords.check(
                caller.require_client(),
                signup.password,
                email=email,
                display_name=signup.display_name,
                field="password",
            )
            await self._refuse_taken(caller, email)
            password_hash = await self._hasher.hash(signup.password)
            user = await self._create(caller, signup, email, password_hash)
        except (Overloaded, HashingInterrupted, CaptchaUnavailable):
            raise
        except AppError as error:
            refused = events.SignupRefused(reason=error.code, email_hash=self._emails.hash(email).hex())
            await self._outbox.append(refused, caller)
            raise
        try:
            return await self._gate.admit(caller, user, Proof(Method.SIGNUP, _AMR), browser)
        except LoginBlocked:
            raise
        except AppError as error:
            log.warning("no session after sign-up", code=error.code, user_id=str(user.id))
            raise SessionUnavailable from error

    async def log_in(
        self,
        caller: CallerContext,
        typed_email: str,
        password: str,
        browser: Browser,
        captcha_token: str | None = None,
    ) -> Outcome:
        """Open a session for the user with this address and password.

        An unknown address, a wrong password and a suspended user are the same refusal, after the same work
        (OWASP ASVS 2.2.1). The attempt is reserved before anything is hashed, for addresses without an
        account too.

        Raises:
            InvalidEmail: no account can have this address.
            CaptchaRequired, CaptchaFailed, CaptchaUnavailable: see `CaptchaService`.
            InvalidCredentials: the one refusal.
            AccountLocked: too many attempts were made.
            SourceLocked: passwords from this network failed at many addresses.
            RateLimited: too many attempts at this address wait for their turn.
            Overloaded: too many passwords wait to be hashed.
        """
        email = Email.parse(typed_email)
        try:
            await self._captcha.check(caller, "login", captcha_token)
        except (CaptchaRequired, CaptchaFailed) as error:
            await self._outbox.append(self._login_failed(email, None, error.code), caller)
            raise
        async with self._lockouts.turn(email, caller):
            return await self._attempt(caller, email, password, browser)

    async def _attempt(self, caller: CallerContext, email: Email, password: str, browser: Browser) -> Outcome:
        """Reserve an attempt, check the password, and settle the attempt."""
        is_trusted = await self._is_trusted_network(caller)
        async with self._db.tenant(caller.require_client()) as tx:
            account = await store.find_by_email(tx, email.normalized)
            device_id = await self._devices.id_at(tx, email, browser.device_token)
            refusal = None if device_id or is_trusted else await self._sprays.refusal(tx, caller)
            attempt = refusal or await self._lockouts.reserve(tx, email, caller, device_id=device_id)
        user_id = account.user.id if account else None
        if isinstance(attempt, AccountLocked | SourceLocked):
            await self._outbox.append(self._login_failed(email, user_id, attempt.code), caller)
            raise attempt
        stored = account.password if account else None
        try:
            matches = await self._hasher.verify(stored.hash if stored else None, password)
        except (Overloaded, HashingInterrupted):
            await self._lockouts.release(attempt, caller)
            raise
        if account is None or not matches or not account.user.is_active:
            reason = "suspended" if account and matches else "wrong_password" if account else "unknown_email"
            failed = self._login_failed(email, user_id, reason)
            await self._fail(caller, attempt, failed, user_id, is_spray_counted=not is_trusted)
            raise InvalidCredentials
        return await self._admit(caller, account, attempt, password, browser)

    async def change(self, caller: CallerContext, current: str, new: str) -> int:
        """Replace the calling user's password and end all other sessions; returns how many ended.

        A wrong current password counts towards the lockout of the user's address, as a wrong login does.

        Raises:
            WeakPassword: the new password breaks the policy, or is the current one.
            WrongPassword: the current password is wrong.
            AccountLocked: too many attempts were made.
            PasswordChangedMeanwhile: another request was first.
            SessionsNotEnded: the password is changed, but it could not be confirmed that the other sessions
            ended.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            account = await store.find_by_id(tx, caller.require_user())
        if account is None or not account.user.is_active:
            raise Unauthenticated
        email = Email.parse(account.user.email)
        await self._new_passwords.check(
            caller.require_client(),
            new,
            email=email,
            display_name=account.user.display_name,
            field="new_password",
        )
        if self._hasher.is_same(current, new):
            same = FieldError(
                "new_password", "password_unchanged", "It must differ from the current password."
            )
            raise WeakPassword(errors=(same,))
        async with self._lockouts.turn(email, caller):
            epoch = await self._prove_current(caller, account, email, current, events.PasswordChangeFailed)
        new_hash = await self._hasher.hash(new)
        async with self._db.tenant(caller.require_client()) as tx:
            if not await store.change(tx, account.user.id, epoch, new_hash, self._clock.now()):
                raise PasswordChangedMeanwhile
            await self._outbox.emit(tx, events.PasswordChanged(target_id=account.user.id), caller)
            duty = await self._duties.owe(
                tx, DutyKind.END_SESSIONS, caller, reason=_PASSWORD_CHANGED, except_session=True
            )
        try:
            return await self._duties.fulfil(duty, caller)
        except AppError as error:
            log.warning("sessions not ended yet", code=error.code, user_id=str(account.user.id))
            raise SessionsNotEnded from error

    async def confirm(self, caller: CallerContext, password: str) -> None:
        """Check the calling user's password, for a change that needs it; a wrong one counts as a wrong login.

        Raises:
            WrongPassword: it is wrong, or the user has none.
            AccountLocked: too many attempts were made.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            account = await store.find_by_id(tx, caller.require_user())
        if account is None or not account.user.is_active:
            raise Unauthenticated
        email = Email.parse(account.user.email)
        async with self._lockouts.turn(email, caller):
            await self._prove_current(caller, account, email, password, events.ReauthenticationFailed)

    async def _refuse_taken(self, caller: CallerContext, email: Email) -> None:
        """Refuse a taken address before it costs a hash; the insert decides again."""
        async with self._db.tenant(caller.require_client()) as tx:
            if await users.is_taken(tx, email.normalized):
                raise EmailTaken

    async def _create(self, caller: CallerContext, signup: Signup, email: Email, password_hash: str) -> User:
        now = self._clock.now()
        new = NewUser(
            id=UserId(new_id()),
            email=email.address,
            email_normalized=email.normalized,
            display_name=signup.display_name,
            metadata_json=metadata_json(signup.metadata),
            now=now,
        )
        async with self._db.tenant(caller.require_client()) as tx:
            user = await users.insert(tx, new)
            if user is None:
                raise EmailTaken
            await store.insert(tx, user.id, password_hash, now)
            created = events.UserCreated(target_id=user.id, method=_METHOD)
            await self._outbox.emit(tx, created, caller, actor=_actor(user))
            await self._verification.send(tx, caller, user)
        return user

    async def _admit(
        self, caller: CallerContext, account: Account, attempt: Attempt, password: str, browser: Browser
    ) -> Outcome:
        """Pass a proven user on to the gate, and forget its failures when it is let in."""
        user, stored = account.user, account.password
        stronger = await self._stronger_hash(account, password)

        async def settle(tx: Tx) -> None:
            await self._lockouts.succeeded(tx, attempt)
            if stored and stronger and await store.replace_hash(tx, user.id, stored.hash, stronger):
                rehashed = events.PasswordRehashed(target_id=user.id, scheme=scheme_of(stronger))
                await self._outbox.emit(tx, rehashed, caller, actor=_actor(user))

        try:
            return await self._gate.admit(caller, user, Proof(Method.PASSWORD, _AMR), browser, settled=settle)
        except ProofOutdated:
            raise InvalidCredentials from None
        except AppError:
            await self._lockouts.release(attempt, caller)
            raise

    async def _stronger_hash(self, account: Account, password: str) -> str | None:
        """Hash the password anew when the stored hash is weaker than the policy; None when too busy."""
        if account.password is None or not self._hasher.policy.is_weaker(account.password.hash):
            return None
        try:
            return await self._hasher.hash(password)
        except (Overloaded, HashingInterrupted):
            return None

    async def _prove_current(
        self,
        caller: CallerContext,
        account: Account,
        email: Email,
        current: str,
        refusal: type[events.PasswordChangeFailed] | type[events.ReauthenticationFailed],
    ) -> int:
        """Check the current password and return its epoch; `refusal` is what is said when it is wrong."""
        user_id = account.user.id
        async with self._db.tenant(caller.require_client()) as tx:
            attempt = await self._lockouts.reserve(tx, email, caller)
        if isinstance(attempt, AccountLocked):
            locked = refusal(target_id=user_id, reason=attempt.code)
            await self._outbox.append(locked, caller)
            raise attempt
        stored = account.password
        try:
            matches = await self._hasher.verify(stored.hash if stored else None, current)
        except (Overloaded, HashingInterrupted):
            await self._lockouts.release(attempt, caller)
            raise
        if stored is None or not matches:
            failed = refusal(target_id=user_id, reason=WrongPassword.code)
            await self._fail(caller, attempt, failed, user_id)
            raise WrongPassword
        async with self._db.tenant(caller.require_client()) as tx:
            await self._lockouts.succeeded(tx, attempt)
        return stored.epoch

    async def _fail(
        self,
        caller: CallerContext,
        attempt: Attempt,
        event: DomainEvent,
        user_id: UserId | None,
        *,
        is_spray_counted: bool = False,
    ) -> None:
        """Remember a failed attempt; commits before the refusal is raised."""
        async with self._db.tenant(caller.require_client()) as tx:
            await self._outbox.emit(tx, event, caller)
            await self._lockouts.failed(tx, attempt, caller, user_id)
            if is_spray_counted:
                await self._sprays.failed(tx, caller, attempt)

    async def _is_trusted_network(self, caller: CallerContext) -> bool:
        """Whether the client's policy trusts the network: its own backend, from which all its users come."""
        client = await self._clients.get(caller.require_client())
        return is_listed(caller.ip, SecurityPolicy.of(client.settings).risk.trusted_ip_cidrs)

    def _login_failed(self, email: Email, user_id: UserId | None, reason: str) -> events.LoginFailed:
        email_hash = self._emails.hash(email).hex()
        return events.LoginFailed(target_id=user_id, method=_METHOD, reason=reason, email_hash=email_hash)


def _actor(user: User) -> Actor:
    return Actor(ActorType.USER, str(user.id))
