"""What `identity` says of users."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from chassis.events import DomainEvent
from contracts.events.targets import ClientEvent, UserEvent


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
