"""Answers to an app, in the browser's next request: a code or an error, with `state` and `iss`.

Redirects are 303, so that no browser sends a form of ours on to the app (RFC 9700 §4.12).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import urlencode, urlsplit

from fastapi import Response
from fastapi.responses import HTMLResponse, RedirectResponse

from chassis.errors import AppError, Kind
from services.federation.authorize.models import AuthorizationRequest, ResponseMode

NO_STORE: Final = {"cache-control": "no-store", "referrer-policy": "no-referrer"}

_SUBMIT: Final = "document.forms[0].submit()"
_SUBMIT_HASH: Final = base64.b64encode(hashlib.sha256(_SUBMIT.encode()).digest()).decode()


class AuthorizationRefused(AppError):
    """An error that the app is told by redirect; `code` is registered (RFC 6749 §4.1.2.1 and its kin)."""

    kind = Kind.INVALID

    def __init__(self, code: str, detail: str) -> None:
        """Take the registered code, and what to tell the app's developer."""
        self.code = code
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an answer goes: a redirect URI that was checked, by a mode, with the app's `state` if sent."""

    redirect_uri: str
    response_mode: ResponseMode
    state: str | None

    @classmethod
    def of(cls, request: AuthorizationRequest) -> Target:
        """The target of an accepted request."""
        return cls(request.redirect_uri, request.response_mode, request.state)


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
                return _form(target.redirect_uri, members)


def form_target(redirect_uri: str) -> str:
    """Return what the `form-action` of a page must allow beside `'self'`, so that its answer reaches the app.

    Browsers count redirects as part of a submission, also those that the app makes on; so the scheme it is.
    """
    return f"{urlsplit(redirect_uri).scheme}:"


def see_other(path: str) -> RedirectResponse:
    """Send the browser to a page of ours."""
    return RedirectResponse(path, status_code=303, headers=NO_STORE)


def _redirect(location: str) -> Response:
    # Not `RedirectResponse`, which would encode a registered URI anew.
    return Response(status_code=303, headers={"location": location, **NO_STORE})


def _form(action: str, members: Mapping[str, str]) -> Response:
    """Answer by a form that submits itself, or by its button where scripts are off (Form Post §2)."""
    fields = "".join(
        f'<input type="hidden" name="{name}" value="{escape(value)}">' for name, value in members.items()
    )
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>…</title></head><body>'
        f'<form method="post" action="{escape(action)}">{fields}<noscript><button>Continue</button></noscript>'
        f"</form><script>{_SUBMIT}</script></body></html>"
    )
    policy = (
        f"default-src 'none'; script-src 'sha256-{_SUBMIT_HASH}'; frame-ancestors 'none'; base-uri 'none'"
    )
    headers = {**NO_STORE, "content-security-policy": policy, "x-frame-options": "DENY"}
    return HTMLResponse(page, headers=headers)
