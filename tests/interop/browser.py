"""A browser without a screen: keeps cookies, follows redirects, fills forms and sends them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import httpx

_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 20
_MOST_PAGES = 6
_APPROVE = ("decision", "approve")


@dataclass(slots=True)
class Form:
    """A form of a page: where it goes, and what its fields and buttons send."""

    method: str
    action: str
    fields: dict[str, str] = field(default_factory=dict)
    buttons: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Page:
    """What the browser shows."""

    url: str
    answer: httpx.Response
    forms: list[Form]


class Browser:
    """One person's browser."""

    def __init__(self) -> None:
        """Start without cookies."""
        self._http = httpx.AsyncClient(follow_redirects=False, timeout=30, trust_env=False)
        self.seen: list[str] = []
        """Every URL that was asked for."""

    async def __aenter__(self) -> Self:
        """Open it."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        await self._http.aclose()

    async def open(self, url: str) -> Page:
        """Go to a URL, as if typed."""
        return await self._go("GET", url, "none")

    async def submit(self, page: Page, button: tuple[str, str] | None = None, **typed: str) -> Page:
        """Send the page's first form that has the button, or the first one, with what was typed into it."""
        form = next(form for form in page.forms if button is None or button in form.buttons)
        data = {**form.fields, **typed, **(dict([button]) if button else {})}
        here, there = urlsplit(page.url), urlsplit(urljoin(page.url, form.action))
        site = "same-origin" if here[:2] == there[:2] else "cross-site"
        headers = {"origin": f"{here.scheme}://{here.netloc}"}
        return await self._go(form.method, there.geturl(), site, data=data, headers=headers)

    async def log_in(self, page: Page, email: str, password: str) -> Page:
        """Do what the provider's pages ask of a user who agrees to everything."""
        for _ in range(_MOST_PAGES):
            fields = {name for form in page.forms for name in form.fields}
            approves = [form for form in page.forms if _APPROVE in form.buttons]
            if "password" in fields:
                page = await self.submit(page, email=email, password=password)
            elif approves:
                page = await self.submit(page, _APPROVE)
            elif "user_code" in fields:
                page = await self.submit(page)
            else:
                break
        return page

    async def _go(
        self,
        method: str,
        url: str,
        site: str,
        data: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Page:
        headers = {
            "accept": "text/html",
            "sec-fetch-site": site,
            "sec-fetch-mode": "navigate",
            **(headers or {}),
        }
        for _ in range(_MOST_REDIRECTS):
            self.seen.append(url)
            answer = await self._http.request(method, url, data=data, headers=headers)
            if answer.status_code not in _REDIRECTS:
                reader = _Reader()
                if "html" in answer.headers.get("content-type", ""):
                    reader.feed(answer.text)
                return Page(url, answer, reader.forms)
            url, method, data = urljoin(url, answer.headers["location"]), "GET", None
            headers.pop("origin", None)
        raise AssertionError(f"redirected without end: {self.seen[-_MOST_REDIRECTS:]}")


class _Reader(HTMLParser):
    """Reads the forms of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take forms and their fields."""
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("method", "get").upper(), given.get("action", "")))
            self._open = True
        elif not self._open:
            return
        elif tag == "input" and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "button" and given.get("name"):
            self.forms[-1].buttons.append((given["name"], given.get("value", "")))

    def handle_endtag(self, tag: str) -> None:
        """Close a form."""
        if tag == "form":
            self._open = False
