"""What the registry refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import Conflict, NotFound


class ApiKeyNotFound(NotFound):
    """The client has no live key with this id, or nobody has the presented one."""

    code = "api_key_not_found"
    detail = "There is no such API key."


class SlugTaken(Conflict):
    """Another client has the slug."""

    code = "slug_taken"
    detail = "Another client has this slug."


class TokenModeDowngrade(Conflict):
    """A move from public keys back to a shared secret that was not asked for by name."""

    code = "token_mode_downgrade"
    detail = (
        "v1_hs256 signs with a shared secret, which is weaker than the client's present mode. "
        "Send allow_token_mode_downgrade: true to change it anyway."
    )


class TooManyApiKeys(Conflict):
    """The client has as many live keys as it may."""

    code = "too_many_api_keys"
    detail = "The client has as many live API keys as it may. Revoke one first."
