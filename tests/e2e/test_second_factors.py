"""Second factors, whole: from the set-up to the removal, and under attack at two of everything."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import httpx
import pyotp

from tests.e2e.stack import ORIGIN, PASSWORD, Login, Stack, Tenant

MOST_EVALUATED = 10


@dataclass(frozen=True, slots=True)
class Protected:
    """A user with an authenticator app."""

    stack: Stack
    login: Login
    app: pyotp.TOTP
    recovery_codes: list[str]

    async def challenge(self, **options: Any) -> str:
        """Log in with the password; return what stands for the login that waits."""
        body = {"email": self.login.email, "password": PASSWORD}
        answer = await self.stack.call("POST", "/api/auth/login", self.login.tenant, json=body, **options)
        assert answer.json()["mfa_required"] is True, answer.text
        return str(answer.json()["mfa_token"])

    async def show(self, mfa_token: str, code: str, route: str = "totp", **options: Any) -> httpx.Response:
        """Show a code for a login that waits."""
        body = {"mfa_token": mfa_token, "code": code, "token_transport": "json"}
        return await self.stack.call(
            "POST", f"/api/auth/{route}/verify", self.login.tenant, json=body, **options
        )


def code_of(app: pyotp.TOTP, offset: int) -> str:
    """The code of a time step beside the present one."""
    return app.generate_otp(int(time.time()) // app.interval + offset)


def wrong_code(app: pyotp.TOTP) -> str:
    """Six digits that are no code near now."""
    near = {code_of(app, offset) for offset in range(-3, 4)}
    return next(code for number in range(10) if (code := f"{number:06d}") not in near)


async def protect(stack: Stack, tenant: Tenant) -> Protected:
    """Sign a user up who sets up an authenticator app right away."""
    login = await stack.sign_up(tenant)
    setup = await stack.call("POST", "/api/auth/totp/setup", login, json={})
    assert setup.status_code == 200, setup.text
    app = pyotp.TOTP(setup.json()["secret"])
    # The code of the step before leaves those of this one and the next to the test.
    enabled = await stack.call("POST", "/api/auth/totp/enable", login, json={"code": code_of(app, -1)})
    assert enabled.status_code == 200, enabled.text
    return Protected(stack, login, app, enabled.json()["recovery_codes"])


async def test_user_protects_the_account_logs_in_and_gives_the_app_up(stack: Stack, shop: Tenant) -> None:
    user = await protect(stack, shop)
    body = {"email": user.login.email, "password": PASSWORD}
    browser = {"origin": ORIGIN, "x-api-key": shop.publishable_key}
    challenged = await stack.call("POST", "/api/auth/login", json=body, headers=browser)
    assert challenged.status_code == 200
    assert challenged.json()["factors"] == ["totp", "recovery_code"]
    assert set(challenged.json()) == {"mfa_required", "mfa_token", "expires_in", "factors", "risk"}
    assert "set-cookie" not in challenged.headers

    shown = {"mfa_token": challenged.json()["mfa_token"], "code": code_of(user.app, 0)}
    opened = await stack.call("POST", "/api/auth/totp/verify", json=shown, headers=browser)
    assert opened.status_code == 200, opened.text
    assert "auth_refresh=" in opened.headers["set-cookie"]
    login = Login.of(shop, opened)
    assert opened.json()["user"]["mfa_enabled"] is True
    assert (await stack.call("GET", "/api/auth/me", login)).json()["mfa_enabled"] is True

    spelled = user.recovery_codes[0].upper().replace("-", " ")
    by_recovery = await user.show(await user.challenge(gateway=1), spelled, "recovery-codes", gateway=1)
    assert by_recovery.status_code == 200, by_recovery.text
    left = await stack.call("GET", "/api/auth/recovery-codes", login)
    assert left.json()["remaining"] == 9
    renewed = await stack.call(
        "POST", "/api/auth/recovery-codes", login, json={"code": user.recovery_codes[1]}
    )
    fresh = renewed.json()["recovery_codes"]
    assert len({*fresh, *user.recovery_codes}) == 20

    gone = await stack.call("POST", "/api/auth/totp/disable", login, json={"code": fresh[0]})
    assert gone.json() == {"enabled": False}
    assert (await stack.log_in(user.login)).user_id == user.login.user_id
    for event_type in ("mfa_challenged", "totp_enabled", "recovery_code_used", "totp_disabled"):
        event = await stack.event(shop.id, event_type)
        assert event["target"]["id"] == user.login.user_id
        assert not any(code in str(event) for code in (*fresh, *user.recovery_codes))


async def test_one_code_at_twenty_logins_at_once_opens_one_at_two_of_everything(
    stack: Stack, shop: Tenant
) -> None:
    """T-02, T-09, X-06."""
    user = await protect(stack, shop)
    for route, code in (("totp", code_of(user.app, 0)), ("recovery-codes", user.recovery_codes[0])):
        tokens = await asyncio.gather(*(user.challenge(gateway=number % 2) for number in range(20)))
        answers = await asyncio.gather(
            *(user.show(token, code, route, gateway=number % 2) for number, token in enumerate(tokens))
        )
        statuses = [answer.status_code for answer in answers]
        assert statuses.count(200) == 1
        assert set(statuses) <= {200, 401, 429}
        await stack.call(
            "POST", f"/api/admin/clients/{shop.id}/users/{user.login.user_id}/unlock", stack.admin
        )


async def test_guesses_spread_over_everything_are_few_and_lock_right_codes_out_too(
    stack: Stack, shop: Tenant
) -> None:
    """T-03."""
    user = await protect(stack, shop)
    tokens = await asyncio.gather(
        *(
            user.challenge(gateway=number % 2, headers={"x-forwarded-for": f"198.51.100.{number}"})
            for number in range(31)
        )
    )
    guess = wrong_code(user.app)
    answers = await asyncio.gather(
        *(
            user.show(token, guess, gateway=number % 2, headers={"x-forwarded-for": f"203.0.113.{number}"})
            for number, token in enumerate(tokens[:30])
            for _ in range(4)
        )
    )

    evaluated = [answer for answer in answers if answer.status_code == 401]
    assert len(evaluated) == MOST_EVALUATED
    assert {answer.status_code for answer in answers} == {401, 429}
    right = await user.show(tokens[30], code_of(user.app, 0))
    assert (right.status_code, right.json()["code"]) == (429, "account_locked")
    await stack.call("POST", f"/api/admin/clients/{shop.id}/users/{user.login.user_id}/unlock", stack.admin)
    assert (await user.show(tokens[30], code_of(user.app, 0))).status_code == 200
