"""The event catalogue: everything that is audited, by the service that says it.

Fields hold ids and codes; never a secret, never an email address in the clear (`email_hash` is keyed per
installation).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from chassis.events import DomainEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class UserEvent(DomainEvent):
    """Something that happened to a user."""

    target_type: ClassVar[str | None] = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(DomainEvent):
    """Something that happened to a session."""

    target_type: ClassVar[str | None] = "session"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientEvent(DomainEvent):
    """Something that happened to a client (tenant)."""

    target_type: ClassVar[str | None] = "client"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppEvent(DomainEvent):
    """Something that happened to an OAuth app, or between a user and an app."""

    target_type: ClassVar[str | None] = "app"


# identity


@dataclass(frozen=True, slots=True, kw_only=True)
class UserCreated(UserEvent):
    """A user signed up, or was imported (`method` is `import`)."""

    type: ClassVar[str] = "user_created"
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUpdated(UserEvent):
    """A profile changed; `changed` names the fields. An admin's change shows status, role and the like."""

    type: ClassVar[str] = "user_updated"
    changed: tuple[str, ...]
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSuspended(UserEvent):
    """An admin suspended a user; its sessions ended and its tokens are dead."""

    type: ClassVar[str] = "user_suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserReactivated(UserEvent):
    """An admin let a suspended user in again; what it had been logged in to stays ended."""

    type: ClassVar[str] = "user_reactivated"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserUnlocked(UserEvent):
    """An admin took back the locks of a user's address; `was_locked` says whether attempts were counted."""

    type: ClassVar[str] = "user_unlocked"
    was_locked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSessionsRevoked(UserEvent):
    """An admin ended a user's sessions."""

    type: ClassVar[str] = "user_sessions_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class UserFactorsReset(UserEvent):
    """An admin removed a user's second factors and passkeys; its sessions ended."""

    type: ClassVar[str] = "user_factors_reset"
    factors: tuple[str, ...]
    passkeys: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersImported(ClientEvent):
    """An admin imported users; `is_complete` says whether the import came to its end."""

    type: ClassVar[str] = "users_imported"
    created: int
    skipped: int
    errors: int
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpersonationStarted(UserEvent):
    """An admin got a session in a user's name, for the reason it gave."""

    type: ClassVar[str] = "impersonation_started"
    opened_session_id: str
    reason: str
    seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserDeleted(UserEvent):
    """A user was deleted, with all that was held on it; the id stays taken."""

    type: ClassVar[str] = "user_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class DataExported(UserEvent):
    """A user got a copy of all that is held on it."""

    type: ClassVar[str] = "data_exported"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChangeRequested(UserEvent):
    """A user asked for another address; the present one was told."""

    type: ClassVar[str] = "email_change_requested"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChanged(UserEvent):
    """The new address of a user was confirmed and took the place of the old one."""

    type: ClassVar[str] = "email_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailChangeReverted(UserEvent):
    """A change was stopped, or taken back when it `was_changed`, from the old address; all sessions ended."""

    type: ClassVar[str] = "email_change_reverted"
    was_changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SignupRefused(DomainEvent):
    """A sign-up was refused by a rule; `reason` is the error code."""

    type: ClassVar[str] = "signup_refused"
    reason: str
    email_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSucceeded(UserEvent):
    """A user logged in; `factor` is the second one, when there was one."""

    type: ClassVar[str] = "login_succeeded"
    method: str
    factor: str | None = None
    opened_session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MfaChallenged(UserEvent):
    """A login was accepted so far and waits for a second factor, because of policy or risk."""

    type: ClassVar[str] = "mfa_challenged"
    method: str
    factors: tuple[str, ...]
    risk_level: str
    signals: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MfaEnrollmentRequired(UserEvent):
    """A login was accepted so far; the user must set up a second factor to get a session."""

    type: ClassVar[str] = "mfa_enrollment_required"
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskDetected(UserEvent):
    """A login with the right proof looked risky; `explanation` says why, and what became of it."""

    type: ClassVar[str] = "risk_detected"
    method: str
    level: str
    decision: str
    signals: tuple[str, ...]
    explanation: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginBlocked(UserEvent):
    """A login with the right proof was refused because of its risk; `explanation` says why."""

    type: ClassVar[str] = "login_blocked"
    method: str
    level: str
    signals: tuple[str, ...]
    explanation: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginSprayDetected(DomainEvent):
    """Wrong passwords for many addresses came from one source, which is refused for a while."""

    type: ClassVar[str] = "login_spray_detected"
    addresses: int
    locked_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmailVerified(UserEvent):
    """A user showed that it reads its mail; `was_taken_back`: all credentials of before are void."""

    type: ClassVar[str] = "email_verified"
    was_taken_back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordResetRequested(DomainEvent):
    """Somebody asked for a mail to reset the password of an address, which need not have an account."""

    type: ClassVar[str] = "password_reset_requested"
    email_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MagicLinkRequested(DomainEvent):
    """Somebody asked for a mail to log in by, for an address that need not have an account."""

    type: ClassVar[str] = "magic_link_requested"
    email_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordReset(UserEvent):
    """A user chose a new password by a mailed link; sessions, waiting logins and other links are void."""

    type: ClassVar[str] = "password_reset"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailEvent(DomainEvent):
    """Something that happened to a mail; `template` is what it is about."""

    target_type: ClassVar[str | None] = "mail"
    template: str
    email_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MailQueued(MailEvent):
    """A user is to get a mail."""

    type: ClassVar[str] = "mail_queued"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailSent(MailEvent):
    """A mail was handed over to be delivered."""

    type: ClassVar[str] = "mail_sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailFailed(MailEvent):
    """A mail was given up, after all tries or because it was refused for good."""

    type: ClassVar[str] = "mail_failed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEvent(DomainEvent):
    """Something that happened to a remembered device."""

    target_type: ClassVar[str | None] = "device"
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTrusted(DeviceEvent):
    """A device is trusted for `days`: it may skip the second factor where policy allows it."""

    type: ClassVar[str] = "device_trusted"
    days: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceDistrusted(DeviceEvent):
    """The trust of a device ended before its time; `reason` is `by_owner` or `copied`."""

    type: ClassVar[str] = "device_distrusted"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRemoved(DeviceEvent):
    """A device was forgotten."""

    type: ClassVar[str] = "device_removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginFailed(UserEvent):
    """A login failed; `target_id` is set when the account exists, `email_hash` when an address is known."""

    type: ClassVar[str] = "login_failed"
    method: str
    reason: str
    email_hash: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountLocked(UserEvent):
    """Repeated failures locked the logins of an address."""

    type: ClassVar[str] = "account_locked"
    email_hash: str
    failures: int
    locked_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondFactorRefused(UserEvent):
    """A code of a second factor was refused; `reason` is `wrong_code` or `account_locked`."""

    type: ClassVar[str] = "second_factor_refused"
    factor: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReauthenticationFailed(UserEvent):
    """A user gave a wrong password for a change that needs it, or too many; `reason` is the error code."""

    type: ClassVar[str] = "reauthentication_failed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpEnabled(UserEvent):
    """A user set up an authenticator app; `replaced` says that it took the place of another."""

    type: ClassVar[str] = "totp_enabled"
    replaced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class TotpDisabled(UserEvent):
    """A user gave up the authenticator app, and the recovery codes with it."""

    type: ClassVar[str] = "totp_disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCodesReplaced(UserEvent):
    """A user got new recovery codes; the earlier ones are void."""

    type: ClassVar[str] = "recovery_codes_replaced"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCodeUsed(UserEvent):
    """A recovery code was used; `remaining` are left."""

    type: ClassVar[str] = "recovery_code_used"
    remaining: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedActionEvent(DomainEvent):
    """What the step-up guard did before a protected action; `resource` is what the action is done to."""

    action: str
    resource: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpChallenged(ProtectedActionEvent):
    """A protected action needs a fresh proof, because of policy or of risk at this `level`."""

    type: ClassVar[str] = "step_up_challenged"
    factors: tuple[str, ...]
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpVerified(ProtectedActionEvent):
    """The proof was given, by this factor; it is good for this action once."""

    type: ClassVar[str] = "step_up_verified"
    factor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepUpRefused(ProtectedActionEvent):
    """A proof was shown that is of something or somebody else, too old, or used."""

    type: ClassVar[str] = "step_up_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedActionBlocked(ProtectedActionEvent):
    """Policy, or risk at this `level`, refused a protected action."""

    type: ClassVar[str] = "protected_action_blocked"
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedActionNoticed(ProtectedActionEvent):
    """A protected action went on without a proof, as policy says, and is noted."""

    type: ClassVar[str] = "protected_action_noticed"
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChanged(UserEvent):
    """A user replaced the password; all other sessions ended."""

    type: ClassVar[str] = "password_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordChangeFailed(UserEvent):
    """A change of password was refused."""

    type: ClassVar[str] = "password_change_failed"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasswordRehashed(UserEvent):
    """A login brought the stored hash up to the configured strength."""

    type: ClassVar[str] = "password_rehashed"
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRegistered(UserEvent):
    """A user added a passkey."""

    type: ClassVar[str] = "passkey_registered"
    passkey_id: str
    aaguid: str
    attestation_format: str
    user_verified: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRegistrationRefused(UserEvent):
    """A new passkey was refused; `reason` is the error code."""

    type: ClassVar[str] = "passkey_registration_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRenamed(UserEvent):
    """A user named a passkey."""

    type: ClassVar[str] = "passkey_renamed"
    passkey_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyRemoved(UserEvent):
    """A user removed a passkey."""

    type: ClassVar[str] = "passkey_removed"
    passkey_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PasskeyCloneSuspected(UserEvent):
    """A passkey's counter did not grow: a copy of its key may be in use. The login was refused."""

    type: ClassVar[str] = "passkey_clone_suspected"
    passkey_id: str
    stored_count: int
    shown_count: int


class AdminEvent(DomainEvent):
    """Something that happened to an admin."""

    target_type: ClassVar[str | None] = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminCreated(AdminEvent):
    """An admin was added."""

    type: ClassVar[str] = "admin_created"
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminUpdated(AdminEvent):
    """An admin was changed; of passwords and secrets only that they were."""

    type: ClassVar[str] = "admin_updated"
    changed: tuple[str, ...]
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminDeleted(AdminEvent):
    """An admin was removed; its tokens are dead."""

    type: ClassVar[str] = "admin_deleted"
    before: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminMfaEnabled(AdminEvent):
    """An admin set up an authenticator app."""

    type: ClassVar[str] = "admin_mfa_enabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLoginSucceeded(AdminEvent):
    """An admin logged in and got a token; `amr` says by what."""

    type: ClassVar[str] = "admin_login_succeeded"
    amr: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminFactorRefused(AdminEvent):
    """A code that an admin showed for a challenge was refused; `reason` is the error code."""

    type: ClassVar[str] = "admin_factor_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminLoginFailed(AdminEvent):
    """An admin's login failed; `target_id` is set when there is one, `locks` when it was one too many."""

    type: ClassVar[str] = "admin_login_failed"
    reason: str
    email_hash: str
    locks: bool


# token


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionOpened(SessionEvent):
    """A session began; `impersonator_id` says who acts in the user's name.

    With an `app_id` it is a grant: what the user, logged in with the session `parent_id`, allowed an app.
    """

    type: ClassVar[str] = "session_opened"
    user_id: str
    amr: tuple[str, ...]
    impersonator_id: str | None = None
    app_id: str | None = None
    parent_id: str | None = None
    scope: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefreshed(SessionEvent):
    """A refresh token was rotated."""

    type: ClassVar[str] = "session_refreshed"
    user_id: str
    app_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRevoked(SessionEvent):
    """A session ended before its time, for a `reason` such as `logout` or `password_changed`.

    With an `app_id` it was a grant to an app, made when the user was logged in with the session `parent_id`.
    Otherwise `kept_app_ids` are the apps that were let in with it and keep their access (`offline_access`).
    """

    type: ClassVar[str] = "session_revoked"
    user_id: str
    reason: str
    app_id: str | None = None
    parent_id: str | None = None
    kept_app_ids: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTokenReuseDetected(SessionEvent):
    """A used refresh token came back: the session and all its tokens are dead."""

    type: ClassVar[str] = "refresh_token_reuse_detected"
    user_id: str
    app_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtSecretRotated(ClientEvent):
    """The client's JWT secret was replaced; its HS256 tokens are dead."""

    type: ClassVar[str] = "jwt_secret_rotated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientTokensRevoked(ClientEvent):
    """An admin revoked all access tokens that the client's users and service accounts held."""

    type: ClassVar[str] = "client_tokens_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRotated(ClientEvent):
    """The next signing key became active: a client's, or without a client the issuer's own."""

    type: ClassVar[str] = "signing_key_rotated"
    alg: str
    active_kid: str
    next_kid: str
    retiring_kid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeyRevoked(ClientEvent):
    """A signing key was revoked in an emergency, and its tokens are dead: a client's, or the issuer's own.

    `status` is where it stood; the other keys are those of its owner since then.
    """

    type: ClassVar[str] = "signing_key_revoked"
    alg: str
    kid: str
    status: str
    active_kid: str | None
    next_kid: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountEvent(DomainEvent):
    """Something that happened to a service account."""

    target_type: ClassVar[str | None] = "service_account"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountCreated(ServiceAccountEvent):
    """A service account was created."""

    type: ClassVar[str] = "service_account_created"
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountUpdated(ServiceAccountEvent):
    """A service account changed; disabled, its tokens are dead."""

    type: ClassVar[str] = "service_account_updated"
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountDeleted(ServiceAccountEvent):
    """A service account was deleted, and its tokens with it."""

    type: ClassVar[str] = "service_account_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountKeyCreated(ServiceAccountEvent):
    """A service account got another secret."""

    type: ClassVar[str] = "service_account_key_created"
    key_id: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountKeyRotated(ServiceAccountEvent):
    """A secret was replaced; the old one works for `grace_seconds` more."""

    type: ClassVar[str] = "service_account_key_rotated"
    key_id: str
    new_key_id: str
    prefix: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAccountKeyRevoked(ServiceAccountEvent):
    """A secret was revoked, and with it the tokens that were got with it."""

    type: ClassVar[str] = "service_account_key_revoked"
    key_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTokenIssued(ServiceAccountEvent):
    """A service account got an access token (RFC 6749 §4.4)."""

    type: ClassVar[str] = "machine_token_issued"
    scope: str
    key_id: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineTokenRefused(ServiceAccountEvent):
    """A service account, or who says to be one, was refused at the token endpoint."""

    type: ClassVar[str] = "machine_token_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRefused(AppEvent):
    """An app, or who says to be one, was refused at an OAuth endpoint; `reason` is the error code."""

    type: ClassVar[str] = "app_refused"
    reason: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppTokenIssued(AppEvent):
    """An app got an access token of its own, for no user (RFC 6749 §4.4)."""

    type: ClassVar[str] = "app_token_issued"
    scope: str
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchanged(AppEvent):
    """An app exchanged the token `token_id` for one of its own (RFC 8693); `actor` acts for `subject`."""

    type: ClassVar[str] = "token_exchanged"
    subject: str
    actor: str
    scope: str
    token_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRevoked(DomainEvent):
    """An access token was revoked by the app or service account that got it (RFC 7009)."""

    type: ClassVar[str] = "token_revoked"
    target_type: ClassVar[str | None] = "token"
    subject: str
    app_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAnswered(AppEvent):
    """A user answered the request of a device (RFC 8628)."""

    type: ClassVar[str] = "device_answered"
    is_approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeReuseDetected(SessionEvent):
    """A used authorization code came back: the grant that it gave is over."""

    type: ClassVar[str] = "code_reuse_detected"
    user_id: str
    app_id: str


# orgs


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCreated(ClientEvent):
    """A client was created."""

    type: ClassVar[str] = "client_created"
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientUpdated(ClientEvent):
    """A client's settings changed; secrets in `before` and `after` are masked."""

    type: ClassVar[str] = "client_updated"
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyCreated(DomainEvent):
    """An API key was added."""

    type: ClassVar[str] = "api_key_created"
    target_type: ClassVar[str | None] = "api_key"
    kind: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRevoked(DomainEvent):
    """An API key was revoked, or will be after `grace_seconds`."""

    type: ClassVar[str] = "api_key_revoked"
    target_type: ClassVar[str | None] = "api_key"
    kind: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKeyRotated(ClientEvent):
    """The client's secret keys were replaced by a new one."""

    type: ClassVar[str] = "api_key_rotated"
    prefix: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppCreated(AppEvent):
    """An app was created by an admin, or registered itself (`method` is `registration`)."""

    type: ClassVar[str] = "app_created"
    method: str
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppUpdated(AppEvent):
    """An app changed; `before` and `after` hold what did."""

    type: ClassVar[str] = "app_updated"
    before: dict[str, Any]
    after: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppDeleted(AppEvent):
    """An app was deleted, with all its secrets."""

    type: ClassVar[str] = "app_deleted"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSecretCreated(AppEvent):
    """An app got another secret."""

    type: ClassVar[str] = "app_secret_created"
    secret_id: str
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSecretRotated(AppEvent):
    """A secret of an app was replaced; the old one works for `grace_seconds` more."""

    type: ClassVar[str] = "app_secret_rotated"
    secret_id: str
    new_secret_id: str
    prefix: str
    grace_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppSecretRevoked(AppEvent):
    """A secret of an app was revoked."""

    type: ClassVar[str] = "app_secret_revoked"
    secret_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientIdDocumentRefused(ClientEvent):
    """An app that describes itself at a URL was refused; `reason` says what is wrong with the document."""

    type: ClassVar[str] = "client_id_document_refused"
    host: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialAccessTokenEvent(DomainEvent):
    """Something that happened to what lets apps register."""

    target_type: ClassVar[str | None] = "initial_access_token"


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialAccessTokenCreated(InitialAccessTokenEvent):
    """An admin lets apps register, as many as `max_uses`."""

    type: ClassVar[str] = "initial_access_token_created"
    prefix: str
    max_uses: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialAccessTokenRevoked(InitialAccessTokenEvent):
    """What let apps register was revoked."""

    type: ClassVar[str] = "initial_access_token_revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppRegistrationRefused(InitialAccessTokenEvent):
    """An app with a good initial access token could not register; `reason` is the error code."""

    type: ClassVar[str] = "app_registration_refused"
    reason: str


# gateway, by way of audit


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminKeyRefused(DomainEvent):
    """A wrong admin key was presented."""

    type: ClassVar[str] = "admin_key_refused"
    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialRefused(DomainEvent):
    """A bad API key or access token was presented; `reason` is the error code."""

    type: ClassVar[str] = "credential_refused"
    reason: str
    method: str
    path: str


# federation


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationGranted(DomainEvent):
    """A user let an app have a code; `session_id` is of the login at the issuer."""

    type: ClassVar[str] = "authorization_granted"
    target_type: ClassVar[str | None] = "app"
    session_id: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizationRefused(DomainEvent):
    """An app was sent no answer, as its request asked for one at an address that is not the app's."""

    type: ClassVar[str] = "authorization_refused"
    target_type: ClassVar[str | None] = "app"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentEvent(DomainEvent):
    """Something that happened to what a user agreed to at an app."""

    target_type: ClassVar[str | None] = "consent"
    app_id: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentGranted(ConsentEvent):
    """A user agreed to what an app asked for."""

    type: ClassVar[str] = "consent_granted"
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentRefused(ConsentEvent):
    """A user did not agree to what an app asked for."""

    type: ClassVar[str] = "consent_refused"
    resources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsentWithdrawn(ConsentEvent):
    """A user took back what it had agreed to; what the app was granted has ended."""

    type: ClassVar[str] = "consent_withdrawn"
    user_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutDelivered(AppEvent):
    """An app was told, by back-channel, that the login `login_session_id` has ended."""

    type: ClassVar[str] = "logout_delivered"
    user_id: str
    login_session_id: str
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutDeliveryFailed(AppEvent):
    """An app could not be told that a login has ended: it refused, or did not answer for a day."""

    type: ClassVar[str] = "logout_delivery_failed"
    user_id: str
    login_session_id: str
    attempts: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutRefused(AppEvent):
    """A logout that an app asked for was not believed; `reason` says why. Nothing has ended."""

    type: ClassVar[str] = "logout_refused"
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceRequested(AppEvent):
    """A device asked for access and shows a code."""

    type: ClassVar[str] = "device_requested"
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCodesGuessed(DomainEvent):
    """An address typed so many codes that no device shows that it may type no more for a while."""

    type: ClassVar[str] = "device_codes_guessed"


# audit


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditChainChecked(DomainEvent):
    """Someone verified an audit chain."""

    type: ClassVar[str] = "audit_chain_checked"
    intact: bool
