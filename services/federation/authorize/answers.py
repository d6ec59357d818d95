"""Answers to an app, in the browser's next request: a code or an error, with `state` and `iss`.

Redirects are 303, so that no browser sends a form of ours on to the app (RFC 9700 §4.12).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode, urlsplit

from fastapi import Response
from fastapi.responses import RedirectResponse

from chassis.errors import AppError, Kind
from contracts.apps import App
from services.federation.authorize.models import AuthorizationRequest, ResponseMode
from services.federation.pages.contents import Form, FormPostPage
from services.federation.pages.render import render

NO_STORE: Final = {"cache-control": "no-store", "referrer-policy": "no-referrer"}


class AuthorizationRefused(AppError):
    """The app is told by redirect, with a registered code in place of this one (RFC 6749 §4.1.2.1, …)."""

    kind = Kind.INVALID
    code = "authorization_refused"

    def __init__(self, code: str, detail: str) -> None:
        """Take the registered code, and what to tell the app's developer."""
        self.code = code
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes: a redirect URI of the app, by a mode, with the app's `state` if it sent one."""

    app: App
    redirect_uri: str
    response_mode: ResponseMode
    state: str | None
    languages: tuple[str, ...] = ()

    @classmethod
    def of(cls, request: AuthorizationRequest) -> Target:
        """The target of an accepted request."""
        return cls(
            request.app, request.redirect_uri, request.response_mode, request.state, request.ui_locales
        )


class Answers:
    """Writes answers in the issuer's name (RFC 9207: each says whose it is, against mix-up)."""

    def __init__(self, issuer: str) -> None:
        """Take the issuer, letter for letter."""
        self._issuer = issuer

    def code(self, target: Target, code: str) -> Response:
        """Hand the app its code (RFC 6749 §4.1.2)."""
        return self._answer(target, {"code": code})

    def refusal(self, target: Target, refused: AuthorizationRefused) -> Response:
        """Tell the app why it gets none (RFC 6749 §4.1.2.1)."""
        return self._answer(target, {"error": refused.code, "error_description": refused.detail})

    def _answer(self, target: Target, members: Mapping[str, str]) -> Response:
        state = {} if target.state is None else {"state": target.state}
        members = {**members, **state, "iss": self._issuer}
        match target.response_mode:
            case ResponseMode.QUERY:
                joint = "&" if urlsplit(target.redirect_uri).query else "?"
                return _redirect(f"{target.redirect_uri.rstrip('?')}{joint}{urlencode(members)}")
            case ResponseMode.FRAGMENT:
                return _redirect(f"{target.redirect_uri}#{urlencode(members)}")
            case ResponseMode.FORM_POST:
                # A form that sends itself, or by its button where scripts are off (Form Post §2).
                page = FormPostPage(Form(target.redirect_uri, members), target.app.name)
                return render(page, target.app.client, target.languages)


def see_other(path: str) -> RedirectResponse:
    """Send the browser to a page of ours."""
    return RedirectResponse(path, status_code=303, headers=NO_STORE)


def _redirect(location: str) -> Response:
    # Not `RedirectResponse`, which would encode a registered URI anew.
    return Response(status_code=303, headers={"location": location, **NO_STORE})
