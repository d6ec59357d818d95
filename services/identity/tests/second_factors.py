"""Users with an authenticator app, for the tests of every slice that meets second factors."""

from __future__ import annotations

import asyncio
import base64
import json as json_module
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from services.identity.tests.conftest import Person, address, another_identity, sign_up
from tests.authenticator_app import App
from tests.harness import Answer, System, Tenant


@dataclass(frozen=True, slots=True)
class Protected:
    """A user with an authenticator app, and the recovery codes that came with it."""

    person: Person
    app: App
    recovery_codes: list[str]

    async def challenge(self, **changes: Any) -> str:
        """Log in with the password and return the token of the login that waits."""
        answer = await self.person.log_in(**changes)
        assert answer.status == 200, answer.body
        assert "access_token" not in answer.json
        return str(answer.json["mfa_token"])

    async def show(self, mfa_token: str, code: Any, route: str = "totp", **changes: Any) -> Answer:
        """Show a code for a login that waits."""
        return await show(self.person.system, self.person.tenant, mfa_token, code, route, **changes)


async def call_as(
    person: Person, path: str, json: Any = None, method: str = "POST", **changes: Any
) -> Answer:
    """Call a route as the user, in the first session."""
    caller = person.caller(**changes)
    return await person.system.call("identity", method, f"/api/auth/{path}", caller=caller, json=json)


async def show(
    system: System, tenant: Tenant, mfa_token: str, code: Any, route: str = "totp", **changes: Any
) -> Answer:
    """Show a code at a client for a login that waits."""
    body = {"mfa_token": mfa_token, "code": code, "token_transport": "json"}
    return await system.call(
        "identity", "POST", f"/api/auth/{route}/verify", caller=tenant.caller(**changes), json=body
    )


async def new_person(system: System, tenant: Tenant) -> Person:
    """A fresh user of a tenant."""
    email = address()
    answer = await sign_up(system, tenant, email)
    assert answer.status == 201, answer.body
    return Person(system, tenant, email, answer.json)


async def set_up(person: Person, **changes: Any) -> App:
    """Begin to set up an app, right after a login."""
    changes = {"auth_time": int(person.system.clock.now().timestamp()), **changes}
    answer = await call_as(person, "totp/setup", {}, **changes)
    assert answer.status == 200, answer.body
    return App(person.system, answer.json["secret"])


async def protect(person: Person) -> Protected:
    """Give a user an authenticator app."""
    app = await set_up(person)
    answer = await call_as(person, "totp/enable", {"code": app.code()})
    assert answer.status == 200, answer.body
    return Protected(person, app, answer.json["recovery_codes"])


MFA_REQUIRED = {"adaptive_security": {"mfa": {"mode": "required"}}}
"""Settings of a client that demands a second factor of everybody."""


async def new_protected(system: System, tenant: Tenant) -> Protected:
    """A fresh user of a tenant with an authenticator app."""
    return await protect(await new_person(system, tenant))


async def at_two_processes(
    system: System, calls: Sequence[Callable[[], Coroutine[Any, Any, Answer]]]
) -> list[Answer]:
    """Make calls at once, in turns at identity and at a second process of it."""
    first = system.faces["identity"]
    async with another_identity(system):
        faces, tasks = (first, system.faces["identity"]), []
        for number, call in enumerate(calls):
            system.faces["identity"] = faces[number % 2]
            tasks.append(asyncio.create_task(call()))
            await asyncio.sleep(0)  # it has chosen its process
        return await asyncio.gather(*tasks)


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    part = token.split(".")[1]
    claims: dict[str, Any] = json_module.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


@dataclass(frozen=True, slots=True)
class Enrolling:
    """A user whose client demands a second factor, and who has none yet."""

    person: Person
    token: str

    async def call(self, path: str, json: Any = None, method: str = "POST", **changes: Any) -> Answer:
        """Call a route with the enrollment token, as the gateway passes it on."""
        return await call_as(self.person, path, json, method, is_enrolling=True, amr=("pwd",), **changes)

    async def finish(self) -> Protected:
        """Set up an app and take the session that comes with it."""
        answer = await self.call("totp/setup", {})
        assert answer.status == 200, answer.body
        app = App(self.person.system, answer.json["secret"])
        answer = await self.call("totp/enable", {"code": app.code(), "token_transport": "json"})
        assert answer.status == 200, answer.body
        person = Person(self.person.system, self.person.tenant, self.person.email, answer.json["session"])
        return Protected(person, app, answer.json["recovery_codes"])


async def new_enrolling(system: System, tenant: Tenant) -> Enrolling:
    """A fresh user of a tenant that demands second factors of everybody."""
    email = address()
    answer = await sign_up(system, tenant, email)
    return enrolling(system, tenant, email, answer)


def enrolling(system: System, tenant: Tenant, email: str, answer: Answer) -> Enrolling:
    """Read the answer of a login that opens nothing but the set-up of a factor."""
    assert answer.json["mfa_enrollment_required"] is True, answer.body
    assert not {"access_token", "refresh_token", "session"} & set(answer.json)
    token = answer.json["enrollment_token"]
    claims = claims_of(token)
    document = {"user": {"id": claims["sub"]}, "session": {"id": claims["sid"]}}
    return Enrolling(Person(system, tenant, email, document), token)
