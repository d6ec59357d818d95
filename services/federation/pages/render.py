"""Renders pages, with the policy under which each runs."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from contracts.brand import LANGUAGES, Brand, brand_of, direction_of, language_of
from contracts.clients import Client
from services.federation.pages.captchas import WIDGETS, Widget
from services.federation.pages.contents import (
    Captcha,
    EnrollmentPage,
    Form,
    FormPostPage,
    LoginPage,
    Page,
    Refusal,
    SecondFactorPage,
)

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "page.css").read_text(encoding="utf-8")
_PASSKEY_SCRIPT: Final = (_FOLDER / "passkey.js").read_text(encoding="utf-8")
_SEND_SCRIPT: Final = (_FOLDER / "send.js").read_text(encoding="utf-8")
_WORDS: Final[dict[str, dict[str, dict[str, str]]]] = {
    language: json.loads((_FOLDER / "words" / f"{language}.json").read_text(encoding="utf-8"))
    for language in LANGUAGES
}
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_NO_BRAND: Final = brand_of({}, "AuthService")
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*", re.IGNORECASE)
_MAX_LANGUAGES: Final = 20


def render(
    page: Page, client: Client | None, languages: Sequence[str] = (), *, status: int = 200
) -> HTMLResponse:
    """Render a page in a client's name, or in nobody's; in the first of `languages` that there are words in.

    The page can be framed by nobody, is kept by no cache, tells no other page where the user was, loads
    nothing but a CAPTCHA that it needs, and sends its form here and to the form's target only.
    """
    brand = brand_of(client.settings, client.name) if client else _NO_BRAND
    language = language_of(*languages, brand.locale)
    style = style_of(brand)
    script = _script_of(page)
    form: Form | None = getattr(page, "form", None)
    text = _TEMPLATES.get_template(f"{page.name}.html").render(
        page=page,
        form=form,
        say=_Words(language, brand.name),
        language=language,
        direction=direction_of(language),
        style=Markup(style),  # noqa: S704 - our own file, and a color that is one
        script=Markup(script),  # noqa: S704 - our own file
        qr=Markup(page.qr_svg) if isinstance(page, EnrollmentPage) else "",  # noqa: S704 - drawn by identity
        widget=_widget_of(page),
    )
    headers = {
        "content-security-policy": _policy(page, style, script, form),
        "referrer-policy": "no-referrer",
        "cache-control": "no-store",
        "x-frame-options": "DENY",
        "x-robots-tag": "noindex",
        "cross-origin-opener-policy": "same-origin",
    }
    return HTMLResponse(text, status_code=status, headers=headers)


def fault_text(refusal: Refusal, client: Client, languages: Sequence[str]) -> str:
    """Return what a page says of a refusal, for its script."""
    brand = brand_of(client.settings, client.name)
    say = _Words(language_of(*languages, brand.locale), brand.name)
    return say.plain("faults", refusal.fault, minutes=refusal.minutes)


def languages_of(request: Request, ui_locales: Sequence[str] = ()) -> tuple[str, ...]:
    """Return what the app asks for, then what the browser prefers (RFC 9110 §12.5.4)."""
    weighted: list[tuple[float, str]] = []
    for item in request.headers.get("accept-language", "").split(",")[:_MAX_LANGUAGES]:
        tag, _, parameter = item.partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        if quality > 0:
            weighted.append((quality, tag.strip()))
    preferred = (tag for _, tag in sorted(weighted, key=lambda pair: -pair[0]))
    known = (tag for tag in preferred if tag.partition("-")[0].lower() in LANGUAGES)
    return (*ui_locales[:_MAX_LANGUAGES], *known)


@lru_cache(maxsize=1000)
def style_of(brand: Brand) -> str:
    """Return the style sheet in a brand's color."""
    return f":root{{--brand:{brand.color};--on-brand:{brand.text_color}}}\n{_STYLE}"


class _Words:
    """The words of a language; what is put into them is escaped, and kept apart from their direction."""

    def __init__(self, language: str, brand: str) -> None:
        self._sections = _WORDS[language]
        self.brand = brand

    def __call__(self, section: str, name: str, **values: object) -> Markup:
        """Return a sentence; each value is in a `<bdi>` of its own (Unicode TR9 §5.2)."""
        given = {"brand": self.brand, **values}
        marked = {key: Markup("<bdi>{}</bdi>").format(value) for key, value in given.items()}
        return Markup(self._sections[section][name]).format(**marked)  # noqa: S704 - our own words

    def plain(self, section: str, name: str, **values: object) -> str:
        """Return a sentence without markup, for a title or an attribute."""
        return self._sections[section][name].format(**{"brand": self.brand, **values})

    def knows(self, section: str, name: str) -> bool:
        """Whether there is such a sentence."""
        return name in self._sections[section]


def _script_of(page: Page) -> str:
    match page:
        case LoginPage() | SecondFactorPage() if page.passkey is not None:
            return _PASSKEY_SCRIPT
        case FormPostPage():
            return _SEND_SCRIPT
        case _:
            return ""


def _widget_of(page: Page) -> Widget | None:
    captcha: Captcha | None = getattr(page, "captcha", None)
    return WIDGETS.get(captcha.provider) if captcha else None


def _policy(page: Page, style: str, script: str, form: Form | None) -> str:
    scripts = [_hash(script)] if script else []
    directives: dict[str, list[str]] = {
        "default-src": ["'none'"],
        "style-src": [_hash(style)],
        "script-src": scripts,
        "connect-src": ["'self'"] if script == _PASSKEY_SCRIPT else [],
        "form-action": ["'self'", *_source(form.target or form.action)] if form else ["'none'"],
        "frame-ancestors": ["'none'"],
        "base-uri": ["'none'"],
    }
    widget = _widget_of(page)
    if widget is not None:
        for name, sources in widget.sources.items():
            directives[name] = [*directives.get(name, ()), *sources]
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items() if sources)


def _source(uri: str) -> list[str]:
    """Return what stands for a URI in a policy: its scheme, since an app may send the answer on elsewhere.

    Nothing for a path, or what cannot be named there.
    """
    scheme, colon, _ = uri.partition(":")
    return [f"{scheme}:"] if colon and _SCHEME.fullmatch(scheme) else []


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
