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


class AppNotFound(NotFound):
    """The client has no app with this id."""

    code = "app_not_found"
    detail = "There is no such app."


class AppSecretNotFound(NotFound):
    """The app has no live secret with this id."""

    code = "app_secret_not_found"
    detail = "There is no such secret."


class AppWithoutSecrets(Conflict):
    """The app proves itself otherwise, or not at all."""

    code = "app_without_secrets"
    detail = "The app does not prove itself by a secret. Change its token_endpoint_auth_method first."


class TooManyApps(Conflict):
    """The client has as many apps as it may."""

    code = "too_many_apps"
    detail = "The client has as many apps as it may. Delete one first."


class TooManyAppSecrets(Conflict):
    """The app has as many live secrets as it may."""

    code = "too_many_app_secrets"
    detail = "The app has as many live secrets as it may. Revoke one first."
