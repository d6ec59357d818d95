"""Every way in, from the contract: none opens a session past the rule that asks for a second factor.

The ways are found, not listed: each operation and RPC whose answer can hold an access token, or a login on
the hosted page. One that the table below does not know how to try fails; so does code that opens sessions
outside the gate.
"""

from __future__ import annotations

import ast
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from chassis.context import CallerContext
from chassis.errors import AppError
from contracts.gen.auth.v1 import auth_pb2
from contracts.gen.internal.identity.v1 import logins_pb2
from contracts.topology import RPC_CALLERS
from services.identity.tests.conftest import PASSWORD, Person, address, log_in, sign_up
from services.identity.tests.hosted import Hosted, came_to
from services.identity.tests.mailed import PUBLIC, VERIFY, exchange, follow, magic_link, verify
from services.identity.tests.pages import ORIGIN as PAGE
from services.identity.tests.pages import log_in_by, plant
from services.identity.tests.second_factors import (
    MFA_REQUIRED,
    call_as,
    claims_of,
    enrolling,
    new_person,
    protect,
)
from services.identity.tests.test_rpc import auth, gateway
from tests.authenticator_app import App
from tests.harness import ORIGIN, Answer, System, Tenant
from tests.webauthn_device import Device

__all__ = ["auth", "gateway"]

REPOSITORY = Path(__file__).parents[3]
CONTRACT: dict[str, Any] = json.loads((REPOSITORY / "gateway" / "openapi.json").read_text())

LOGINS = "internal.identity.v1.LoginService"

OPEN = {"auth_ui": {"signup": True}}

NO_LOGIN = {
    "POST /api/admin/clients/{client_id}/users/{user_id}/impersonate": (
        "An admin acts; the token says so, lives for an hour at most, and opens nothing of the user's own."
    ),
    **dict.fromkeys(
        (
            "POST /api/admin/auth/login",
            "POST /api/admin/auth/mfa/verify",
            "POST /api/admin/auth/sso",
            "POST /api/admin/auth/totp/enable",
        ),
        "An admin's token opens nothing of a user, and admins have a rule of their own; see `test_admins`.",
    ),
    "POST /token": (
        "Nobody logs in there: a code, a device's or not, hangs on a session that a login on the page opened."
    ),
    "POST /oauth/token": "A service account shows its own secret; the token is of no user.",
}
"""What answers tokens and is no way in for who says it is the user."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A user whom a rule asks for a second factor.

    With an `app`, a client that asks those who have one. Without, a client that demands one of everybody, and
    a user who has none: `enrollment_token` is all that it gets.
    """

    system: System
    tenant: Tenant
    person: Person
    auth: Any
    hosted: Hosted
    app: App | None = None
    enrollment_token: str = ""

    async def call(self, path: str, body: dict[str, Any], service: str = "identity") -> Answer:
        """Call a login route with the client's key, tokens as JSON."""
        body = {"token_transport": "json", **body}
        return await self.system.call(
            service, "POST", f"/api/auth/{path}", caller=self.tenant.caller(), json=body
        )

    async def mfa_token(self) -> str:
        """What stands for the first factor where a second is asked for."""
        answer = await self.person.log_in()
        return str(answer.json.get("mfa_token") or self.enrollment_token)

    async def sessions(self) -> set[str]:
        """The user's sessions that live."""
        rows = await self.system.sql(
            "token", "SELECT id FROM sessions WHERE user_id = $1 AND ended_at IS NULL", self.person.id
        )
        return {str(row["id"]) for row in rows}


Drive = Callable[[Subject], Awaitable[str]]


def outcome(answer: Answer) -> str:
    """What became of an attempt: a refusal's code, or what was opened."""
    if answer.status >= 400:
        return answer.code
    body = answer.json
    is_open = any(name in json.dumps(body) for name in ('"access_token"', '"refresh_token"', "rt_"))
    if is_open or "auth_refresh" in answer.headers.get("set-cookie", ""):
        return "opened"
    return "challenged" if "mfa_token" in body else "enrollment" if "enrollment_token" in body else "nothing"


async def rpc_outcome(call: Any) -> str:
    """The same of an RPC."""
    try:
        answer = await call
    except AppError as error:
        return error.code
    if answer.access_token or answer.refresh_token:
        return "opened"
    return "challenged" if answer.HasField("mfa") else "enrollment" if answer.HasField("enrollment") else ""


async def by_password(subject: Subject) -> str:
    return outcome(await log_in(subject.system, subject.tenant, subject.person.email))


async def by_password_into_a_cookie(subject: Subject) -> str:
    body = {"email": subject.person.email, "password": PASSWORD, "token_transport": "cookie"}
    return outcome(await subject.call("login", body))


async def by_signing_up(subject: Subject) -> str:
    email = subject.person.email if subject.app else address()
    return outcome(await sign_up(subject.system, subject.tenant, email))


async def by_a_wrong_code(subject: Subject) -> str:
    code = subject.app.wrong() if subject.app else "123456"
    return outcome(await subject.call("totp/verify", {"mfa_token": await subject.mfa_token(), "code": code}))


async def by_a_wrong_recovery_code(subject: Subject) -> str:
    body = {"mfa_token": await subject.mfa_token(), "code": "00000-00000-00000-00000"}
    return outcome(await subject.call("recovery-codes/verify", body))


async def by_enabling_nothing(subject: Subject) -> str:
    body = {"code": subject.app.at(0) if subject.app else "123456"}
    return outcome(await call_as(subject.person, "totp/enable", body, is_enrolling=not subject.app))


async def by_a_passkey_that_verifies_nobody(subject: Subject) -> str:
    key = Device(verifies_user=False)
    await plant(subject.person, key)
    return outcome(await log_in_by(subject.system, subject.tenant, key))


async def by_a_passkey_nobody_asked_for(subject: Subject) -> str:
    options = {"challenge": "A" * 43, "rp": {"id": "localhost"}, "user": {"id": ""}}
    body = {"credential": Device().create(options, origin=PAGE)}
    return outcome(
        await call_as(subject.person, "passkey/register/finish", body, is_enrolling=not subject.app)
    )


async def by_a_token_that_is_none_of_a_session(subject: Subject) -> str:
    return outcome(await subject.call("refresh", {"refresh_token": await subject.mfa_token()}, "token"))


async def by_password_over_grpc(subject: Subject) -> str:
    request = auth_pb2.LoginRequest(
        api_key=subject.tenant.api_key, email=subject.person.email, password=PASSWORD
    )
    return await rpc_outcome(subject.auth.Login(request))


async def by_signing_up_over_grpc(subject: Subject) -> str:
    email = subject.person.email if subject.app else address()
    request = auth_pb2.SignupRequest(api_key=subject.tenant.api_key, email=email, password=PASSWORD)
    return await rpc_outcome(subject.auth.Signup(request))


async def by_a_token_that_is_none_of_a_session_over_grpc(subject: Subject) -> str:
    request = auth_pb2.RefreshRequest(api_key=subject.tenant.api_key, refresh_token=await subject.mfa_token())
    return await rpc_outcome(subject.auth.Refresh(request))


async def mailed_token(subject: Subject, **members: Any) -> str:
    """The token of another mailed link to log in by."""
    email = subject.person.email
    before = len(await subject.system.mails(email, "magic_link", count=0))
    mail = await magic_link(subject.system, subject.tenant, email, after=before, **members)
    return mail.token


async def by_a_mailed_link(subject: Subject) -> str:
    return outcome(await follow(subject.system, await mailed_token(subject)))


async def by_the_page_of_a_mailed_link(subject: Subject) -> str:
    form = urlencode({"token": await mailed_token(subject), "token_transport": "json"}).encode()
    headers = {"content-type": "application/x-www-form-urlencoded"}
    return outcome(
        await subject.system.call("identity", "POST", VERIFY, caller=PUBLIC, content=form, headers=headers)
    )


async def by_the_code_of_a_redirect(subject: Subject) -> str:
    token = await mailed_token(subject, redirect_url=f"{ORIGIN}/welcome")
    answer = await follow(subject.system, token, query="")
    assert (answer.status, answer.body) == (303, b"")
    assert "auth_refresh" not in answer.headers.get("set-cookie", "")
    [code] = parse_qs(urlsplit(answer.headers["location"]).query)["auth_code"]
    return outcome(await exchange(subject.system, subject.tenant, code))


async def by_a_mailed_link_over_grpc(subject: Subject) -> str:
    # Later, because a mailbox gets no more than three in a quarter of an hour.
    with subject.system.clock.advanced(timedelta(minutes=16)):
        request = auth_pb2.VerifyMagicLinkRequest(
            api_key=subject.tenant.api_key, token=await mailed_token(subject)
        )
        return await rpc_outcome(subject.auth.VerifyMagicLink(request))


async def hosted_outcome(call: Any) -> str:
    """What became of a login on the hosted page."""
    try:
        return await came_to(call)
    except AppError as error:
        return error.code


async def by_password_on_the_page(subject: Subject) -> str:
    return await hosted_outcome(subject.hosted.password(subject.person.email))


async def by_a_mailed_link_on_the_page(subject: Subject) -> str:
    # Later, as above: a mailbox gets no more than three in a quarter of an hour.
    with subject.system.clock.advanced(timedelta(minutes=16)):
        before = len(await subject.system.mails(subject.person.email, "magic_link", count=0))
        await subject.hosted.ask_link(subject.person.email, "authz_1")
        mail = (await subject.system.mails(subject.person.email, "magic_link", count=before + 1))[before]
        return await hosted_outcome(subject.hosted.link(mail.token, "authz_1"))


async def by_signing_up_on_the_page(subject: Subject) -> str:
    email = subject.person.email if subject.app else address()
    return await hosted_outcome(subject.hosted.sign_up(email))


async def by_a_wrong_code_on_the_page(subject: Subject) -> str:
    code = subject.app.wrong() if subject.app else "123456"
    return await hosted_outcome(subject.hosted.code(await subject.mfa_token(), code))


async def by_a_wrong_recovery_code_on_the_page(subject: Subject) -> str:
    code = "00000-00000-00000-00000"
    return await hosted_outcome(subject.hosted.code(await subject.mfa_token(), code, "recovery_code"))


async def by_enabling_nothing_on_the_page(subject: Subject) -> str:
    code = subject.app.at(0) if subject.app else "123456"
    token = subject.enrollment_token or await subject.mfa_token()
    return await hosted_outcome(subject.hosted.enroll(token, code))


async def by_a_passkey_that_verifies_nobody_on_the_page(subject: Subject) -> str:
    key = Device(verifies_user=False)
    await plant(subject.person, key)
    return await hosted_outcome(subject.hosted.passkey(key))


@dataclass(frozen=True, slots=True)
class Way:
    """How a way in is tried with the first factor only, and what it must come to.

    `protected` for the user with an app, `bare` for the one without where the client demands one.
    """

    drives: tuple[Drive, ...]
    protected: str
    bare: str


WAYS = {
    "POST /api/auth/signup": Way((by_signing_up,), "email_taken", "enrollment"),
    "POST /api/auth/login": Way((by_password, by_password_into_a_cookie), "challenged", "enrollment"),
    "POST /api/auth/totp/verify": Way((by_a_wrong_code,), "invalid_mfa_code", "validation_failed"),
    "POST /api/auth/recovery-codes/verify": Way(
        (by_a_wrong_recovery_code,), "invalid_mfa_code", "validation_failed"
    ),
    "POST /api/auth/totp/enable": Way((by_enabling_nothing,), "no_pending_setup", "no_pending_setup"),
    "POST /api/auth/passkey/login/finish": Way(
        (by_a_passkey_that_verifies_nobody,), "challenged", "enrollment"
    ),
    "POST /api/auth/passkey/register/finish": Way(
        (by_a_passkey_nobody_asked_for,), "passkey_session_unknown", "passkey_session_unknown"
    ),
    "POST /api/auth/refresh": Way(
        (by_a_token_that_is_none_of_a_session,), "invalid_refresh_token", "validation_failed"
    ),
    "GET /api/auth/magic-link/verify": Way((by_a_mailed_link,), "challenged", "enrollment"),
    "POST /api/auth/magic-link/verify": Way((by_the_page_of_a_mailed_link,), "challenged", "enrollment"),
    "POST /api/auth/redirect/exchange": Way((by_the_code_of_a_redirect,), "challenged", "enrollment"),
    "auth.v1.AuthService/VerifyMagicLink": Way((by_a_mailed_link_over_grpc,), "challenged", "enrollment"),
    "auth.v1.AuthService/Signup": Way((by_signing_up_over_grpc,), "email_taken", "enrollment"),
    "auth.v1.AuthService/Login": Way((by_password_over_grpc,), "challenged", "enrollment"),
    "auth.v1.AuthService/Refresh": Way(
        (by_a_token_that_is_none_of_a_session_over_grpc,), "invalid_refresh_token", "invalid_refresh_token"
    ),
    f"{LOGINS}/PasswordLogin": Way((by_password_on_the_page,), "challenged", "enrollment"),
    f"{LOGINS}/FollowLoginLink": Way((by_a_mailed_link_on_the_page,), "challenged", "enrollment"),
    f"{LOGINS}/SignUp": Way((by_signing_up_on_the_page,), "email_taken", "enrollment"),
    f"{LOGINS}/CompleteWithTotp": Way(
        (by_a_wrong_code_on_the_page,), "invalid_mfa_code", "validation_failed"
    ),
    f"{LOGINS}/CompleteWithRecoveryCode": Way(
        (by_a_wrong_recovery_code_on_the_page,), "invalid_mfa_code", "validation_failed"
    ),
    f"{LOGINS}/EnableTotp": Way((by_enabling_nothing_on_the_page,), "unauthenticated", "no_pending_setup"),
    f"{LOGINS}/FinishPasskey": Way(
        (by_a_passkey_that_verifies_nobody_on_the_page,), "challenged", "enrollment"
    ),
}


def ways_in() -> set[str]:
    """Every operation of the contract, and every RPC, whose success can hold an access token."""
    found = set()
    for path, item in CONTRACT["paths"].items():
        for method, operation in item.items():
            if method == "parameters":
                continue
            answers = {code: answer for code, answer in operation["responses"].items() if code[0] in "23"}
            if "access_token" in members(answers, set()):
                found.add(f"{method.upper()} {path}")
    for service in auth_pb2.DESCRIPTOR.services_by_name.values():
        for rpc in service.methods:
            if "access_token" in rpc.output_type.fields_by_name:
                found.add(f"{service.full_name}/{rpc.name}")
    for rpc in logins_pb2.DESCRIPTOR.services_by_name["LoginService"].methods:
        if "opened" in rpc.output_type.fields_by_name:
            found.add(f"{LOGINS}/{rpc.name}")
    return found


def members(part: Any, seen: set[str]) -> set[str]:
    """The names of all members that a part of the contract can have, through its references."""
    match part:
        case {"$ref": str(reference)}:
            name = reference.rpartition("/")[2]
            if name in seen:
                return set()
            return members(CONTRACT["components"]["schemas"][name], seen | {name})
        case dict():
            inner = [members(value, seen) for value in part.values()]
            own = set(part["properties"]) if isinstance(part.get("properties"), dict) else set()
            return own.union(*inner)
        case list():
            return set().union(*(members(item, seen) for item in part))
        case _:
            return set()


@pytest.fixture
async def subjects(system: System, auth: Any) -> AsyncIterator[list[Subject]]:
    """Both users."""
    free = await system.tenant(settings=OPEN)
    strict = await system.tenant(settings={**MFA_REQUIRED, **OPEN})
    # Their addresses are verified: in an account whose is not, the first proof of the mailbox voids factors.
    user = await protect(await new_person(system, free))
    email = address()
    bare = enrolling(system, strict, email, await sign_up(system, strict, email))
    for email_of in (user.person.email, email):
        [mail] = await system.mails(email_of, "verify_email")
        assert (await verify(system, mail.token)).status == 200
    async with system.channel("identity", caller="federation") as channel:
        pages = [Hosted.at(system, tenant, channel) for tenant in (free, strict)]
        yield [
            Subject(system, free, user.person, auth, pages[0], app=user.app),
            Subject(system, strict, bare.person, auth, pages[1], enrollment_token=bare.token),
        ]


def test_every_way_in_is_tried() -> None:
    found = ways_in()
    assert {"POST /api/auth/login", "auth.v1.AuthService/Login", f"{LOGINS}/PasswordLogin"} <= found
    assert found - set(NO_LOGIN) == set(WAYS), "tell in WAYS how to try it, or in NO_LOGIN why it is none"


async def test_no_way_in_opens_a_session_without_the_second_factor(subjects: list[Subject]) -> None:
    """T-13, and that nothing but the gate decides."""
    seen, expected = {}, {}
    for subject in subjects:
        kind = "protected" if subject.app else "bare"
        for name, way in WAYS.items():
            before = await subject.sessions()
            for drive in way.drives:
                seen[kind, name, drive.__name__] = await drive(subject)
                expected[kind, name, drive.__name__] = way.protected if subject.app else way.bare
            opened = await subject.sessions() - before
            if subject.app:
                assert opened == set(), name
            else:
                # What did begin is for the set-up of a factor: it has no refresh token.
                rows = await subject.system.sql(
                    "token", "SELECT 1 FROM refresh_tokens WHERE session_id = ANY($1::uuid[])", list(opened)
                )
                assert rows == [], name
    assert seen == expected


async def test_ways_in_open_a_session_where_nothing_asks_for_more(subjects: list[Subject]) -> None:
    """The control: the same attempts of a user whom no rule asks, and the factor of one whom it asks."""
    protected, _ = subjects
    assert protected.app is not None
    plain = Subject(
        protected.system,
        protected.tenant,
        await new_person(protected.system, protected.tenant),
        protected.auth,
        protected.hosted,
    )
    for drive in (
        by_password,
        by_password_into_a_cookie,
        by_password_on_the_page,
        by_signing_up,
        by_password_over_grpc,
        by_signing_up_over_grpc,
        by_a_mailed_link,
        by_the_code_of_a_redirect,
        by_a_mailed_link_on_the_page,
        by_signing_up_on_the_page,
        by_a_passkey_that_verifies_nobody,
        by_a_passkey_that_verifies_nobody_on_the_page,
    ):
        assert await drive(plain) == "opened", drive.__name__
    body = {"mfa_token": await protected.mfa_token(), "code": protected.app.code()}
    assert outcome(await protected.call("totp/verify", body)) == "opened"


async def test_impersonation_says_who_acts(subjects: list[Subject]) -> None:
    """What `NO_LOGIN` says of it."""
    protected, _ = subjects
    path = f"/api/admin/clients/{protected.tenant.id}/users/{protected.person.id}/impersonate"
    admin: CallerContext = protected.system.admin()

    answer = await protected.system.call(
        "identity", "POST", path, caller=admin, json={"reason": "ticket 4711"}
    )

    assert answer.status in (200, 201), answer.body
    assert "refresh_token" not in answer.json
    claims = claims_of(answer.json["access_token"])
    assert claims["act"]["sub"]
    assert claims["exp"] - claims["iat"] <= 3600


def test_only_the_gate_opens_sessions() -> None:
    """No slice but these calls what opens a session, and no service but identity may."""
    openers = {"open": "logins", "open_for_enrollment": "logins", "open_for_impersonation": "support"}
    client = ast.parse((REPOSITORY / "services/identity/sessions/client.py").read_text())
    methods = {
        function.name
        for function in ast.walk(client)
        if isinstance(function, ast.AsyncFunctionDef)
        and any(called(node) == "OpenSession" for node in ast.walk(function))
    }
    assert methods == set(openers)
    assert RPC_CALLERS["internal.token.v1.SessionService"] == frozenset({"identity"})
    calls = {
        (name, path.relative_to(REPOSITORY).parts[2])
        for path, node in calls_of_our_code()
        if path.is_relative_to(REPOSITORY / "services" / "identity")
        and (name := called(node)) in openers
        and "sessions" in ast.unparse(node.func)
    }
    assert calls == set(openers.items())
    assert {
        path.relative_to(REPOSITORY).as_posix()
        for path, node in calls_of_our_code()
        if called(node) in ("OpenSession", "OpenSessionRequest")
    } == {"services/identity/sessions/client.py"}


def calls_of_our_code() -> Iterator[tuple[Path, ast.Call]]:
    """Every call in the code of the processes, tests left out."""
    for folder in ("services", "gateway", "contracts", "chassis"):
        for path in sorted((REPOSITORY / folder).rglob("*.py")):
            if {"tests", "gen", "migrations"} & set(path.relative_to(REPOSITORY).parts):
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call):
                    yield path, node


def called(node: ast.AST) -> str:
    """The name of what is called."""
    if not isinstance(node, ast.Call):
        return ""
    match node.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
        case _:
            return ""
