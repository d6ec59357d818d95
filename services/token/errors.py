"""What the token service refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import Conflict, InvalidRequest, NotFound, Unauthenticated


class InvalidRefreshToken(Unauthenticated):
    """The refresh token opens nothing: unknown, used, expired or another's; which is never said."""

    code = "invalid_refresh_token"
    detail = "The refresh token is not valid."


class SessionRefused(Unauthenticated):
    """A session cannot be opened: the user or the client is not active."""

    code = "session_refused"
    detail = "No session can be opened for this user."


class SessionNotFound(NotFound):
    """The user has no live session with this id."""

    code = "session_not_found"
    detail = "There is no such session."


class ClientIdRequired(InvalidRequest):
    """The keys of all clients are too many for one set; it must be said whose are wanted."""

    code = "client_id_required"
    detail = "There are too many clients for one key set. Say with client_id whose keys you want."


class RotationTooSoon(Conflict):
    """The next key was published so recently that some validators may not know it yet."""

    code = "rotation_too_soon"
    detail = "The next key is not known to every validator yet. Wait, or force it."


class NoSigningKeys(Conflict):
    """The client's tokens are signed with its JWT secret."""

    code = "no_signing_keys"
    detail = "This client's token mode is v1_hs256: it has a JWT secret and no signing keys."
