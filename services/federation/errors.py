"""What the provider refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import Forbidden, InvalidRequest, NotFound


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
