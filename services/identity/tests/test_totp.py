"""The authenticator app: set-up, login, what is refused, and that no code counts twice."""

from __future__ import annotations

from services.identity.tests.second_factors import call_as, new_protected
from tests.harness import System, Tenant


async def test_user_sets_up_an_app_logs_in_with_it_and_removes_it(system: System, tenant: Tenant) -> None:
    user = await new_protected(system, tenant)

    opened = await user.show(await user.challenge(), user.app.code())
    left = await call_as(user.person, "recovery-codes", method="GET")
    removed = await call_as(user.person, "totp/disable", {"code": user.recovery_codes[0]})

    assert opened.status == 200, opened.body
    assert opened.json["user"]["mfa_enabled"] is True
    assert left.json["remaining"] == len(user.recovery_codes) == 10
    assert removed.json == {"enabled": False}
    assert (await user.person.log_in()).json["user"]["mfa_enabled"] is False
