"""A browser without scripts, at the pages of the provider: cookies, forms, redirects."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from chassis.context import Access, CallerContext
from tests.harness import Answer, System, Tenant

CALLBACK = "https://app.example.com/callback"
VERIFIER = "v" * 43
FORM = "application/x-www-form-urlencoded"
OWN = {"sec-fetch-site": "same-origin"}


class Document(HTMLParser):
    """The elements of a page."""

    def __init__(self, text: str) -> None:
        """Read a page."""
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = text
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))

    def all(self, *tags: str) -> list[dict[str, str | None]]:
        """The attributes of every element of some kinds."""
        return [attributes for tag, attributes in self.elements if tag in tags]


@dataclass(frozen=True, slots=True)
class Shown:
    """What the browser shows: the answer at the end of its redirects, and where that is."""

    answer: Answer
    url: str

    @property
    def path(self) -> str:
        """The path of the page."""
        return urlsplit(self.url).path

    @property
    def text(self) -> str:
        """The page."""
        return self.answer.body.decode()

    @property
    def document(self) -> Document:
        """The page's elements."""
        return Document(self.text)

    @property
    def action(self) -> str:
        """Where its form goes."""
        [form] = self.document.all("form")
        return form["action"] or ""

    @property
    def fields(self) -> dict[str, str]:
        """The form's hidden fields."""
        hidden = (item for item in self.document.all("input") if item.get("type") == "hidden")
        return {str(item["name"]): item["value"] or "" for item in hidden}

    @property
    def value(self) -> dict[str, str]:
        """What is filled in, by the names of the fields."""
        inputs = self.document.all("input")
        return {str(item["name"]): item.get("value") or "" for item in inputs if item.get("type") != "hidden"}

    @property
    def answered(self) -> dict[str, str]:
        """What the app got, at its callback."""
        assert self.url.startswith(f"{CALLBACK}?"), (self.url, self.answer.status, self.text[:2000])
        return dict(parse_qsl(urlsplit(self.url).query, strict_parsing=True, keep_blank_values=True))


@dataclass(slots=True)
class Browser:
    """A browser with its cookies, by name; paths of cookies are kept to, as browsers do."""

    system: System
    cookies: dict[str, tuple[str, str]] = field(default_factory=dict)
    ip: str = "198.51.100.99"
    languages: str = "en"

    def copy(self) -> Browser:
        """Another browser with the same cookies."""
        return replace(self, cookies=dict(self.cookies))

    @property
    def caller(self) -> CallerContext:
        """Nobody, as the gateway says of a public route."""
        return CallerContext(access=Access.PUBLIC, request_id="browser-1", ip=self.ip, user_agent="pytest")

    async def send(
        self, method: str, url: str, *, headers: dict[str, str] | None = None, **content: Any
    ) -> Answer:
        """Send one request, and keep the cookies that it sets."""
        path = urlsplit(url).path
        sent = {name: value for name, (value, where) in self.cookies.items() if path.startswith(where)}
        given = {"accept-language": self.languages, **(headers or {})}
        service = "identity" if path.startswith("/api/auth/") else "federation"
        answer = await self.system.call(
            service, method, url, caller=self.caller, headers=given, cookies=sent, **content
        )
        for line in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(line).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = (morsel.value, morsel["path"] or "/")
        return answer

    async def get(self, url: str, **how: Any) -> Shown:
        """Go to a page, and on to where it leads."""
        return await self._follow(url, await self.send("GET", url, **how))

    async def post(self, url: str, form: dict[str, str], headers: dict[str, str] | None = None) -> Shown:
        """Send a form, and go on to where it leads."""
        sent = {"content-type": FORM, **OWN, **(headers or {})}
        answer = await self.send("POST", url, headers=sent, content=urlencode(form).encode())
        return await self._follow(url, answer)

    async def submit(self, page: Shown, *, action: str = "", **typed: str) -> Shown:
        """Fill in the form of a page and send it."""
        return await self.post(action or page.action, {**page.fields, **typed})

    async def call(self, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> Answer:
        """Make a call, as a script of the page does."""
        return await self.send("POST", path, json=body, headers={**OWN, **(headers or {})})

    async def _follow(self, url: str, answer: Answer) -> Shown:
        for _ in range(10):
            location = answer.headers.get("location")
            if location is None or not location.startswith("/"):
                return Shown(answer, location or url)
            url, answer = location, await self.send("GET", location)
        raise AssertionError(f"too many redirects, at last to {url}")


def authorization(tenant: Tenant, **parameters: str) -> str:
    """The URL by which the tenant's own app asks."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
    asked = {
        "client_id": str(tenant.id),
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "scope": "openid email",
        "state": "st-1",
        "nonce": "n-1",
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **parameters,
    }
    return f"/authorize?{urlencode(asked)}"
