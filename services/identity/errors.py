"""What identity refuses, with the codes of the contract."""

from __future__ import annotations

from chassis.errors import (
    BodyTooLarge,
    Conflict,
    FieldError,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unauthenticated,
    Unavailable,
    UnprocessableRequest,
)


class InvalidCredentials(Unauthenticated):
    """The email or the password is wrong, or the user may not log in; which of them is never said."""

    code = "invalid_credentials"
    detail = "Email or password is wrong."


class InvalidAssertion(Unauthenticated):
    """The assertion about an admin is not good, was used, or is about nobody; which is never said."""

    code = "invalid_assertion"
    detail = "The assertion is not valid, or no admin has this identity."


class NotOffered(Forbidden):
    """The client's login page does not offer this: by its settings, or the installation's."""

    code = "not_offered"
    detail = "The login page of this client does not offer this."


class ProofOutdated(Unauthenticated):
    """What proved the user became void before the login was done; each way in refuses it in its own words."""

    code = "proof_outdated"
    detail = "This login is not valid any more. Start again."


class InvalidMfaToken(Unauthenticated):
    """No login waits behind the token: unknown, another client's, too old, completed, or tried too often."""

    code = "invalid_mfa_token"
    detail = "This login is not waiting for a second factor any more. Log in again."


class LoginBlocked(Forbidden):
    """The proof was right, and the client's policy refuses logins as risky as this one."""

    code = "login_blocked"
    detail = "This login was blocked because it looks unsafe. Try from a place or device you use often."


class MfaSessionRequired(Forbidden):
    """The session was opened without a second factor, and what is asked for weakens the second factor."""

    code = "mfa_session_required"
    detail = "Log in with your second factor to do this."


class DeviceTrustOff(Conflict):
    """The client's policy lets no device be trusted."""

    code = "device_trust_off"
    detail = "Devices cannot be trusted here."


class WrongPassword(Forbidden):
    """The current password that a user gave is wrong; not a 401, because the access token is good."""

    code = "wrong_password"
    detail = "The current password is wrong."


class WrongPasskey(Forbidden):
    """The passkey that a user showed is not one of its own, or its answer is not good; see `WrongCode`."""

    code = "wrong_passkey"
    detail = "The passkey was not accepted."


class InvalidMfaCode(Unauthenticated):
    """The second factor of a login is wrong or was used; the login goes on waiting for another."""

    code = "invalid_mfa_code"
    detail = "The code is wrong or was used before."


class WrongCode(Forbidden):
    """The code that a user gave is wrong or was used; not a 401, because the access token is good."""

    code = "wrong_code"
    detail = "The code is wrong or was used before."


class InvalidChallenge(Forbidden):
    """No such challenge of this caller waits: unknown, of another session, too old, answered, or used up."""

    code = "invalid_challenge"
    detail = "This challenge does not wait any more. Send the protected request again for another."


class FactorNotOffered(Forbidden):
    """The challenge cannot be answered by this factor; those it takes were in its `factors`."""

    code = "factor_not_offered"
    detail = "This challenge does not take that factor."


class MfaAlreadyEnabled(Conflict):
    """A second factor is set up already; the token for its first set-up is good for nothing any more."""

    code = "mfa_already_enabled"
    detail = "A second factor is set up already."


class MfaNotEnabled(Conflict):
    """The user has set up no second factor."""

    code = "mfa_not_enabled"
    detail = "No second factor is set up."


class MfaRequiredByPolicy(Forbidden):
    """The client demands a second factor of everybody, so that the last one cannot be given up."""

    code = "mfa_required_by_policy"
    detail = "A second factor is required here and cannot be turned off."


class NoPendingSetup(Conflict):
    """Nothing is being set up: not begun, too old, replaced, or the factors changed since."""

    code = "no_pending_setup"
    detail = "There is no set-up to complete. Begin again."


class InvalidLink(InvalidRequest):
    """The token of a mailed link opens nothing: unknown, used, replaced, too old, or of another state."""

    code = "invalid_link"
    detail = "This link is not valid any more. Ask for a new one."


class RedirectNotAllowed(UnprocessableRequest):
    """The page to return to is not at an origin that the client allows."""

    code = "redirect_not_allowed"
    detail = "The redirect URL is not at an allowed origin of this client."


class EmailAlreadyVerified(Conflict):
    """The user's address is verified already."""

    code = "email_already_verified"
    detail = "The email address is verified already."


class AccountLocked(RateLimited):
    """Too many wrong passwords or codes, whether or not there is an account."""

    code = "account_locked"
    detail = "Too many failed attempts. Try again later."


class SourceLocked(RateLimited):
    """Passwords from this network failed at many addresses of the client, whether or not they exist."""

    code = "source_locked"
    detail = "Too many failed logins came from this network. Try again later."


class EmailTaken(Conflict):
    """The client has a user with this address."""

    code = "email_taken"
    detail = "There is an account with this email address."


class InvalidEmail(UnprocessableRequest):
    """The address is not one that mail could be sent to unambiguously."""

    code = "invalid_email"
    detail = "The email address is not valid."

    def __init__(self, reason: str) -> None:
        """Say what is wrong, without repeating the address."""
        super().__init__(errors=(FieldError("email", self.code, reason),))


class EmailDomainBlocked(UnprocessableRequest):
    """The address is at a domain of disposable mailboxes."""

    code = "email_domain_blocked"
    detail = "Email addresses at this domain are not accepted."


class CaptchaRequired(UnprocessableRequest):
    """The request must carry the token of a solved CAPTCHA."""

    code = "captcha_required"
    detail = "Solve the CAPTCHA and send its token as captcha_token."


class CaptchaFailed(UnprocessableRequest):
    """The token of the CAPTCHA is not good, or was used before."""

    code = "captcha_failed"
    detail = "The CAPTCHA was not solved, or its token is too old. Try again."


class CaptchaUnavailable(Unavailable):
    """The CAPTCHA's provider does not answer, and without its word nobody is let in."""

    code = "captcha_unavailable"
    detail = "The CAPTCHA cannot be checked right now. Try again shortly."


class WeakPassword(UnprocessableRequest):
    """The password breaks the policy; `errors` names each broken rule."""

    code = "weak_password"
    detail = "The password does not meet the policy."


class PasswordChangedMeanwhile(Conflict):
    """Another request changed the password first."""

    code = "password_changed_meanwhile"
    detail = "The password was changed by another request."


class Overloaded(Unavailable):
    """As many passwords wait to be hashed as may."""

    code = "overloaded"
    detail = "Too many logins at once. Try again shortly."


class HashingInterrupted(Unavailable):
    """The process that was hashing the password died."""

    code = "hashing_interrupted"
    detail = "The password could not be checked. Try again."


class SessionUnavailable(Unavailable):
    """The account was created but a session could not be opened."""

    code = "session_unavailable"
    detail = "The account was created, but a session could not be opened. Log in to continue."


class HashNotSupported(UnprocessableRequest):
    """A password hash of an import is of no known form, or evaluating it would cost too much."""

    code = "hash_not_supported"
    detail = "The password hash is of no form that can be verified, or too costly."


class LineUnreadable(InvalidRequest):
    """A line of an import is no JSON object."""

    code = "line_unreadable"
    detail = "The line is not a JSON object."


class LineTooLong(BodyTooLarge):
    """A line of an import is longer than any user is."""

    code = "line_too_long"
    detail = "The line is longer than 64 KiB."


class UploadBroken(InvalidRequest):
    """The body of an import ended before its end; what was read before is imported."""

    code = "upload_broken"
    detail = "The body ended early. Lines that were reported are imported."


class UserNotFound(NotFound):
    """The client has no such user."""

    code = "user_not_found"
    detail = "The client has no such user."


class UserNotActive(Conflict):
    """The user, or its client, is suspended: nobody may act in its name."""

    code = "user_not_active"
    detail = "The user or its client is suspended."


class ChangeNotSpread(Unavailable):
    """What an admin changed is stored, and the token service does not know it yet."""

    code = "change_not_spread"
    detail = "The change is stored. Sessions and tokens do not follow it yet; they will, shortly."


class SessionsNotEnded(Unavailable):
    """The password was changed, and the other sessions are still being ended."""

    code = "sessions_not_ended"
    detail = "The password was changed. The other sessions could not be ended yet; they will be, shortly."


class PasskeyNotFound(NotFound):
    """The user has no passkey with this id."""

    code = "passkey_not_found"
    detail = "There is no such passkey."


class InvalidPasskeyRegistration(InvalidRequest):
    """What should register a passkey is not what any authenticator makes."""

    code = "invalid_passkey_registration"
    detail = "The passkey's answer is malformed."


class PasskeySessionUnknown(InvalidRequest):
    """No registration of the user in this session waits for the answer: too old, or answered before."""

    code = "passkey_session_unknown"
    detail = "This registration is not waiting for an answer any more. Begin again."


class PasskeyRefused(Forbidden):
    """A check of a registration failed; the detail says which."""

    code = "passkey_refused"
    detail = "The passkey is not accepted."


class PasskeyKnown(Conflict):
    """The passkey is registered already; whose it is is not said."""

    code = "passkey_known"
    detail = "This passkey is registered already."


class TooManyPasskeys(Conflict):
    """The user has as many passkeys as one may."""

    code = "too_many_passkeys"
    detail = "Remove a passkey to register another one."


class InvalidPasskeyAnswer(InvalidRequest):
    """What should log in by passkey is not what any authenticator makes."""

    code = "invalid_passkey_answer"
    detail = "The passkey's answer is malformed."


class InvalidPasskeySession(Unauthenticated):
    """No login by passkey waits for the answer: unknown, another client's, too old, or answered before."""

    code = "invalid_passkey_session"
    detail = "This login is not waiting for a passkey any more. Begin again."


class InvalidPasskey(Unauthenticated):
    """The passkey, its answer or its user is not good; which of them is never said."""

    code = "invalid_passkey"
    detail = "The passkey was not accepted."


class PasskeysMisconfigured(Unavailable):
    """The client's `webauthn_*` settings contradict each other."""

    code = "passkeys_misconfigured"
    detail = "Passkeys are not set up for this application."


class AdminNotFound(NotFound):
    """There is no such admin in the caller's scope."""

    code = "admin_not_found"
    detail = "There is no such admin."


class AdminExists(Conflict):
    """Another admin has the address, or the identity at a provider."""

    code = "admin_exists"
    detail = "There is an admin with this address or identity."


class LastOwner(Conflict):
    """Nobody would own the installation any more."""

    code = "last_owner"
    detail = "This is the last owner. Make another one first."


class RightsTooNarrow(Forbidden):
    """An admin has, or would get, rights that the caller has not."""

    code = "rights_too_narrow"
    detail = "You can neither give nor change rights that you do not have."
