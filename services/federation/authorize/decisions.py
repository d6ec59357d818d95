"""What stands between a request and its code: a login, a consent, or nothing (OIDC Core §3.1.2.3)."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from services.federation.authorize.answers import AuthorizationRefused
from services.federation.authorize.models import (
    ACR_VALUES,
    AuthorizationRequest,
    Prompt,
)
from services.federation.issuer_sessions.models import Login

_CHOICES = frozenset({Prompt.SELECT_ACCOUNT, Prompt.CREATE})
"""Who is logged in may go on so, if the user says that."""


class Step(StrEnum):
    """What comes next."""

    LOGIN = "login"
    CONSENT = "consent"
    GRANT = "grant"


def needs_login(
    request: AuthorizationRequest, login: Login | None, now: datetime, *, is_chosen: bool = False
) -> bool:
    """Whether the user must log in, or say who it is, before anything else.

    `is_chosen` says that the user has chosen this login for this request. Only a login made after the request
    answers `prompt=login`, `max_age=0`, and a `max_age` that has passed.

    Raises:
        AuthorizationRefused: it has just logged in, and not as was asked: as somebody else than the hint's
            user, or with less than the `acr` that was demanded (RFC 9470 §5).
    """
    if login is None or login.client_id != request.client.id or login.acr not in ACR_VALUES:
        return True
    is_fresh = request.is_fresh(login)
    if request.hinted_user_id not in (None, login.user_id):
        if is_fresh:
            raise AuthorizationRefused("login_required", "Another user logged in than was asked for.")
        return True
    if request.acr_values and login.acr not in request.acr_values and not _exceeds(request, login):
        if is_fresh:
            raise AuthorizationRefused(
                "unmet_authentication_requirements", "The user could not log in as was asked for."
            )
        return True
    if is_fresh:
        return False
    is_too_old = request.max_age is not None and (
        request.max_age == 0 or now.timestamp() - login.auth_time > request.max_age
    )
    must_choose = not request.prompt.isdisjoint(_CHOICES) and not is_chosen
    return Prompt.LOGIN in request.prompt or must_choose or is_too_old


def needs_consent(request: AuthorizationRequest, *, is_covered: bool) -> bool:
    """Whether the user must be asked; `is_covered` says that it once agreed to all of this.

    A trusted app's tenant has agreed for its users. `prompt=consent` asks them all the same.
    """
    if Prompt.CONSENT in request.prompt or request.app.requires_consent:
        return True
    return not request.app.is_trusted and not is_covered


def check_silent(request: AuthorizationRequest, step: Step) -> None:
    """Refuse what would show a page where the app wants none (`prompt=none`).

    Raises:
        AuthorizationRefused: `login_required` or `consent_required`.
    """
    if Prompt.NONE not in request.prompt:
        return
    if step is Step.LOGIN:
        raise AuthorizationRefused("login_required", "The user must log in.")
    if step is Step.CONSENT:
        raise AuthorizationRefused("consent_required", "The user must be asked for consent.")


def _exceeds(request: AuthorizationRequest, login: Login) -> bool:
    """Whether a login is stronger than all that would do."""
    return ACR_VALUES.index(login.acr) > max(map(ACR_VALUES.index, request.acr_values))
