"""The page that asks a person to confirm what a mailed link is about to do; it needs no script."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contracts.clients import Client
from services.identity.magic_links.targets import origin_of_target
from services.identity.mail.brand import brand_of
from services.identity.mail.words import language_of

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "page.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_WORDS: Final[dict[str, dict[str, str]]] = json.loads((_FOLDER / "page.json").read_text(encoding="utf-8"))
_RIGHT_TO_LEFT: Final = frozenset({"ar"})
_TEMPLATES: Final = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What the page's form sends, and where."""

    action: str
    fields: dict[str, str]
    target: str | None


def confirmation_page(client: Client, locale: str | None, form: Confirmation) -> HTMLResponse:
    """Render the page in the client's brand.

    Its policy lets it load and run nothing, be framed by nobody, and send its form here only; the page that
    the login returns to is named because browsers count the redirect as part of the submission.
    """
    brand = brand_of(client.settings, client.name)
    language = language_of(locale, brand.locale)
    target = origin_of_target(form.target) if form.target else None
    page = _TEMPLATES.get_template("page.html").render(
        language=language,
        direction="rtl" if language in _RIGHT_TO_LEFT else "ltr",
        brand=brand.name,
        style=_STYLE,
        form=form,
        **{name: text.format(brand=brand.name) for name, text in _WORDS[language].items()},
    )
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; "
        f"form-action 'self'{f' {target}' if target else ''}"
    )
    return HTMLResponse(
        page,
        headers={
            "content-security-policy": policy,
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "x-frame-options": "DENY",
            "x-robots-tag": "noindex",
        },
    )
