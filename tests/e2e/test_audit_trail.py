"""What the journey leaves behind: who did what, from where, in a chain that shows every change."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant, eventually
from tests.e2e.test_journey import NEW_PASSWORD

AGENT = "journey/1.0"


async def test_each_step_when_done_then_is_recorded_with_who_and_where(stack: Stack) -> None:
    tenant = await stack.tenant()
    request_ids: dict[str, str] = {}

    def marked(event_type: str) -> dict[str, str]:
        request_ids[event_type] = f"step-{secrets.token_hex(6)}"
        return {"x-request-id": request_ids[event_type], "user-agent": AGENT}

    user = await stack.sign_up(tenant, headers=marked("user_created"))
    user = await stack.log_in(user, headers=marked("login_succeeded"))
    wrong = {"email": user.email, "password": "wrong-" + PASSWORD}
    await stack.call("POST", "/api/auth/login", tenant, json=wrong, headers=marked("login_failed"))
    change = {"display_name": "Grace"}
    await stack.call("PATCH", "/api/auth/me", user, json=change, headers=marked("user_updated"))
    change = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    path = "/api/auth/change-password"
    await stack.call("POST", path, user, json=change, headers=marked("password_changed"))
    await stack.refresh(tenant, user.refresh_token, headers=marked("session_refreshed"))
    path = f"/api/auth/sessions/{user.session_id}"
    await stack.call("DELETE", path, user, headers=marked("session_revoked"))
    path = f"/api/admin/clients/{tenant.id}/rotate-api-key"
    await stack.call("POST", path, stack.admin, headers=marked("api_key_rotated"))

    for event_type, request_id in request_ids.items():
        found = await stack.event(tenant.id, event_type, request_id=request_id)
        assert found["ip"] == "127.0.0.1", event_type
        assert found["user_agent"] == AGENT, event_type
        assert found["client_id"] == tenant.id, event_type
        expected = actor_of(event_type, user)
        assert (found["actor"]["type"], found["actor"]["id"]) == expected, event_type
    for secret in (PASSWORD, NEW_PASSWORD, user.refresh_token, user.access_token, tenant.api_key, user.email):
        assert secret not in repr(await stack.events(tenant.id)), "a secret or an address in the audit log"
    verdict = await stack.verify_chain(tenant.id)
    assert verdict["intact"] is True
    assert verdict["checked"] >= len(request_ids)


def actor_of(event_type: str, user: Login) -> tuple[str, str | None]:
    """Who is recorded as the one who did it: for a failed login, the client whose key was sent."""
    match event_type:
        case "api_key_rotated":
            return "admin_key", None
        case "login_failed":
            return "client", user.tenant.id
        case _:
            return "user", user.user_id


async def test_admin_key_when_used_then_each_use_is_recorded(stack: Stack) -> None:
    request_id = f"break-glass-{secrets.token_hex(6)}"
    await stack.call("GET", "/api/admin/clients", stack.admin, headers={"x-request-id": request_id})

    async def recorded() -> dict[str, Any] | None:
        answer = await stack.call(
            "GET", "/api/admin/audit-events", stack.admin, params={"request_id": request_id}
        )
        items: list[dict[str, Any]] = answer.json()["items"]
        return items[0] if items else None

    event = await eventually(recorded, within=3, what="the use of the admin key is recorded")
    assert event["type"] == "admin_key_used"
    assert event["data"]["path"] == "/api/admin/clients"
    assert stack.admin.key not in repr(event)


Tampering = Callable[[Stack, str, int], Awaitable[int]]
"""Tampers with the chain of a client whose last position is given; answers the first broken position."""


async def change_one_byte(stack: Stack, client_id: str, last: int) -> int:
    await stack.sql(
        "audit",
        """
        UPDATE audit_events SET user_agent = 'x' || substr(user_agent, 2)
        WHERE client_id = $1 AND position = $2
        """,
        client_id,
        last - 2,
    )
    return last - 2


async def delete_the_newest(stack: Stack, client_id: str, last: int) -> int:
    await stack.sql(
        "audit", "DELETE FROM audit_events WHERE client_id = $1 AND position = $2", client_id, last
    )
    return last


async def delete_one_in_the_middle(stack: Stack, client_id: str, last: int) -> int:
    await stack.sql(
        "audit", "DELETE FROM audit_events WHERE client_id = $1 AND position = $2", client_id, last - 1
    )
    return last - 1


async def rewrite_the_tail(stack: Stack, client_id: str, last: int) -> int:
    """Replace what an event says and recompute the hashes after it, and the head, without the key."""
    first = last - 2
    rows = await stack.sql(
        "audit",
        """
        SELECT position, data::text, hash FROM audit_events
        WHERE client_id = $1 AND position >= $2 ORDER BY position
        """,
        client_id,
        first - 1,
    )
    previous: bytes = rows[0]["hash"]
    for row in rows[1:]:
        data = '{"method": "forged"}'
        previous = hashlib.sha256(previous + data.encode()).digest()
        await stack.sql(
            "audit",
            "UPDATE audit_events SET data = $3::json, hash = $4 WHERE client_id = $1 AND position = $2",
            client_id,
            row["position"],
            data,
            previous,
        )
    await stack.sql("audit", "UPDATE chain_heads SET hash = $2 WHERE client_id = $1", client_id, previous)
    return first


@pytest.mark.parametrize(
    "tamper", [change_one_byte, delete_the_newest, delete_one_in_the_middle, rewrite_the_tail]
)
async def test_chain_when_tampered_with_in_sql_then_first_broken_position_is_named(
    stack: Stack, shop: Tenant, tamper: Tampering
) -> None:
    user = await stack.sign_up(shop)
    await stack.log_in(user)
    last = await settled(stack, shop.id)
    assert last >= 4

    broken_at = await tamper(stack, shop.id, last)

    verdict = await stack.verify_chain(shop.id)
    assert verdict["intact"] is False
    assert verdict["broken"]["position"] == broken_at, verdict
    neighbour = await stack.tenant()
    assert (await stack.verify_chain(neighbour.id))["intact"] is True


async def settled(stack: Stack, client_id: str) -> int:
    """Wait until all that was done is in the chain; answers its last position."""
    expected = Counter(client_created=1, user_created=1, login_succeeded=1, session_opened=2)

    async def last() -> int | None:
        events = await stack.events(client_id)
        if expected - Counter(event["type"] for event in events):
            return None
        return max(int(event["chain"]["position"]) for event in events)

    return await eventually(last, within=5, what="the chain holds all that was done")
