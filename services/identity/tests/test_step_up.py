"""The step-up guard: what a session alone cannot do, and what a proof opens, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from chassis.context import CallerContext
from chassis.errors import AppError, Kind
from contracts.actions import Action
from contracts.security_policy import ACTIONS
from contracts.step_up import DEFAULTS, RemoteStepUpGuard
from services.identity.tests.conftest import PASSWORD, Person, another_identity
from services.identity.tests.pages import ORIGIN, begin_login, register
from services.identity.tests.second_factors import call_as, new_person, new_protected
from services.identity.tests.step_ups import answer_challenge, proof
from tests.harness import Answer, System, Tenant
from tests.webauthn_device import Device

EXPORT = "/api/auth/me/export"


async def export(system: System, caller: CallerContext, token: str | None = None, query: str = "") -> Answer:
    """Call a protected route."""
    headers = {"x-step-up-token": token} if token else None
    return await system.call("identity", "GET", EXPORT + query, caller=caller, headers=headers)


def policy(**actions: dict[str, Any]) -> dict[str, Any]:
    """Settings of a client with a policy for actions, `__` for a dot."""
    named = {name.replace("__", "."): rule for name, rule in actions.items()}
    return {"adaptive_security": {"actions": named}}


def test_every_action_has_a_default() -> None:
    assert set(DEFAULTS) == set(Action) == set(map(Action, ACTIONS))


async def test_protected_action_goes_on_once_with_the_proof_of_its_challenge(
    system: System, person: Person
) -> None:
    caller = person.caller()
    refused = await export(system, caller)

    assert (refused.status, refused.code) == (403, "step_up_required")
    members = {name: refused.json[name] for name in ("factors", "action", "expires_in")}
    assert members == {"factors": ["password"], "action": "data.export", "expires_in": 300}
    challenged = await system.event("step_up_challenged", client_id=person.tenant.id)
    assert (challenged.actor_id, challenged.data["factors"]) == (person.id, ["password"])

    verified = await answer_challenge(system, caller, refused.json["challenge_token"])
    assert (verified.status, verified.json["action"], verified.json["expires_in"]) == (
        200,
        "data.export",
        300,
    )
    token = verified.json["step_up_token"]
    event = await system.event("step_up_verified", client_id=person.tenant.id, factor="password")
    assert event.data["action"] == "data.export"

    assert (await export(system, caller, token)).status == 200
    again = await export(system, caller, token)
    assert (again.status, again.code) == (403, "step_up_required")
    assert (await system.event("step_up_refused", client_id=person.tenant.id)).actor_id == person.id


async def test_proof_is_good_for_its_user_session_action_and_time_only(  # T-12
    system: System, tenant: Tenant
) -> None:
    person, other = await new_person(system, tenant), await new_person(system, tenant)
    stranger = await new_person(system, await system.tenant())
    caller = person.caller()
    token = await proof(system, caller, await export(system, caller))
    logged_in = await person.log_in()
    another_session = person.tenant.user_caller(person.id, logged_in.json["session"]["id"])
    no_session = replace(caller, session_id=uuid4())

    attacks: list[Callable[[], Awaitable[Answer]]] = [
        lambda: export(system, other.caller(), token),
        lambda: export(system, stranger.caller(), token),
        lambda: export(system, another_session, token),
        lambda: export(system, no_session, token),
        lambda: export(system, caller, None, f"?step_up_token={token}"),
        lambda: export(system, caller, None, f"?x-step-up-token={token}"),
        lambda: export(system, caller, token + "x"),
        lambda: system.call(
            "identity", "DELETE", "/api/auth/me", caller=caller, headers={"x-step-up-token": token}
        ),
    ]
    for attack in attacks:
        answer = await attack()
        assert (answer.status, answer.code) == (403, "step_up_required"), answer.body
    with system.clock.advanced(timedelta(seconds=301)):
        late = await export(system, caller, token)
        assert (late.status, late.code) == (403, "step_up_required")

    # The control: none of this has used it up.
    assert (await export(system, caller, token)).status == 200


async def test_proof_is_void_when_the_password_changes(system: System, person: Person) -> None:
    caller = person.caller()
    token = await proof(system, caller, await export(system, caller))
    waiting = (await export(system, caller)).json["challenge_token"]
    new = "another horse battery staple"
    changed = await call_as(person, "change-password", {"current_password": PASSWORD, "new_password": new})
    assert changed.status == 200

    assert (await export(system, caller, token)).code == "step_up_required"
    late = await answer_challenge(system, caller, waiting, factor="password", password=new)
    assert (late.status, late.code) == (403, "invalid_challenge")


async def test_challenge_is_answered_by_its_owner_within_five_attempts(
    system: System, tenant: Tenant
) -> None:
    person, other = await new_person(system, tenant), await new_person(system, tenant)
    caller = person.caller()
    waiting = (await export(system, caller)).json["challenge_token"]

    for thief in (other.caller(), replace(caller, session_id=uuid4())):
        answer = await answer_challenge(system, thief, waiting)
        assert (answer.status, answer.code) == (403, "invalid_challenge")
    unknown = await answer_challenge(system, caller, "step_up_challenge_unknown")
    assert (unknown.status, unknown.code) == (403, "invalid_challenge")
    not_offered = await answer_challenge(system, caller, waiting, factor="totp", code="123456")
    assert (not_offered.status, not_offered.code) == (403, "factor_not_offered")
    empty = await answer_challenge(system, caller, waiting, factor="password")
    assert (empty.status, empty.json["errors"][0]["field"]) == (422, "password")
    for _ in range(2):
        wrong = await answer_challenge(system, caller, waiting, factor="password", password="wrong one")
        assert (wrong.status, wrong.code) == (403, "wrong_password")
    assert (await answer_challenge(system, caller, waiting)).status == 200

    waiting = (await export(system, caller)).json["challenge_token"]
    for _ in range(5):
        await answer_challenge(system, caller, waiting, factor="totp", code="123456")
    used_up = await answer_challenge(system, caller, waiting)
    assert (used_up.status, used_up.code) == (403, "invalid_challenge")


async def test_of_all_answers_at_once_one_gets_a_proof_and_of_twenty_uses_one_passes(  # X-14
    system: System, person: Person
) -> None:
    caller = person.caller()
    waiting = (await export(system, caller)).json["challenge_token"]

    answers = await asyncio.gather(*(answer_challenge(system, caller, waiting) for _ in range(5)))

    given = [answer.json["step_up_token"] for answer in answers if answer.status == 200]
    assert len(given) == 1
    assert {answer.status for answer in answers} <= {200, 403}
    uses = await asyncio.gather(*(export(system, caller, given[0]) for _ in range(20)))
    assert sorted(answer.status for answer in uses) == [200, *[403] * 19]


async def test_factors_are_those_of_the_user_and_their_codes_are_used_up(  # T-01
    system: System, tenant: Tenant
) -> None:
    user = await new_protected(system, tenant)
    caller = user.person.caller()
    refused = await export(system, caller)
    assert refused.json["factors"] == ["totp", "recovery_code"]
    waiting = refused.json["challenge_token"]

    by_password = await answer_challenge(system, caller, waiting)
    assert (by_password.status, by_password.code) == (403, "factor_not_offered")
    code = user.app.code()
    verified = await answer_challenge(system, caller, waiting, factor="totp", code=code)
    assert verified.status == 200
    assert (await export(system, caller, verified.json["step_up_token"])).status == 200

    waiting = (await export(system, caller)).json["challenge_token"]
    replayed = await answer_challenge(system, caller, waiting, factor="totp", code=code)
    assert (replayed.status, replayed.code) == (403, "wrong_code")
    shown = {"factor": "recovery_code", "code": user.recovery_codes[0]}
    assert (await answer_challenge(system, caller, waiting, **shown)).status == 200
    waiting = (await export(system, caller)).json["challenge_token"]
    used = await answer_challenge(system, caller, waiting, **shown)
    assert (used.status, used.code) == (403, "wrong_code")

    # Factors change by a proof as by a code; in the body as in the header.
    refused = await call_as(user.person, "recovery-codes", {})
    assert refused.json["action"] == "recovery_codes.rotate"
    token = await proof(system, caller, refused, factor="totp", code=user.app.code())
    replaced = await call_as(user.person, "recovery-codes", {"step_up_token": token})
    assert (replaced.status, len(replaced.json["recovery_codes"])) == (200, 10)
    refused = await call_as(user.person, "totp/disable", {"step_up_token": token})
    assert (refused.status, refused.code) == (403, "step_up_required")
    token = await proof(system, caller, refused, factor="totp", code=user.app.code())
    assert (await call_as(user.person, "totp/disable", {"step_up_token": token})).status == 200


async def test_passkey_of_the_user_is_a_proof(system: System, tenant: Tenant) -> None:
    person, other = await new_person(system, tenant), await new_person(system, tenant)
    own, foreign = Device(), Device()
    assert (await register(person, own)).status == 201
    assert (await register(other, foreign)).status == 201
    caller = person.caller()
    refused = await export(system, caller)
    assert refused.json["factors"] == ["passkey"]

    async def shown(device: Device, ceremony: Answer | None = None) -> dict[str, Any]:
        begun = ceremony or await begin_login(system, tenant, user_verification=True)
        credential = device.get(begun.json["options"], origin=ORIGIN)
        return {"factor": "passkey", "session_id": begun.json["session_id"], "credential": credential}

    waiting = refused.json["challenge_token"]
    wrong = await answer_challenge(system, caller, waiting, **await shown(foreign))
    assert (wrong.status, wrong.code) == (403, "wrong_passkey")
    answered = await shown(own)
    verified = await answer_challenge(system, caller, waiting, **answered)
    assert verified.status == 200, verified.body
    assert (await export(system, caller, verified.json["step_up_token"])).status == 200
    waiting = (await export(system, caller)).json["challenge_token"]
    replayed = await answer_challenge(system, caller, waiting, **answered)
    assert (replayed.status, replayed.code) == (403, "wrong_passkey")


async def test_policy_decides_what_an_action_asks_for(system: System) -> None:
    settings = policy(
        data__export={"mode": "notify"}, account__delete={"mode": "off"}, mfa__setup={"mode": "block"}
    )
    tenant = await system.tenant(settings=settings)
    person = await new_person(system, tenant)
    caller = person.caller()

    assert (await export(system, caller)).status == 200
    noticed = await system.event("protected_action_noticed", client_id=tenant.id)
    assert noticed.data == {"action": "data.export", "resource": "", "level": "low"}
    # Nothing takes an account away by a session alone, whatever the policy.
    deletion = await system.call("identity", "DELETE", "/api/auth/me", caller=caller)
    assert (deletion.status, deletion.code) == (403, "step_up_required")
    blocked = await call_as(person, "totp/setup", {"password": PASSWORD})
    assert (blocked.status, blocked.code) == (403, "action_blocked")
    assert blocked.json["action"] == "mfa.setup"
    event = await system.event("protected_action_blocked", client_id=tenant.id)
    assert event.data["action"] == "mfa.setup"


async def test_risk_challenges_what_policy_lets_pass_and_blocks_what_a_proof_would_open(
    system: System,
) -> None:
    rule = {"mode": "notify", "risk_challenge_level": "high", "risk_block_level": "critical"}
    settings = policy(data__export=rule)
    settings["adaptive_security"]["risk"] = {
        "tor_ip_cidrs": ["198.51.100.0/24"],
        "blocked_ip_cidrs": ["192.0.2.0/24"],
    }
    tenant = await system.tenant(settings=settings)
    person = await new_person(system, tenant)
    usual, tor, blocked = (person.caller(ip=ip) for ip in ("203.0.113.9", "198.51.100.7", "192.0.2.7"))

    assert (await export(system, usual)).status == 200
    refused = await export(system, tor)
    token = await proof(system, tor, refused)
    refused = await export(system, blocked, token)
    assert (refused.status, refused.code) == (403, "action_blocked")
    assert (await export(system, tor, token)).status == 200


async def test_user_without_any_factor_proves_itself_by_a_fresh_login(system: System, person: Person) -> None:
    await system.sql("identity", "DELETE FROM passwords WHERE user_id = $1", UUID(person.id))
    now = int(system.clock.now().timestamp())

    old = await export(system, person.caller(auth_time=now - 301))
    assert (old.status, old.code, old.json["factors"]) == (403, "step_up_required", [])
    assert (await export(system, person.caller(auth_time=now - 299))).status == 200


async def test_who_acts_in_a_users_name_passes_no_guard(system: System, person: Person) -> None:
    token = await proof(system, person.caller(), await export(system, person.caller()))
    acting = person.caller(impersonator_id=str(uuid4()))
    for answer in (
        await export(system, acting, token),
        await system.call("identity", "DELETE", "/api/auth/me", caller=acting),
        await answer_challenge(system, acting, "step_up_challenge_x"),
    ):
        assert (answer.status, answer.code) == (403, "impersonation_refused")
    assert (await export(system, person.caller(), token)).status == 200


async def test_without_redis_what_needs_a_proof_is_not_available(system: System, person: Person) -> None:
    async with another_identity(system, redis_url=None):
        answer = await export(system, person.caller())
    assert (answer.status, answer.code) == (503, "feature_unavailable")
    assert (await export(system, person.caller())).code == "step_up_required"


@pytest.mark.parametrize("service", ["orgs", "token", "audit"])
async def test_other_services_ask_the_same_guard(system: System, person: Person, service: str) -> None:
    caller, mine, other = person.caller(), uuid4(), uuid4()
    async with system.channel("identity", caller=service) as channel:
        guard = RemoteStepUpGuard(channel)

        async def check(who: CallerContext, token: str | None, resource: UUID) -> AppError | None:
            try:
                await guard.check(who, Action.ORGANIZATION_DELETE, token=token, resource=resource)
            except AppError as error:
                return error
            return None

        refusal = await check(caller, None, mine)
        assert refusal is not None
        assert (refusal.kind, refusal.code) == (Kind.FORBIDDEN, "step_up_required")
        assert refusal.extra["factors"] == ["password"]
        assert refusal.extra["expires_in"] == 300
        waiting = str(refusal.extra["challenge_token"])
        token = (await answer_challenge(system, caller, waiting)).json["step_up_token"]

        # Another organization's proof opens nothing (T-12), and an admin without factors has none.
        for attempt in (check(caller, token, other), check(system.admin(admin_id=uuid4()), token, mine)):
            refused = await attempt
            assert refused is not None
            assert refused.code == "step_up_required"
        assert await check(caller, token, mine) is None
        assert await check(system.admin(), None, mine) is None
