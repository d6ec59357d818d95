"""The CAPTCHA widgets that a login page can show, and what each must be allowed to load."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Widget:
    """A provider's script, the class of its element, the field it fills, and its sources by CSP directive."""

    script: str
    element: str
    field: str
    sources: Mapping[str, tuple[str, ...]]


WIDGETS: Final[Mapping[str, Widget]] = {
    "turnstile": Widget(
        "https://challenges.cloudflare.com/turnstile/v0/api.js",
        "cf-turnstile",
        "cf-turnstile-response",
        {
            "script-src": ("https://challenges.cloudflare.com",),
            "frame-src": ("https://challenges.cloudflare.com",),
        },
    ),
    "hcaptcha": Widget(
        "https://js.hcaptcha.com/1/api.js",
        "h-captcha",
        "h-captcha-response",
        {
            "script-src": ("https://hcaptcha.com", "https://*.hcaptcha.com"),
            "frame-src": ("https://hcaptcha.com", "https://*.hcaptcha.com"),
            "style-src": ("https://hcaptcha.com", "https://*.hcaptcha.com"),
            "connect-src": ("https://hcaptcha.com", "https://*.hcaptcha.com"),
        },
    ),
    "recaptcha": Widget(
        "https://www.google.com/recaptcha/api.js",
        "g-recaptcha",
        "g-recaptcha-response",
        {
            "script-src": ("https://www.google.com/recaptcha/", "https://www.gstatic.com/recaptcha/"),
            "frame-src": ("https://www.google.com/recaptcha/", "https://recaptcha.google.com/recaptcha/"),
        },
    ),
}
"""Widgets by provider; for another there is none, and passkeys only."""

FIELDS: Final = tuple(widget.field for widget in WIDGETS.values())
"""The names under which a form may carry what a widget gave."""


def token_of(form: Mapping[str, str]) -> str:
    """Return what a widget gave; empty without one."""
    return next((form[name] for name in FIELDS if form.get(name)), "")
