"""Users with an authenticator app, for the tests of every slice that meets second factors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pyotp

from services.identity.tests.conftest import PASSWORD, Person, address, sign_up
from services.identity.totp.codes import STEP_SECONDS
from tests.harness import Answer, System, Tenant


@dataclass(slots=True)
class App:
    """An authenticator app: shows codes, a fresh one each time unless asked for one of a certain step."""

    system: System
    secret: str
    shown: int = 0

    @property
    def present(self) -> int:
        """The step that it is now."""
        return int(self.system.clock.now().timestamp()) // STEP_SECONDS

    def at(self, offset: int) -> str:
        """The code of a step beside the present one."""
        return pyotp.TOTP(self.secret).generate_otp(self.present + offset)

    def code(self) -> str:
        """A code that has not been shown before; moves the clock where the window has none left."""
        step = max(self.shown + 1, self.present - 1)
        while step > self.present + 1:
            self.system.clock.offset += timedelta(seconds=STEP_SECONDS)
        self.shown = step
        return pyotp.TOTP(self.secret).generate_otp(step)

    def wrong(self) -> str:
        """Six digits that are no code near now."""
        near = {self.at(offset) for offset in range(-4, 5)}
        return next(code for number in range(20) if (code := f"{number:06d}") not in near)


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
    """Begin to set up an app, by the password."""
    answer = await call_as(person, "totp/setup", {"password": PASSWORD}, **changes)
    assert answer.status == 200, answer.body
    return App(person.system, answer.json["secret"])


async def protect(person: Person) -> Protected:
    """Give a user an authenticator app."""
    app = await set_up(person)
    answer = await call_as(person, "totp/enable", {"code": app.code()})
    assert answer.status == 200, answer.body
    return Protected(person, app, answer.json["recovery_codes"])


async def new_protected(system: System, tenant: Tenant) -> Protected:
    """A fresh user of a tenant with an authenticator app."""
    return await protect(await new_person(system, tenant))
