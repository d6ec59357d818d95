"""Renders the pages of mailed links."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contracts.brand import brand_of, direction_of, language_of
from contracts.clients import Client

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "page.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_WORDS: Final[dict[str, dict[str, dict[str, str]]]] = json.loads(
    (_FOLDER / "page.json").read_text(encoding="utf-8")
)
_TEMPLATES: Final = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)


class PageKind(StrEnum):
    """What a page is about; each has words in every language."""

    MAGIC_LINK = "magic_link"
    VERIFY_EMAIL = "verify_email"
    RESET_PASSWORD = "reset_password"  # noqa: S105 - a kind's name
    CHANGE_EMAIL = "change_email"
    KEEP_EMAIL = "keep_email"


@dataclass(frozen=True, slots=True)
class Form:
    """What the page's form sends, and where.

    `target` is the origin of the page that the answer leads on to, which browsers count as part of the
    submission; `faults` are what was wrong with it the last time.
    """

    action: str
    fields: dict[str, str]
    target: str | None = None
    faults: tuple[str, ...] = ()


def page(
    kind: PageKind, client: Client, locale: str | None, form: Form | None, *, status: int = 200
) -> HTMLResponse:
    """Render a page in the client's name; without a form it says that all is done.

    Its policy lets it load and run nothing, be framed by nobody, and send its form here only.
    """
    brand = brand_of(client.settings, client.name)
    language = language_of(locale, brand.locale)
    words = {name: text.format(brand=brand.name) for name, text in _WORDS[language][kind].items()}
    text = _TEMPLATES.get_template("page.html").render(
        language=language,
        direction=direction_of(language),
        style=_STYLE,
        form=form,
        words={"password": "", **words},
    )
    target = f" {form.target}" if form and form.target else ""
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'; base-uri 'none'; "
        f"form-action 'self'{target}"
    )
    return HTMLResponse(
        text,
        status_code=status,
        headers={
            "content-security-policy": policy,
            "referrer-policy": "no-referrer",
            "cache-control": "no-store",
            "x-frame-options": "DENY",
            "x-robots-tag": "noindex",
        },
    )
