"""What the token service refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import Conflict, InvalidRequest, NotFound, Unauthenticated


class InvalidRefreshToken(Unauthenticated):
    """The refresh token opens nothing: unknown, used, expired or another's; which is never said."""

    code = "invalid_refresh_token"
    detail = "The refresh token is not valid."


class InvalidCode(InvalidRequest):
    """A redirect's code opens nothing: unknown, used, too old or another client's; which is never said."""

    code = "invalid_code"
    detail = "The code is not valid any more. Log in again."


class SessionRefused(Unauthenticated):
    """A session cannot be opened: the user or the client is not active."""

    code = "session_refused"
    detail = "No session can be opened for this user."


class SessionNotFound(NotFound):
    """The user has no live session with this id."""

    code = "session_not_found"
    detail = "There is no such session."


class StatusListNotFound(NotFound):
    """No session has a place in this status list."""

    code = "status_list_not_found"
    detail = "There is no such status list."


class RotationTooSoon(Conflict):
    """The next key was published so recently that some validators may not know it yet."""

    code = "rotation_too_soon"
    detail = "The next key is not known to every validator yet. Wait, or force it."


class ServiceAccountNotFound(NotFound):
    """The client has no such service account."""

    code = "service_account_not_found"
    detail = "There is no such service account."


class ServiceAccountKeyNotFound(NotFound):
    """The service account has no such live secret."""

    code = "service_account_key_not_found"
    detail = "The service account has no such key, or not any more."


class TooManyServiceAccounts(Conflict):
    """The client has as many service accounts as it may."""

    code = "too_many_service_accounts"
    detail = "This client has as many service accounts as it may. Delete one first."


class TooManyServiceAccountKeys(Conflict):
    """The service account has as many live secrets as it may."""

    code = "too_many_service_account_keys"
    detail = "This service account has as many live keys as it may. Revoke one first."


class InvalidClient(Unauthenticated):
    """The client is not who it says, may not be used, or proves itself in two ways (RFC 6749 §5.2)."""

    code = "invalid_client"
    detail = "The client's credentials are missing or not valid."


class InvalidScope(InvalidRequest):
    """More is asked for than the client may have (RFC 6749 §5.2)."""

    code = "invalid_scope"
    detail = "The scope is malformed, or more than this client may have."


class InvalidGrant(InvalidRequest):
    """A code or refresh token opens nothing: unknown, used, expired or another's (RFC 6749 §5.2)."""

    code = "invalid_grant"
    detail = "The code or token is not valid, not any more, or not for this client."


class UnauthorizedClient(InvalidRequest):
    """The client may not use this grant (RFC 6749 §5.2)."""

    code = "unauthorized_client"
    detail = "This client may not use this grant."


class AuthorizationPending(InvalidRequest):
    """The device's user has not answered yet (RFC 8628 §3.5)."""

    code = "authorization_pending"
    detail = "The user has not answered yet. Ask again."


class SlowDown(InvalidRequest):
    """The device asks too often (RFC 8628 §3.5)."""

    code = "slow_down"
    detail = "You ask too often. Wait five seconds longer between two questions."


class ExpiredToken(InvalidRequest):
    """The device's code is too old (RFC 8628 §3.5)."""

    code = "expired_token"
    detail = "The device code has expired. Begin anew."


class AccessDenied(InvalidRequest):
    """The user has refused (RFC 8628 §3.5)."""

    code = "access_denied"
    detail = "The user has refused."


class InvalidTarget(InvalidRequest):
    """A resource or audience is not one that the client may have (RFC 8707 §2)."""

    code = "invalid_target"
    detail = "The resource is not one that this client may ask for."


class LoginSessionNotFound(NotFound):
    """The user is not logged in with this session, or not any more."""

    code = "login_session_not_found"
    detail = "There is no such login."


class DeviceRequestNotFound(NotFound):
    """No device waits under this code, or not any more."""

    code = "device_request_not_found"
    detail = "No device waits for this code, or not any more."


class UnsupportedGrantType(InvalidRequest):
    """The token endpoint does not know the grant (RFC 6749 §5.2)."""

    code = "unsupported_grant_type"
    detail = "This grant type is not supported here."


class SigningKeyNotFound(NotFound):
    """There is no such signing key, or not any more."""

    code = "signing_key_not_found"
    detail = "There is no such signing key, or not any more."


class NoSigningKeys(Conflict):
    """The client's tokens are signed with its JWT secret."""

    code = "no_signing_keys"
    detail = "This client's token mode is v1_hs256: it has a JWT secret and no signing keys."
