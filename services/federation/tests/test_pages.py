"""The pages themselves: what each may do, and what cannot get into it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from uuid import UUID

import pytest

from contracts.brand import LANGUAGES
from contracts.clients import Client, TokenMode
from services.federation.pages import contents
from services.federation.pages.contents import ErrorPage, ErrorReason, Fault, Form, LoginPage, Notice, Refusal
from services.federation.pages.render import render
from services.federation.tests.pages_shown import APP, PAGES, TARGET

CLIENT = Client(
    id=UUID(int=1),
    name="Acme",
    slug="acme",
    status="active",
    token_mode=TokenMode.RS256,
    allowed_origins=(),
    settings={"auth_ui": {"brand_name": "Acme & <i>Co</i>", "primary_color": "#0a7d4f", "locale": "fr"}},
    cell="",
)


WIDGET_SCRIPTS = {
    "login-captcha": ["https://challenges.cloudflare.com/turnstile/v0/api.js"],
    "sign-up-fault": ["https://js.hcaptcha.com/1/api.js"],
}


class Document(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of every element of some kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]


def policy_of(headers: dict[str, str]) -> dict[str, list[str]]:
    """The directives of a page's policy."""
    directives = (part.split() for part in headers["content-security-policy"].split("; "))
    return {name: sources for name, *sources in directives}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", PAGES)
def test_page_is_safe_and_usable_in_every_language(name: str, language: str) -> None:
    answer = render(PAGES[name], CLIENT, (language,))
    text = bytes(answer.body).decode()
    document, headers = Document(text), dict(answer.headers)
    policy = policy_of(headers)

    [html] = document.all("html")
    assert html == {"lang": language, "dir": "rtl" if language == "ar" else "ltr"}
    assert headers["x-frame-options"] == "DENY"
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert (policy["default-src"], policy["frame-ancestors"], policy["base-uri"]) == (["'none'"],) * 3
    # What a tenant, an app or a request names stays text.
    assert not [tag for tag, _ in document.elements if tag in ("b", "i", "s", "img", "iframe", "object")]
    assert "{" not in re.sub(r"<(style|script)>.*?</\1>", "", text, flags=re.DOTALL)
    # Style and script are exactly those that the policy names, and nothing is inline anywhere else.
    for tag in ("style", "script"):
        for inline in re.findall(rf"<{tag}>(.*?)</{tag}>", text, flags=re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy[f"{tag}-src"]
    assert not [
        key for _, attributes in document.elements for key in attributes if key.startswith(("on", "style"))
    ]
    assert [url for url in (script.get("src") for script in document.all("script")) if url] == (
        WIDGET_SCRIPTS.get(name, [])
    )
    # One heading; each field has its label, each button its words, at most one thing takes the focus.
    assert len(document.all("h1")) == 1
    labelled = {label.get("for") for label in document.all("label")}
    for field in document.all("input"):
        assert field.get("type") in ("hidden", "checkbox") or field["id"] in labelled
    assert not re.search(r"<(button|a)[^>]*>\s*</\1>", text)
    assert sum("autofocus" in attributes for _, attributes in document.elements) <= 1


def test_form_goes_here_and_to_the_apps_scheme_only() -> None:
    """CSP Level 3 §6.4.1: the redirects that answer a form, the app's own too, are a part of it."""
    for target, source in {
        TARGET: ["https:"],
        "http://[::1]:7777/cb": ["http:"],
        "com.example.app:/cb": ["com.example.app:"],
        "https:;script-src *": ["https:"],
        "a;script-src *:": [],
        "/login": [],
        "": [],
    }.items():
        answer = render(LoginPage(Form("/login", {}, target), APP), CLIENT)
        assert policy_of(dict(answer.headers))["form-action"] == ["'self'", *source], target


def test_words_are_there_in_every_language_and_name_the_same_values() -> None:
    folder = Path(contents.__file__).parent / "words"
    catalogues = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert set(catalogues) == set(LANGUAGES)

    def shape(catalogue: dict[str, dict[str, str]]) -> dict[tuple[str, str], list[str]]:
        return {
            (section, name): sorted(set(re.findall(r"\{\w+\}", text)))
            for section, words in catalogue.items()
            for name, text in words.items()
        }

    shapes = {language: shape(catalogue) for language, catalogue in catalogues.items()}
    assert all(found == shapes["en"] for found in shapes.values())
    assert set(Fault) == set(catalogues["en"]["faults"])
    assert set(Notice) == set(catalogues["en"]["notices"])
    assert set(ErrorReason) <= set(catalogues["en"]["error"])
    assert {page.name for page in get_args(contents.Page)} <= set(catalogues["en"])
    assert {page.name for page in PAGES.values()} == {page.name for page in get_args(contents.Page)}


def test_language_is_the_apps_then_the_browsers_then_the_tenants() -> None:
    for languages, expected in {("ja", "de"): "ja", ("nl", "de-AT"): "de", ("nl",): "fr", (): "fr"}.items():
        text = bytes(render(PAGES["signed-in"], CLIENT, languages).body).decode()
        assert f'<html lang="{expected}"' in text
    assert '<html lang="en"' in bytes(render(PAGES["error"], None).body).decode()


def test_fault_says_when_to_try_again() -> None:
    for seconds, minutes in {0: 1, 1: 1, 60: 1, 61: 2, 3600: 60}.items():
        assert Refusal(Fault.LOCKED, seconds).minutes == minutes
        assert ErrorPage(ErrorReason.LOCKED, retry_after=seconds).minutes == minutes
