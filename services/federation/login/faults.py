"""What a page says of a refused login: by the code that the HTTP routes refuse with."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from chassis.errors import AppError, Kind
from services.federation.pages.contents import Fault, Refusal

_BY_CODE: Final = {
    "invalid_credentials": Fault.INVALID_CREDENTIALS,
    "invalid_email": Fault.INVALID_EMAIL,
    "validation_failed": Fault.INVALID_CREDENTIALS,
    "email_taken": Fault.EMAIL_TAKEN,
    "email_domain_blocked": Fault.EMAIL_BLOCKED,
    "invalid_link": Fault.LINK,
    "weak_password": Fault.WEAK_PASSWORD,
    "invalid_mfa_code": Fault.INVALID_CODE,
    "invalid_mfa_token": Fault.LOGIN_EXPIRED,
    "captcha_required": Fault.CAPTCHA,
    "captcha_failed": Fault.CAPTCHA,
    "login_blocked": Fault.BLOCKED,
    "invalid_passkey": Fault.PASSKEY,
    "invalid_passkey_answer": Fault.PASSKEY,
    "invalid_passkey_session": Fault.PASSKEY,
}
_BY_KIND: Final = {
    Kind.RATE_LIMITED: Fault.LOCKED,
    Kind.UNAVAILABLE: Fault.UNAVAILABLE,
    Kind.TIMEOUT: Fault.UNAVAILABLE,
}
_STATUS: Final = {
    Fault.LOCKED: HTTPStatus.TOO_MANY_REQUESTS,
    Fault.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Fault.BLOCKED: HTTPStatus.FORBIDDEN,
}


def refusal_of(error: AppError) -> Refusal | None:
    """Return what a user is told; None for what is no refusal of a login."""
    fault = _BY_CODE.get(error.code) or _BY_KIND.get(error.kind)
    return Refusal(fault, error.retry_after or 0) if fault else None


def status_of(refusal: Refusal | None) -> int:
    """Return the status of a page with a refusal; never 401, which browsers answer with a dialogue."""
    if refusal is None:
        return HTTPStatus.OK
    return _STATUS.get(refusal.fault, HTTPStatus.UNPROCESSABLE_ENTITY)


def headers_of(refusal: Refusal | None) -> dict[str, str]:
    """Return when to try again, as programs read it."""
    return {"retry-after": str(refusal.retry_after)} if refusal and refusal.retry_after else {}
