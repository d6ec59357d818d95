"""What admins see and do of a client's users, and what a session in a user's name can and cannot do."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from chassis.context import CallerContext
from chassis.ids import new_id
from contracts.topology import SERVICES
from services.identity.tests.conftest import (
    PASSWORD,
    Person,
    another_identity,
    no_duties,
    sign_up,
)
from services.identity.tests.pages import log_in_by, plant
from services.identity.tests.second_factors import claims_of, new_protected
from tests.harness import Answer, System, Tenant
from tests.webauthn_device import Device

CONTRACT = Path(__file__).parents[3] / "gateway" / "openapi.json"
USERS = "/api/admin/clients/{}/users"


async def support(
    person: Person, method: str, action: str = "", *, admin: CallerContext | None = None, **options: Any
) -> Answer:
    """Call a support route for a person."""
    path = f"{USERS.format(person.tenant.id)}/{person.id}{action}"
    caller = admin or person.system.admin()
    return await person.system.call("identity", method, path, caller=caller, **options)


def officer(system: System, **changes: Any) -> CallerContext:
    """An admin user who has logged in just now."""
    return system.admin(**{"admin_id": new_id(), "auth_time": int(system.clock.now().timestamp()), **changes})


async def refreshed(person: Person, refresh_token: str) -> int:
    """The status of a refresh."""
    body = {"refresh_token": refresh_token, "token_transport": "json"}
    caller = person.tenant.caller()
    answer = await person.system.call("token", "POST", "/api/auth/refresh", caller=caller, json=body)
    return answer.status


async def impersonated(person: Person, admin: CallerContext) -> tuple[Answer, CallerContext]:
    """A session in a person's name, and its caller as the gateway makes it of the token."""
    body = {"reason": "ticket 4711", "duration_seconds": 3600}
    answer = await support(person, "POST", "/impersonate", admin=admin, json=body)
    assert answer.status == 200, answer.body
    claims = claims_of(answer.json["access_token"])
    caller = person.tenant.user_caller(
        claims["sub"], claims["sid"], impersonator_id=claims["act"]["sub"], amr=tuple(claims["amr"])
    )
    return answer, caller


async def test_users_are_listed_page_by_page_and_found_by_address_name_id_and_status(
    system: System, tenant: Tenant
) -> None:
    made: dict[str, str] = {}
    for email, name in (
        ("Ada.Lovelace@Example.com", "Ada King"),
        ("grace@example.com", "Grace Hopper"),
        ("adam@bücher.example", "Zoë 100%_"),
    ):
        answer = await sign_up(system, tenant, email, display_name=name)
        made[email.partition("@")[0].lower()] = answer.json["user"]["id"]
    other = await system.tenant()
    await sign_up(system, other, "ada.other@example.com", display_name="Ada Other")
    users = USERS.format(tenant.id)
    suspend = {"status": "suspended"}
    path = f"{users}/{made['grace']}"
    assert (await system.call("identity", "PATCH", path, caller=system.admin(), json=suspend)).status == 200

    async def found(query: str) -> list[str]:
        answer = await system.call("identity", "GET", f"{users}{query}", caller=system.admin())
        assert answer.status == 200, answer.body
        return [item["id"] for item in answer.json["items"]]

    ada, grace, adam = made["ada.lovelace"], made["grace"], made["adam"]
    for query, expected in {
        "": [adam, grace, ada],
        "?q=ADA": [adam, ada],
        "?q=ada.lovelace%40EXAMPLE": [ada],
        "?q=gRACE%20h": [grace],
        "?q=zo%C3%AB%20100%25_": [adam],
        "?q=%25": [],
        "?q=_da": [],
        f"?q={grace}": [grace],
        "?status=suspended": [grace],
        "?q=ada&status=suspended": [],
    }.items():
        assert await found(query) == expected, query

    first = await system.call("identity", "GET", f"{users}?limit=2", caller=system.admin())
    cursor = first.json["next_cursor"]
    assert await found(f"?limit=2&cursor={cursor}") == [ada]
    # flipped bytes, another filter, another tenant.
    for bad in (
        f"{users}?limit=2&cursor={cursor[:-2]}AA",
        f"{users}?q=ada&cursor={cursor}",
        f"{USERS.format(other.id)}?limit=2&cursor={cursor}",
    ):
        refused = await system.call("identity", "GET", bad, caller=system.admin())
        assert (refused.status, refused.code) == (400, "invalid_cursor")
    for missing, code in (
        (USERS.format(new_id()), "client_not_found"),
        (f"{users}/{new_id()}", "user_not_found"),
    ):
        refused = await system.call("identity", "GET", missing, caller=system.admin())
        assert (refused.status, refused.code) == (404, code)


async def test_a_user_is_seen_and_changed_only_under_its_client_and_only_what_may_be(
    system: System, person: Person
) -> None:
    seen = await support(person, "GET")
    assert seen.status == 200
    assert seen.json == {
        **person.document["user"],
        "last_login_at": seen.json["last_login_at"],
        "has_password": True,
        "factors": [],
        "locked_until": None,
    }
    admin = officer(system)
    body = {
        "role": "editor",
        "email_verified": True,
        "display_name": "Ada B.",
        "phone": "+4915112345678",
        # A-05, W-10: none of these is an admin's to write.
        "id": str(new_id()),
        "client_id": str(new_id()),
        "email": "evil@example.com",
        "mfa_enabled": True,
        "created_at": "2001-01-01T00:00:00Z",
        "version": 99,
    }
    changed = await support(person, "PATCH", admin=admin, json=body)
    assert changed.status == 200, changed.body
    assert changed.json == {
        **seen.json,
        "role": "editor",
        "email_verified": True,
        "display_name": "Ada B.",
        "phone": "+4915112345678",
        "updated_at": changed.json["updated_at"],
    }
    event = await system.event("user_updated", client_id=person.tenant.id)
    assert (event.actor_type, event.actor_id, event.target_id) == ("admin", str(admin.admin_id), person.id)
    assert event.data == {
        "changed": ["display_name", "email_verified", "phone", "role"],
        "before": {"status": "active", "email_verified": False, "role": "user"},
        "after": {"status": "active", "email_verified": True, "role": "editor"},
    }
    # The next token says so.
    claims = claims_of((await person.log_in()).json["access_token"])
    assert (claims["role"], claims["email_verified"]) == ("editor", True)

    for fields, fault in (
        ({}, "body"),
        ({"role": "Robert'); DROP"}, "role"),
        ({"status": "deleted"}, "status"),
        ({"locale": "not a locale"}, "locale"),
    ):
        refused = await support(person, "PATCH", json=fields)
        assert refused.status == 422
        assert refused.json["errors"][0]["field"] == fault
    stranger = await system.tenant()
    for method, action, sent in (
        ("GET", "", None),
        ("PATCH", "", {"role": "x"}),
        ("POST", "/unlock", None),
        ("POST", "/revoke-sessions", None),
        ("GET", "/sessions", None),
        ("POST", "/impersonate", {"reason": "x"}),
    ):
        path = f"{USERS.format(stranger.id)}/{person.id}{action}"
        refused = await system.call("identity", method, path, caller=system.admin(), json=sent)
        assert (refused.status, refused.code) == (404, "user_not_found"), action
        for caller in (person.caller(), person.tenant.caller()):
            refused = await system.call("identity", method, path, caller=caller, json=sent)
            assert refused.status == 403, action


async def test_a_suspension_ends_everything_at_once_and_revives_nothing(
    system: System, person: Person
) -> None:
    refresh_token = person.document["refresh_token"]
    admin = officer(system)

    suspended = await support(person, "PATCH", admin=admin, json={"status": "suspended"})

    assert (suspended.status, suspended.json["status"]) == (200, "suspended")
    assert await refreshed(person, refresh_token) == 401
    assert (await person.log_in()).code == "invalid_credentials"
    assert (await support(person, "GET", "/sessions")).json["items"] == []
    ended = await system.event("session_revoked", client_id=person.tenant.id)
    assert (ended.data["reason"], ended.actor_type, ended.actor_id) == (
        "user_not_active",
        "admin",
        str(admin.admin_id),
    )
    assert (await system.event("user_suspended", client_id=person.tenant.id)).target_id == person.id
    refused = await support(person, "POST", "/impersonate", json={"reason": "look"})
    assert (refused.status, refused.code) == (409, "user_not_active")

    assert (await support(person, "PATCH", json={"status": "active"})).status == 200
    await system.event("user_reactivated", client_id=person.tenant.id)
    assert await refreshed(person, refresh_token) == 401
    assert (await person.log_in()).status == 200


async def test_a_suspension_races_refreshes_and_none_of_their_tokens_lives_after_it(
    system: System, person: Person
) -> None:
    """X-11."""
    tokens = [person.document["refresh_token"]]
    tokens += [(await person.log_in()).json["refresh_token"] for _ in range(9)]
    body = {"token_transport": "json"}
    path, caller = "/api/auth/refresh", person.tenant.caller()
    renewals = [
        system.call("token", "POST", path, caller=caller, json={**body, "refresh_token": token})
        for token in tokens
    ]
    logins = [person.log_in() for _ in range(5)]
    suspended, *answers = await asyncio.gather(
        support(person, "PATCH", json={"status": "suspended"}), *renewals, *logins
    )

    assert suspended.status == 200
    opened = [answer.json["refresh_token"] for answer in answers if answer.status == 200]
    assert {await refreshed(person, token) for token in opened} <= {401}
    assert (await support(person, "GET", "/sessions")).json["items"] == []


async def test_a_suspension_while_the_token_service_is_away_is_told_and_made_good(
    system: System, person: Person
) -> None:
    admin = officer(system)
    async with another_identity(system, token_grpc="127.0.0.1:1"):
        pending = await support(person, "PATCH", admin=admin, json={"status": "suspended"})
    assert (pending.status, pending.code) == (503, "change_not_spread")
    assert (await person.log_in()).code == "invalid_credentials"
    await no_duties(person)
    assert await refreshed(person, person.document["refresh_token"]) == 401
    ended = await system.event("session_revoked", client_id=person.tenant.id)
    assert (ended.actor_type, ended.actor_id) == ("admin", str(admin.admin_id))


async def test_a_lock_is_seen_and_taken_back_everywhere(system: System, person: Person) -> None:
    for ip in ("198.51.100.1", "198.51.100.2"):
        for _ in range(5):
            await person.log_in("wrong password", ip=ip)
        assert (await person.log_in(ip=ip)).code == "account_locked"
    assert (await support(person, "GET")).json["locked_until"] is not None

    unlocked = await support(person, "POST", "/unlock")

    assert (unlocked.status, unlocked.json["locked_until"]) == (200, None)
    for ip in ("198.51.100.1", "198.51.100.2"):
        assert (await person.log_in(ip=ip)).status == 200
    event = await system.event("user_unlocked", client_id=person.tenant.id)
    assert (event.target_id, event.actor_type, event.data) == (person.id, "admin_key", {"was_locked": True})


async def test_sessions_are_listed_and_ended_by_support(system: System, person: Person) -> None:
    await person.log_in(ip="198.51.100.9")
    listed = await support(person, "GET", "/sessions?limit=1")
    assert (listed.json["items"][0]["ip"], listed.json["items"][0]["amr"]) == ("198.51.100.9", ["pwd"])
    rest = await support(person, "GET", f"/sessions?limit=1&cursor={listed.json['next_cursor']}")
    assert [item["id"] for item in rest.json["items"]] == [person.session_id]
    assert rest.json["next_cursor"] is None

    ended = await support(person, "POST", "/revoke-sessions")

    assert (ended.status, ended.json) == (200, {"revoked_sessions": 2})
    assert await refreshed(person, person.document["refresh_token"]) == 401
    event = await system.event("user_sessions_revoked", client_id=person.tenant.id)
    assert event.target_id == person.id
    revoked = await system.event("session_revoked", client_id=person.tenant.id, reason="admin_revoked")
    assert revoked.actor_type == "admin_key"
    assert (await person.log_in()).status == 200


async def test_a_session_in_a_users_name_says_who_acts_and_cannot_be_renewed(
    system: System, person: Person
) -> None:
    admin = officer(system)
    answer, caller = await impersonated(person, admin)

    claims = claims_of(answer.json["access_token"])
    assert claims["act"] == answer.json["act"] == {"sub": str(admin.admin_id)}
    assert (claims["sub"], claims["amr"]) == (person.id, ["impersonation"])
    assert answer.json["expires_in"] == claims["exp"] - claims["iat"] <= 3600
    assert "refresh_token" not in answer.json
    assert "set-cookie" not in answer.headers
    started = await system.event("impersonation_started", client_id=person.tenant.id)
    assert (started.actor_type, started.actor_id, started.target_id) == (
        "admin",
        str(admin.admin_id),
        person.id,
    )
    assert started.data["reason"] == "ticket 4711"
    assert started.data["opened_session_id"] == answer.json["session"]["id"]
    # It is no login of the user's.
    assert (await support(person, "GET")).json["last_login_at"] == (person.document["user"]["last_login_at"])
    # Reading works, and what it changes is on record with the admin's name.
    assert (await system.call("identity", "GET", "/api/auth/me", caller=caller)).json["id"] == person.id
    change = {"display_name": "Ada L."}
    assert (await system.call("identity", "PATCH", "/api/auth/me", caller=caller, json=change)).status == 200
    updated = await system.event("user_updated", client_id=person.tenant.id)
    assert (updated.actor_type, updated.actor_id) == ("user", person.id)
    assert updated.data["impersonator_id"] == str(admin.admin_id)
    # The user sees it among the own sessions and can end it; with it the claims are void.
    own = await system.call("token", "GET", "/api/auth/sessions", caller=person.caller())
    assert [item["impersonated"] for item in own.json["items"]] == [True, False]
    with system.clock.advanced(timedelta(hours=1)):
        left = await system.call("token", "GET", "/api/auth/sessions", caller=person.caller())
    assert [item["impersonated"] for item in left.json["items"]] == [False]

    key, _ = await impersonated(person, system.admin())
    assert key.json["act"] == {"sub": "admin_key"}
    for body in ({}, {"reason": " "}, {"reason": "x", "duration_seconds": 3601}, {"reason": "x" * 501}):
        assert (await support(person, "POST", "/impersonate", json=body)).status == 422


async def test_a_session_in_a_users_name_does_nothing_that_is_for_the_user_alone(
    system: System, person: Person
) -> None:
    _, caller = await impersonated(person, system.admin())
    attempts: dict[str, list[tuple[str, str]]] = {name: [] for name in SERVICES}
    allowed = {("PATCH", "/api/auth/me")}
    document = json.loads(CONTRACT.read_text())
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if (
                isinstance(operation, dict)
                and operation.get("x-access") == "user"
                and method != "get"
                and (method.upper(), path) not in allowed
            ):
                attempts[operation["x-owner"]].append((method.upper(), path))
    assert ("POST", "/api/auth/change-password") in attempts["identity"]
    for service, operations in attempts.items():
        for method, template in operations:
            path = template
            for name in ("session_id", "id", "org_id", "user_id"):
                path = path.replace(f"{{{name}}}", str(new_id()))
            refused = await system.call(service, method, path, caller=caller, json={})
            assert (refused.status, refused.code) == (403, "impersonation_refused"), (method, template)
    refused_event = await system.event("access_refused", client_id=person.tenant.id)
    assert refused_event.data["reason"] == "impersonation_refused"
    assert refused_event.data["impersonator_id"] == "admin_key"
    # The same request of the user itself is judged by its content.
    body = {"current_password": PASSWORD, "new_password": "another horse, another battery"}
    changed = await system.call(
        "identity", "POST", "/api/auth/change-password", caller=person.caller(), json=body
    )
    assert changed.status == 200


async def test_lost_factors_are_removed_by_support_with_every_session_and_login_that_waits(
    system: System, tenant: Tenant
) -> None:
    protected = await new_protected(system, tenant)
    person = protected.person
    device = Device()
    await plant(person, device)
    assert (await log_in_by(system, tenant, device)).status == 200
    waiting = await protected.challenge()
    seen = await support(person, "GET")
    assert seen.json["factors"] == ["totp", "recovery_code", "passkey"]

    reset = await support(person, "POST", "/reset-mfa")

    assert reset.status == 200, reset.body
    assert (reset.json["factors"], reset.json["mfa_enabled"]) == ([], False)
    event = await system.event("user_factors_reset", client_id=tenant.id)
    assert (event.actor_type, event.target_id) == ("admin_key", person.id)
    assert event.data == {"factors": ["totp", "recovery_code", "passkey"], "passkeys": 1}
    assert await refreshed(person, person.document["refresh_token"]) == 401
    assert (await protected.show(waiting, protected.app.code())).code == "invalid_mfa_token"
    assert (await protected.show(waiting, protected.recovery_codes[0], "recovery-codes")).status == 401
    assert (await log_in_by(system, tenant, device)).status == 401
    opened = await person.log_in()
    assert opened.status == 200
    assert claims_of(opened.json["access_token"])["amr"] == ["pwd"]


async def test_what_takes_an_account_needs_a_fresh_proof_of_the_admin(system: System, person: Person) -> None:
    hour_ago = int((system.clock.now() - timedelta(hours=1)).timestamp())
    stale = officer(system, auth_time=hour_ago)
    for method, action, body in (
        ("POST", "/impersonate", {"reason": "look"}),
        ("POST", "/reset-mfa", None),
        ("DELETE", "", None),
    ):
        refused = await support(person, method, action, admin=stale, json=body)
        assert (refused.status, refused.code) == (403, "step_up_required"), action
        assert refused.json["action"] in ("user.impersonate", "mfa.disable", "account.delete")
    assert (await support(person, "GET", admin=stale)).status == 200
    assert await refreshed(person, person.document["refresh_token"]) == 200


@pytest.mark.parametrize("status", ["active", "suspended"])
async def test_a_user_is_deleted_by_support_and_leaves_nothing(
    system: System, person: Person, status: str
) -> None:
    admin = officer(system)
    assert (await support(person, "PATCH", json={"status": status})).status == 200

    deleted = await asyncio.gather(*(support(person, "DELETE", admin=admin) for _ in range(4)))

    assert sorted(answer.status for answer in deleted) == [204, 404, 404, 404]
    event = await system.event("user_deleted", client_id=person.tenant.id)
    assert (event.actor_type, event.actor_id, event.target_id) == ("admin", str(admin.admin_id), person.id)
    assert (await support(person, "GET")).code == "user_not_found"
    assert await refreshed(person, person.document["refresh_token"]) == 401
    assert (await person.log_in()).code == "invalid_credentials"
    again = await sign_up(system, person.tenant, person.email)
    assert again.status == 201
    assert again.json["user"]["id"] != person.id
    stranger = await system.tenant()
    path = f"{USERS.format(stranger.id)}/{again.json['user']['id']}"
    refused = await system.call("identity", "DELETE", path, caller=admin)
    assert (refused.status, refused.code) == (404, "user_not_found")
    assert (await person.log_in()).status == 200
