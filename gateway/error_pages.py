"""A refusal as a person reads it who is on a page: what is wrong in a sentence, and no JSON.

One static page, in the languages of the hosted pages, without script; it loads nothing and sends nothing.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from pathlib import Path
from typing import Final

from chassis.errors import AppError
from chassis.problems import Rendered, problem
from contracts.brand import direction_of, language_of

_WORDS: Final[dict[str, dict[str, str]]] = json.loads(
    Path(__file__).with_suffix(".json").read_text(encoding="utf-8")
)
_STYLE: Final = """
:root{color-scheme:light dark}
body{font:1rem/1.5 system-ui,sans-serif;max-width:26rem;margin:0 auto;padding:15vh 1.5rem 2rem}
h1{font-size:1.45rem;line-height:1.25}
p{overflow-wrap:anywhere}
small{opacity:.75}
"""
_POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
).encode()
_REPLACED: Final = frozenset({b"content-type", b"content-length"})
_MISSING: Final = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


def error_page(error: AppError, request_id: str, languages: Sequence[str]) -> Rendered:
    """Return a refused request's answer as a page, in the first of `languages` that there are words in.

    Status and headers are those of the problem document that others get.
    """
    status, headers, _ = problem(error, request_id)
    body = _page(_reason(status), language_of(*languages), error.retry_after or 0, request_id)
    kept = [pair for pair in headers if pair[0] not in _REPLACED]
    own = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"content-security-policy", _POLICY),
        (b"x-robots-tag", b"noindex"),
    ]
    return status, [*own, *kept], body


def _reason(status: int) -> str:
    if status in _MISSING:
        return "missing"
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "locked"
    return "unavailable" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "refused"


def _page(reason: str, language: str, seconds: int, request_id: str) -> bytes:
    words = _WORDS[language]
    title, said = escape(words["title"]), escape(words[reason].format(minutes=max(1, -(-seconds // 60))))
    return (
        f'<!doctype html><html lang="{language}" dir="{direction_of(language)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title><style>{_STYLE}</style></head>'
        f'<body><main><h1>{title}</h1><p role="alert">{said}</p>'
        f"<p><small>{escape(words['reference'])} <bdi>{escape(request_id)}</bdi></small></p>"
        "</main></body></html>"
    ).encode()
