"""The provider as browsers and apps see it: a browser keeps cookies, an app knows its secrets."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import unescape
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit
from uuid import UUID

from chassis.context import Access, CallerContext
from chassis.ids import new_id
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.gen.internal.token.v1.sessions_pb2_grpc import SessionServiceStub
from services.federation.authorize.models import ONE_FACTOR
from tests.harness import Answer, System, Tenant
from tests.oauth_errors import check_oauth_error

PASSWORD = "correct horse battery staple"
FORM = "application/x-www-form-urlencoded"
REDIRECT = "https://app.example.com/callback"
VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
PKCE = {"code_challenge": CHALLENGE, "code_challenge_method": "S256"}


@dataclass(frozen=True, slots=True)
class Person:
    """A user who signed up, with `PASSWORD`."""

    id: str
    email: str


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """An app of a tenant; without a secret it is public."""

    system: System
    tenant: Tenant
    id: str
    secret: str

    def request(self, **changes: Any) -> dict[str, Any]:
        """The parameters of a good request; `changes` replace some, None leaves one out."""
        members = {
            "client_id": self.id,
            "redirect_uri": REDIRECT,
            "response_type": "code",
            "scope": "openid",
            "state": f"st-{secrets.token_hex(4)}",
            "nonce": "n-1",
            **PKCE,
            **changes,
        }
        return {name: value for name, value in members.items() if value is not None}

    def url(self, **changes: Any) -> str:
        """Where the app sends its user."""
        return f"/authorize?{urlencode(self.request(**changes), doseq=True)}"

    async def post(self, service: str, path: str, form: Mapping[str, Any], **headers: str) -> Answer:
        """Send a form to an endpoint, with the app's own credentials unless others are given."""
        sent = {"content-type": FORM}
        if self.secret:
            pair = f"{quote(self.id, safe='')}:{quote(self.secret, safe='')}"
            sent["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form = {"client_id": self.id, **form}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        content = urlencode({name: value for name, value in form.items() if value is not None}, doseq=True)
        answer = await self.system.call(
            service, "POST", path, caller=anybody(Access.OAUTH), headers=sent, content=content.encode()
        )
        check_oauth_error(answer)
        return answer

    async def redeem(self, code: str, **changes: Any) -> Answer:
        """Redeem a code at the token endpoint."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
            **changes,
        }
        return await self.post("token", "/token", form)

    async def userinfo(self, access_token: str) -> Answer:
        """Ask who the user of a token is; 401 for a token that is not good any more."""
        headers = {"authorization": f"Bearer {access_token}"}
        caller = anybody(Access.OAUTH)
        return await self.system.call("federation", "GET", "/userinfo", caller=caller, headers=headers)

    async def push(self, **changes: Any) -> Answer:
        """Push a request (RFC 9126)."""
        headers = changes.pop("headers", {})
        return await self.post("federation", "/par", self.request(**changes), **headers)


@dataclass(slots=True)
class Browser:
    """A browser: keeps cookies, follows nothing by itself."""

    system: System
    cookies: dict[str, str] = field(default_factory=dict)

    async def get(self, path: str, *, is_cross_site: bool = False, **headers: str) -> Answer:
        """Open a page."""
        return await self._call("GET", path, headers, is_cross_site=is_cross_site)

    async def post(
        self, path: str, form: Mapping[str, Any], *, is_cross_site: bool = False, **headers: str
    ) -> Answer:
        """Send a form, from our own page or from another site's, which comes without our cookies (`Lax`)."""
        site = "cross-site" if is_cross_site else "same-origin"
        sent = {"content_type": FORM, "sec_fetch_site": site, **headers}
        content = urlencode(form, doseq=True).encode()
        return await self._call("POST", path, sent, content, is_cross_site=is_cross_site)

    async def follow(self, answer: Answer) -> Answer:
        """Go where an answer of ours leads."""
        assert answer.status == 303, (answer.status, answer.body)
        location = answer.headers["location"]
        assert location.startswith("/"), location
        return await self.get(location)

    async def log_in(self, answer: Answer, person: Person, password: str = PASSWORD) -> Answer:
        """Log in on the page that an answer leads to, as far as the app's answer or another page of ours."""
        page = await self.follow(answer)
        assert page.status == 200, page.body
        entered = await self.post("/login", {**fields_of(page), "email": person.email, "password": password})
        return await self.follow(entered) if entered.status == 303 else entered

    async def decide(self, answer: Answer, decision: str = "approve") -> Answer:
        """Answer the consent page that an answer leads to."""
        page = await self.follow(answer)
        assert page.status == 200, page.body
        return await self.post("/consent", {**fields_of(page), "decision": decision})

    async def _call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        content: bytes | None = None,
        *,
        is_cross_site: bool = False,
    ) -> Answer:
        sends_cookies = not (is_cross_site and method == "POST")
        answer = await self.system.call(
            "federation",
            method,
            path,
            caller=anybody(),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            content=content,
            cookies=self.cookies if sends_cookies else None,
        )
        for header in answer.headers.get_list("set-cookie"):
            for name, morsel in SimpleCookie(header).items():
                if morsel["max-age"] == "0":
                    self.cookies.pop(name, None)
                else:
                    self.cookies[name] = morsel.value
        return answer

    async def know(self, login: sessions_pb2.OpenedSession) -> None:
        """Be logged in at the issuer with a session, as after the login page."""
        handle = f"iss_{secrets.token_urlsafe(32)}"
        await self.system.sql(
            "federation",
            """
            INSERT INTO issuer_sessions (handle_hash, client_id, user_id, session_id, created_at, expires_at)
            VALUES ($1, $2, $3, $4, now(), now() + interval '7 days')
            """,
            hashlib.sha256(handle.encode()).digest(),
            UUID(login.user.client_id),
            UUID(login.user.id),
            UUID(login.session_id),
        )
        self.cookies[f"auth_issuer_{UUID(login.user.client_id).hex[:16]}"] = handle


def anybody(access: Access = Access.PUBLIC) -> CallerContext:
    """Anybody, as the gateway passes a request on."""
    return CallerContext(
        access=access,
        request_id=f"test-{secrets.token_hex(4)}",
        ip="203.0.113.20",
        user_agent="pytest",
    )


async def sign_up(system: System, tenant: Tenant) -> Person:
    """Let somebody sign up."""
    email = f"u-{secrets.token_hex(6)}@example.com"
    body = {"email": email, "password": PASSWORD, "display_name": "Ada", "token_transport": "json"}
    answer = await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)
    assert answer.status == 201, answer.body
    return Person(answer.json["user"]["id"], email)


def user_of(tenant: Tenant, **changes: Any) -> users_pb2.User:
    """A user of the tenant that identity could have made."""
    members = {
        "id": str(new_id()),
        "client_id": str(tenant.id),
        "email": f"u-{secrets.token_hex(4)}@example.com",
        "email_verified": True,
        "display_name": "Ada Lovelace",
        "role": "user",
        "status": "active",
        "metadata_json": "{}",
        "created_at": 1_700_000_000_000_000,
        "updated_at": 1_700_000_000_000_000,
        "version": 1,
    }
    return users_pb2.User(**{**members, **changes})


async def open_login(
    system: System, tenant: Tenant, user: users_pb2.User | None = None, *, acr: str = ONE_FACTOR
) -> sessions_pb2.OpenedSession:
    """Open a session as identity does for the login page."""
    async with system.channel("token", caller="identity") as channel:
        opened: sessions_pb2.OpenedSession = await SessionServiceStub(channel.for_stubs).OpenSession(
            sessions_pb2.OpenSessionRequest(
                client_id=str(tenant.id),
                user=user or user_of(tenant),
                amr=["pwd"],
                acr=acr,
                origin=origin_pb2.Origin(ip="203.0.113.20", user_agent="pytest", request_id="r-1"),
                no_refresh_token=True,
            )
        )
    return opened


def answer_of(answer: Answer) -> dict[str, str]:
    """The parameters that a redirect carries to the app, in the query or the fragment."""
    assert answer.status == 303, (answer.status, answer.body)
    location = urlsplit(answer.headers["location"])
    assert f"{location.scheme}://{location.netloc}{location.path}" == REDIRECT, location
    return dict(parse_qsl(location.query or location.fragment, keep_blank_values=True))


def fields_of(answer: Answer) -> dict[str, str]:
    """The hidden fields of a page's form."""
    inputs = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', answer.body.decode())
    return {name: unescape(value) for name, value in inputs}


def query_of(location: str) -> dict[str, list[str]]:
    """The query of a location."""
    return parse_qs(urlsplit(location).query)
