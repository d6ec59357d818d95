"""What the registry refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import Conflict, Forbidden, InvalidRequest, NotFound, Unauthenticated


class ApiKeyNotFound(NotFound):
    """The client has no live key with this id, or nobody has the presented one."""

    code = "api_key_not_found"
    detail = "There is no such API key."


class SlugTaken(Conflict):
    """Another client has the slug."""

    code = "slug_taken"
    detail = "Another client has this slug."


class AudienceTaken(Conflict):
    """Another client has a resource, and one of both takes client id metadata documents for its own."""

    code = "audience_taken"
    detail = (
        "Another client has one of these oidc_audiences. A resource whose client is found by it is of one."
    )


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


class InitialAccessTokenNotFound(NotFound):
    """The client has no initial access token with this id that is not revoked."""

    code = "initial_access_token_not_found"
    detail = "There is no such initial access token."


class TooManyInitialAccessTokens(Conflict):
    """The client has as many live initial access tokens as it may."""

    code = "too_many_initial_access_tokens"
    detail = "The client has as many live initial access tokens as it may. Revoke one first."


class RegistrationTokenRefused(Unauthenticated):
    """The initial or registration access token is unknown, used up, expired, revoked or of another app."""

    code = "invalid_token"
    detail = "The access token is missing or not valid here."


class InvalidRedirectUri(InvalidRequest):
    """A redirect URI of an app that registers itself is not acceptable (RFC 7591 §3.2.2)."""

    code = "invalid_redirect_uri"
    detail = "A redirect URI is not acceptable."


class InvalidClientMetadata(InvalidRequest):
    """The metadata of an app that registers itself is not acceptable (RFC 7591 §3.2.2)."""

    code = "invalid_client_metadata"
    detail = "The client metadata is not acceptable."


class UnapprovedSoftwareStatement(InvalidRequest):
    """An app that registers itself sent a software statement; nobody's are trusted (RFC 7591 §3.2.2)."""

    code = "unapproved_software_statement"
    detail = "Software statements are not accepted here. Register without one."


class TooManyRegisteredApps(Forbidden):
    """As many apps have registered themselves at the client as may."""

    code = "too_many_registered_apps"
    detail = "No more apps can register here."
