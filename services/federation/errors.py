"""What the provider refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import Forbidden, InvalidRequest, NotFound, Unauthenticated


class AuthorizationRequestGone(InvalidRequest):
    """The page belongs to no request of this browser: unknown, answered, too old, or begun elsewhere."""

    code = "authorization_request_gone"
    detail = "This page is not valid any more. Go back to the app and start again."


class FormRefused(Forbidden):
    """The form was not made by our own page for this request (cross-site request forgery)."""

    code = "form_refused"
    detail = "This form is for our own page only. Go back and try again."


class ConsentNotFound(NotFound):
    """The user has given no such consent, or has taken it back."""

    code = "consent_not_found"
    detail = "There is no such consent."


class AppUnknown(InvalidRequest):
    """There is no such app, or it or its tenant is not active: nothing it says may be followed."""

    code = "app_unknown"
    detail = "The client_id is of no app, or not of one that is active."


class RedirectUriRefused(InvalidRequest):
    """The redirect URI is not the app's, so that no answer may go there (RFC 9700 §4.1.3)."""

    code = "redirect_uri_refused"
    detail = "The redirect_uri is none that is registered for this app, letter for letter."


class InvalidPushedRequest(InvalidRequest):
    """The `request_uri` stands for no request that the app has pushed: used, too old, or another's."""

    code = "invalid_request_uri"
    detail = "The request_uri is unknown, used before, or older than 90 seconds."


class InvalidAccessToken(Unauthenticated):
    """The access token is missing, forged, over, revoked, or not for this (RFC 6750 §3.1)."""

    code = "invalid_token"
    detail = "The access token is missing or not good here."


class InsufficientScope(Forbidden):
    """The access token is good, and for less than this (RFC 6750 §3.1)."""

    code = "insufficient_scope"
    detail = "The access token is not for this scope."


class LogoutRequestGone(InvalidRequest):
    """The page that asked whether to log out is too old, or was not of ours."""

    code = "logout_request_gone"
    detail = "This page is not valid any more. Go back to the app and log out again."


class RegistrationBodyRefused(InvalidRequest):
    """The body of a registration is no JSON document (RFC 7591 §3.1)."""

    code = "invalid_client_metadata"
    detail = "The body must be a JSON object."


class InvalidClient(Unauthenticated):
    """The app has not proven who it is, or is not active (RFC 6749 §5.2)."""

    code = "invalid_client"
    detail = "The client is unknown, or has not proven who it is."


class UnauthorizedClient(Forbidden):
    """The app may not use this grant (RFC 6749 §5.2)."""

    code = "unauthorized_client"
    detail = "This client may not use this grant."


class InvalidScope(InvalidRequest):
    """The scope is malformed, or the app may have nothing of it (RFC 6749 §5.2)."""

    code = "invalid_scope"
    detail = "The scope is malformed, or the client may have nothing of it."


class InvalidTarget(InvalidRequest):
    """The app may not ask for that resource (RFC 8707 §2)."""

    code = "invalid_target"
    detail = "The client may not ask for this resource."


class UserCodeUnknown(NotFound):
    """No device waits under the code that was typed, or not any more."""

    code = "user_code_unknown"
    detail = "No device waits for this code, or not any more."
