"""Renders the pages of mailed links."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chassis.errors import Forbidden, InvalidRequest
from contracts.clients import Client
from services.identity.mail.brand import brand_of
from services.identity.mail.words import language_of

_FOLDER: Final = Path(__file__).parent
_STYLE: Final = (_FOLDER / "page.css").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_WORDS: Final[dict[str, dict[str, dict[str, str]]]] = json.loads(
    (_FOLDER / "page.json").read_text(encoding="utf-8")
)
_RIGHT_TO_LEFT: Final = frozenset({"ar"})
_TEMPLATES: Final = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
_OWN_PAGES: Final = frozenset({"same-origin", "none"})
_MAX_FIELDS = 10


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
        direction="rtl" if language in _RIGHT_TO_LEFT else "ltr",
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


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form that one of our own pages sent.

    Raises:
        Forbidden: the browser says that another site sent it.
        InvalidRequest: it is no form.
    """
    if request.headers.get("sec-fetch-site", "none") not in _OWN_PAGES:
        raise Forbidden("This form is for the page of the link only.")
    body = await request.body()
    try:
        fields = parse_qs(body.decode(), strict_parsing=bool(body), max_num_fields=_MAX_FIELDS)
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequest("The form cannot be read.") from None
    return {name: values[0] for name, values in fields.items()}
