"""Admins: logins, who may change whom, the last owner."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from chassis.context import CallerContext
from chassis.errors import RemoteError
from chassis.ids import new_id
from contracts.actions import Action
from contracts.admin_tokens import AdminTokens
from contracts.step_up import RemoteStepUpGuard, StepUpGuard
from services.identity.tests.conftest import address, another_identity
from tests.admins import PASSWORD, USERS, add, call_anonymously, new_admin
from tests.harness import BASE_URL, Answer, System, Tenant


def read_token(system: System, token: str) -> Any:
    key = system.admin_token_secret.get_secret_value().encode()
    return AdminTokens(key, issuer=BASE_URL).verify(token, system.clock.now().timestamp())


async def patch(system: System, admin_id: str, by: Any = None, **members: Any) -> Answer:
    return await system.call(
        "identity", "PATCH", f"{USERS}/{admin_id}", caller=by or system.admin(), json=members
    )


async def test_first_login_sets_up_an_app_and_later_ones_need_its_code(system: System) -> None:
    admin = await new_admin(system)
    first = await admin.log_in()
    assert first.json.keys() == {"mfa_enrollment_required", "mfa_token", "expires_in", "factors"}
    early = await call_anonymously(
        system, "totp/enable", {"mfa_token": first.json["mfa_token"], "code": "000000"}
    )
    assert (early.status, early.code) == (401, "invalid_mfa_token"), "nothing is set up yet"

    claims = read_token(system, await admin.token())
    assert (str(claims.admin_id), claims.amr) == (admin.id, ("pwd", "otp", "mfa"))
    assert claims.expires_at - claims.issued_at == 8 * 3600

    second = await admin.log_in()
    assert second.json.keys() == {"mfa_required", "mfa_token", "expires_in", "factors"}
    assert second.json["factors"] == ["totp"]
    assert admin.app is not None
    waiting = second.json["mfa_token"]
    for step in ("totp/setup", "totp/enable"):
        refused = await call_anonymously(system, step, {"mfa_token": waiting, "code": admin.app.code()})
        assert (refused.status, refused.code) == (401, "invalid_mfa_token"), "an app is replaced by nobody"
    code = admin.app.code()
    body = {"mfa_token": waiting, "code": code}
    answers = await asyncio.gather(*(call_anonymously(system, "mfa/verify", body) for _ in range(4)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 3
    event = await system.event("admin_login_succeeded", client_id=None, amr=["pwd", "otp", "mfa"])
    assert event.actor_type == "admin"


async def test_a_code_opens_one_of_the_logins_that_wait(system: System) -> None:
    admin = await new_admin(system)
    await admin.token()
    assert admin.app is not None
    code = admin.app.code()
    waiting = [(await admin.log_in()).json["mfa_token"] for _ in range(20)]
    answers = await asyncio.gather(
        *(call_anonymously(system, "mfa/verify", {"mfa_token": token, "code": code}) for token in waiting)
    )
    assert [answer.status for answer in answers].count(200) == 1
    assert {answer.code for answer in answers if answer.status != 200} <= {
        "invalid_mfa_code",
        "account_locked",
    }


async def test_an_admin_who_needs_no_app_gets_a_token_for_the_password(system: System) -> None:
    admin = await new_admin(system, mfa_required=False, roles=["support_admin", "billing_admin"])
    answer = await admin.log_in()
    assert answer.json.keys() == {"access_token", "token_type", "expires_in", "admin"}
    assert answer.json["expires_in"] == 8 * 3600
    assert answer.json["admin"]["roles"] == ["billing_admin", "support_admin"]
    assert "users:impersonate" in answer.json["admin"]["permissions"]
    assert read_token(system, answer.json["access_token"]).amr == ("pwd",)


async def test_wrong_logins_are_one_refusal_and_lock_the_address_there(system: System) -> None:
    """E: unknown, wrong and suspended are told apart by nothing; the lock is per address and source."""
    admin, suspended = (
        await new_admin(system, mfa_required=False),
        await new_admin(system, mfa_required=False),
    )
    await patch(system, suspended.id, status="suspended")
    passwordless = await new_admin(system, mfa_required=False, password=None)
    nobody = await call_anonymously(
        system, "login", {"email": address(), "password": PASSWORD}, ip="198.51.100.9"
    )
    refusals = [
        nobody,
        await admin.log_in("wrong-password-1", ip="198.51.100.9"),
        await suspended.log_in(ip="198.51.100.9"),
        await passwordless.log_in(ip="198.51.100.9"),
    ]
    for answer in refusals:
        shown = {name: value for name, value in answer.json.items() if name != "request_id"}
        expected = {name: value for name, value in nobody.json.items() if name != "request_id"}
        assert (answer.status, shown) == (401, expected)
    guesses = [await admin.log_in(f"wrong-password-{n}", ip="198.51.100.9") for n in range(5)]
    assert [guess.status for guess in guesses] == [401] * 4 + [429]
    assert (await admin.log_in(ip="198.51.100.9")).code == "account_locked"
    assert (await admin.log_in(ip="198.51.100.10")).status == 200
    event = await system.event("admin_login_failed", client_id=None, reason="suspended")
    assert event.target_id == suspended.id
    assert suspended.document["email"] not in str(event)


async def test_codes_are_counted_over_logins(system: System) -> None:
    admin = await new_admin(system)
    await admin.token()
    assert admin.app is not None
    codes: list[str] = []
    for _ in range(2):
        waiting = (await admin.log_in()).json["mfa_token"]
        for _ in range(6):
            body = {"mfa_token": waiting, "code": admin.app.wrong()}
            codes.append((await call_anonymously(system, "mfa/verify", body)).code)
    assert codes == (["invalid_mfa_code"] * 5 + ["invalid_mfa_token"]) * 2
    right = {"mfa_token": (await admin.log_in()).json["mfa_token"], "code": admin.app.code()}
    assert (await call_anonymously(system, "mfa/verify", right)).code == "account_locked"


async def test_what_voids_logins_voids_those_that_wait(system: System) -> None:
    changes: list[dict[str, Any]] = [
        {"password": "another-long-phrase-8"},
        {"reset_mfa": True},
        {"status": "suspended"},
    ]
    for change in changes:
        admin = await new_admin(system)
        epoch = read_token(system, await admin.token()).epoch
        assert admin.app is not None
        waiting = {"mfa_token": (await admin.log_in()).json["mfa_token"], "code": admin.app.code()}
        changed = await patch(system, admin.id, **change)
        assert changed.status == 200, changed.body
        refused = await call_anonymously(system, "mfa/verify", waiting)
        assert (refused.status, refused.code) == (401, "invalid_mfa_token"), change
        stored = await system.sql(
            "identity", "SELECT token_epoch FROM admin_users WHERE id = $1", UUID(admin.id)
        )
        assert stored[0]["token_epoch"] == epoch + 1


async def test_nobody_gives_or_changes_rights_beyond_its_own(system: System) -> None:
    """A-03, with what each may do as the positive control."""
    mine, other = f"client:{new_id()}", f"client:{new_id()}"
    owner = await new_admin(system)
    keeper = await new_admin(system, roles=["security_admin"])
    local = await new_admin(system, scopes=[mine])
    support = await new_admin(system, roles=["support_admin"])
    for by, roles, scopes, status in (
        (owner, ["owner"], ["all"], 201),
        (keeper, ["read_only_auditor"], ["all"], 201),
        (keeper, ["security_admin"], [other], 201),
        (keeper, ["owner"], ["all"], 403),
        (keeper, ["read_only_auditor", "support_admin"], [other], 403),
        (local, ["owner"], [mine], 201),
        (local, ["owner"], ["all"], 403),
        (local, ["read_only_auditor"], [other], 403),
        (local, ["read_only_auditor"], [mine, other], 403),
        (local, ["read_only_auditor"], [mine.replace("client", "organization")], 403),
        (support, ["billing_admin"], ["all"], 403),
    ):
        answer = await add(system, by=by.caller(), roles=roles, scopes=scopes)
        assert answer.status == status, (by.document["roles"], roles, scopes, answer.body)
    assert (await add(system, by=support.caller(), roles=["billing_admin"])).code == "permission_missing"

    # A context that says more than is stored was signed before the change.
    believed = keeper.caller(admin_permissions=owner.caller().admin_permissions)
    assert (await add(system, by=believed)).code == "rights_too_narrow"
    for change in ({"roles": ["owner"]}, {"scopes": ["all"], "roles": ["owner", "security_admin"]}):
        raised = await patch(system, keeper.id, keeper.caller(), **change)
        assert (raised.status, raised.code) == (403, "rights_too_narrow")
    takeovers: list[dict[str, Any]] = [
        {"password": "taken-over-phrase-9"},
        {"reset_mfa": True},
        {"status": "suspended"},
    ]
    for takeover in takeovers:
        taken = await patch(system, owner.id, keeper.caller(), **takeover)
        assert (taken.status, taken.code) == (403, "rights_too_narrow")
    assert (await owner.log_in("taken-over-phrase-9", ip="198.51.100.11")).status == 401
    removed = await system.call("identity", "DELETE", f"{USERS}/{owner.id}", caller=keeper.caller())
    assert (removed.status, removed.code) == (403, "rights_too_narrow")


async def test_scoped_admins_see_only_those_of_their_scope(system: System) -> None:
    """A-01 of admins themselves."""
    scope = f"client:{new_id()}"
    local, peer = await new_admin(system, scopes=[scope]), await new_admin(system, scopes=[scope])
    stranger, owner = await new_admin(system, scopes=[f"client:{new_id()}"]), await new_admin(system)
    listed = await system.call("identity", "GET", USERS, caller=local.caller())
    assert [admin["id"] for admin in listed.json["items"]] == [peer.id, local.id]
    page = await system.call("identity", "GET", f"{USERS}?limit=1", caller=owner.caller())
    cursor = page.json["next_cursor"]
    assert page.json["items"][0]["id"] == owner.id
    following = f"{USERS}?limit=1&cursor={cursor}"
    assert (await system.call("identity", "GET", following, caller=owner.caller())).status == 200
    for tampered, by in ((cursor, local), (cursor[:-2] + "AA", owner), ("' OR 1=1 --", owner)):
        answer = await system.call("identity", "GET", f"{USERS}?cursor={tampered}", caller=by.caller())
        assert (answer.status, answer.code) == (400, "invalid_cursor")
    for method, body in (("GET", None), ("PATCH", {"display_name": "x"}), ("DELETE", None)):
        for target in (stranger, owner):
            path = f"{USERS}/{target.id}"
            answer = await system.call("identity", method, path, caller=local.caller(), json=body)
            assert (answer.status, answer.code) == (404, "admin_not_found")
    assert (await system.call("identity", "GET", f"{USERS}/{peer.id}", caller=local.caller())).status == 200
    gone = await system.call("identity", "DELETE", f"{USERS}/{peer.id}", caller=local.caller())
    assert gone.status == 204
    orphan = await system.call("identity", "GET", USERS, caller=peer.caller())
    assert orphan.status == 200, "the gateway refuses it; here a list shows what its scope is"
    assert (await add(system, by=peer.caller(), scopes=[scope])).status == 401


async def test_what_a_change_shows_and_does_not_take(system: System, tenant: Tenant) -> None:
    """A-05, A-09: members that are not offered are ignored, secrets shown nowhere."""
    identity = {"issuer": "https://idp.example.com", "subject": address()}
    admin = await new_admin(system, mfa_required=False)
    smuggled: dict[str, Any] = {
        "id": str(new_id()),
        "email": "someone@example.com",
        "token_epoch": 7,
        "totp_secret": "AAAA",
        "password_hash": "x",
        "client_id": str(tenant.id),
    }
    assert (await patch(system, admin.id, **smuggled)).status == 422
    changed = await patch(
        system,
        admin.id,
        roles=["support_admin"],
        sso_identity=identity,
        password="next-phrase-10",
        **smuggled,
    )
    differing = {name for name, value in changed.json.items() if value != admin.document[name]}
    assert differing == {"roles", "permissions", "sso_identity", "updated_at"}
    event = await system.event("admin_updated", client_id=None, changed=["password", "roles", "sso_identity"])
    before: Any = event.data["before"]
    assert before["roles"] == ["owner"]
    assert (event.actor_type, event.target_id) == ("admin_key", admin.id)
    for text in (changed.body.decode(), str(event)):
        for secret in ("next-phrase-10", "$2", "totp_secret"):
            assert secret not in text
    taken = await patch(system, (await new_admin(system)).id, sso_identity=identity)
    assert (taken.status, taken.code) == (409, "admin_exists")
    twice = await add(system, email=admin.document["email"].upper())
    assert (twice.status, twice.code) == (409, "admin_exists")
    assert (await patch(system, admin.id, sso_identity=None)).json["sso_identity"] is None
    faults: list[dict[str, Any]] = [
        {"roles": []},
        {"roles": ["root"]},
        {"scopes": ["client:*"]},
        {"scopes": []},
        {"status": "gone"},
    ]
    for bad in faults:
        assert (await patch(system, admin.id, **bad)).status == 422, bad
    weak = await patch(system, admin.id, password="password")
    assert (weak.status, weak.code) == (422, "weak_password")


async def test_the_last_owner_stays_in_a_race_too(system: System) -> None:
    """X-10 for admins: of owners who demote, suspend and remove each other, one is left."""
    await system.sql("identity", "DELETE FROM admin_users")
    one, two = await new_admin(system), await new_admin(system)
    local = await new_admin(system, scopes=[f"client:{new_id()}"])

    def attempt(number: int) -> Any:
        actor, target = (one, two) if number % 2 else (two, one)
        path = f"{USERS}/{target.id}"
        match number % 3:
            case 0:
                return system.call("identity", "DELETE", path, caller=actor.caller())
            case 1:
                return patch(system, target.id, actor.caller(), roles=["security_admin"])
            case _:
                return patch(system, target.id, actor.caller(), status="suspended")

    answers = await asyncio.gather(*map(attempt, range(20)))
    assert sum(answer.status in (200, 204) for answer in answers) == 1
    left = await system.sql(
        "identity",
        "SELECT id FROM admin_users WHERE status = 'active' AND 'owner' = ANY(roles) AND 'all' = ANY(scopes)",
    )
    assert len(left) == 1
    last = str(left[0]["id"])
    for change in (
        {"roles": ["security_admin"]},
        {"status": "suspended"},
        {"scopes": local.document["scopes"]},
    ):
        refused = await patch(system, last, **change)
        assert (refused.status, refused.code) == (409, "last_owner"), change
    removed = await system.call("identity", "DELETE", f"{USERS}/{last}", caller=system.admin())
    assert (removed.status, removed.code) == (409, "last_owner")
    assert (await patch(system, local.id, status="suspended")).status == 200, (
        "a client's owner is no last one"
    )
    await new_admin(system)
    assert (await patch(system, last, status="suspended")).status == 200


async def test_hashes_of_admins_follow_the_policy_too(system: System) -> None:
    """W-14."""
    admin = await new_admin(system, mfa_required=False)
    stored = "SELECT password_hash FROM admin_users WHERE id = $1"
    before = (await system.sql("identity", stored, UUID(admin.id)))[0]["password_hash"]
    async with another_identity(system, bcrypt_cost=11):
        assert (await admin.log_in()).status == 200
    after = (await system.sql("identity", stored, UUID(admin.id)))[0]["password_hash"]
    assert (before[:7], after[:7]) == ("$2b$10$", "$2b$11$")


@pytest.mark.parametrize("settings", [{"admin_token_secret": None}, {"redis_url": None}])
async def test_login_when_it_cannot_be_done_then_says_so(system: System, settings: dict[str, Any]) -> None:
    admin = await new_admin(system)
    async with another_identity(system, **settings):
        answer = await admin.log_in()
    assert (answer.status, answer.code) == (503, "feature_unavailable")
    assert (await admin.log_in()).status == 200


async def test_guarded_actions_take_a_proof_of_the_admin_once(system: System, tenant: Tenant) -> None:
    """T-12, X-14 for admins: bound to admin, action and target, single, and by a code that is used up."""
    admin, other = await new_admin(system), await new_admin(system)
    for one in (admin, other):
        await one.token()
    assert admin.app is not None
    async with system.channel("identity", caller="orgs") as channel:
        guard = RemoteStepUpGuard(channel)

        async def refusal(by: CallerContext, token: str | None, **changes: Any) -> dict[str, Any]:
            with pytest.raises(RemoteError) as refused:
                await ask(guard, by, tenant, token, **changes)
            assert refused.value.code == "step_up_required"
            return dict(refused.value.extra)

        asked = await refusal(admin.caller(), None)
        assert (asked["factors"], asked["action"]) == (["totp"], "client.key.rotate")
        challenge = asked["challenge_token"]
        for by, token, code, told in (
            (other, challenge, admin.app.at(0), "invalid_challenge"),
            (admin, "step_up_challenge_x", admin.app.at(0), "invalid_challenge"),
            (admin, challenge, admin.app.wrong(), "wrong_code"),
        ):
            answer = await prove(system, by.caller(), token, code)
            assert (answer.status, answer.code) == (403, told)
        assert (await prove(system, system.admin(), challenge, admin.app.at(0))).status == 403
        code = admin.app.code()
        answers = await asyncio.gather(*(prove(system, admin.caller(), challenge, code) for _ in range(3)))
        proofs = [answer.json["step_up_token"] for answer in answers if answer.status == 200]
        assert len(proofs) == 1
        await refusal(other.caller(), proofs[0])
        await refusal(admin.caller(), proofs[0], resource=new_id())
        await refusal(admin.caller(), proofs[0], action=Action.USER_IMPERSONATE)
        await ask(guard, admin.caller(), tenant, proofs[0])
        again = await refusal(admin.caller(), proofs[0])

        granted = await prove(system, admin.caller(), again["challenge_token"], admin.app.code())
        await patch(system, admin.id, password="another-long-phrase-8")
        await refusal(admin.caller(), granted.json["step_up_token"])
        await ask(guard, system.admin(), tenant, None)


async def ask(
    guard: StepUpGuard,
    caller: CallerContext,
    tenant: Tenant,
    token: str | None,
    action: Action = Action.CLIENT_KEY_ROTATE,
    resource: UUID | None = None,
) -> None:
    await guard.check(caller, action, token=token, resource=resource or tenant.id, client_id=tenant.id)


async def prove(system: System, caller: CallerContext, challenge: str, code: str) -> Answer:
    body = {"challenge_token": challenge, "factor": "totp", "code": code}
    return await system.call("identity", "POST", "/api/admin/step-up/verify", caller=caller, json=body)
