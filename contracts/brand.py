"""A client's brand and language in mails and pages: only what is safe to show is taken from its settings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

LANGUAGES: Final = ("en", "es", "de", "fr", "ja", "ar")
"""The languages that everything for users has words in; the first is for everybody else."""
_RIGHT_TO_LEFT: Final = frozenset({"ar"})

_DEFAULT_COLOR = "#1f4fd8"
_COLOR = re.compile(r"#[0-9a-fA-F]{6}")
_MAX_LINE = 120
_MAX_URL = 2048
_DARK_TEXT_FROM = 0.45


@dataclass(frozen=True, slots=True)
class Brand:
    """How a client looks."""

    name: str
    logo_url: str | None
    color: str
    locale: str | None

    @property
    def text_color(self) -> str:
        """White or black, whichever is read better on the color (WCAG 2.2 §1.4.3)."""
        red, green, blue = (int(self.color[start : start + 2], 16) / 255 for start in (1, 3, 5))
        return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > _DARK_TEXT_FROM else "#ffffff"


def brand_of(settings: Mapping[str, Any], client_name: str) -> Brand:
    """Read `settings.auth_ui`; what is not acceptable there is passed over, since a mail must go out."""
    found = settings.get("auth_ui")
    chosen: Mapping[str, Any] = found if isinstance(found, Mapping) else {}
    color, locale = chosen.get("primary_color"), chosen.get("locale")
    return Brand(
        name=one_line(chosen.get("brand_name")) or one_line(client_name),
        logo_url=_https(chosen.get("logo_url")),
        color=color if isinstance(color, str) and _COLOR.fullmatch(color) else _DEFAULT_COLOR,
        locale=locale if isinstance(locale, str) else None,
    )


def language_of(*wanted: str | None) -> str:
    """Return the first of the languages that a language tag (BCP 47) asks for, else English."""
    for tag in wanted:
        language = (tag or "").replace("_", "-").partition("-")[0].lower()
        if language in LANGUAGES:
            return language
    return LANGUAGES[0]


def direction_of(language: str) -> str:
    """Return `dir` of HTML for one of the languages."""
    return "rtl" if language in _RIGHT_TO_LEFT else "ltr"


def one_line(value: object) -> str:
    """Return a text as one short line that can begin no other header; empty for what is no text."""
    if not isinstance(value, str):
        return ""
    spaced = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in value)
    return " ".join(spaced.split())[:_MAX_LINE]


def _https(value: object) -> str | None:
    if not isinstance(value, str) or len(value) > _MAX_URL or not value.isascii() or not value.isprintable():
        return None
    try:
        parts = urlsplit(value)
    except ValueError:
        return None
    return value if parts.scheme == "https" and parts.hostname and " " not in value else None
