"""Staged rotation: the lead time, the schedule that many processes run, what admins see, and revocation."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from chassis.clock import MAX_CLOCK_DIFFERENCE
from contracts.gen.auth.v1 import token_pb2
from services.token.signing.jwks import MAX_AGE
from services.token.signing.models import ISSUER_ID
from services.token.signing.stages import LEAD_TIME
from services.token.tests.conftest import Token, header_of
from tests.harness import Answer, System, Tenant

JWKS = "/.well-known/jwks.json"
SECONDS = 20.0


async def until(is_true: Callable[[], Awaitable[bool]], what: str) -> None:
    """Poll until something is so."""
    deadline = asyncio.get_running_loop().time() + SECONDS
    while not await is_true():
        assert asyncio.get_running_loop().time() < deadline, what
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def processes(system: System, count: int, **changes: Any) -> AsyncIterator[None]:
    """More processes of the service, each of which runs the schedule as it starts."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(count):
            app = system.definitions["token"].build(system.settings("token", **changes), system.clock)
            await stack.enter_async_context(app.started())
        yield


async def keys_of(system: System, tenant: Tenant | None) -> list[dict[str, Any]]:
    """The keys as an admin sees them."""
    path = f"/api/admin/clients/{tenant.id}/signing-keys" if tenant else "/api/admin/signing-keys"
    answer = await system.call("token", "GET", path, caller=system.admin())
    assert answer.status == 200, answer.body
    items: list[dict[str, Any]] = answer.json["items"]
    return items


async def kids(system: System, tenant: Tenant | None, status: str, alg: str = "") -> list[str]:
    """The names of the keys at one stage."""

    async def is_whole() -> bool:
        # A new client's next key is a moment younger than the one that signs.
        stages = [key["status"] for key in await keys_of(system, tenant)]
        return stages.count("next") == stages.count("active") > 0

    await until(is_whole, "each active key has a next one")
    found = [key for key in await keys_of(system, tenant) if key["status"] == status]
    return [key["kid"] for key in found if alg in ("", key["alg"])]


async def published(system: System, tenant: Tenant) -> set[str]:
    """The names in the client's public set."""
    answer = await system.call("token", "GET", JWKS, caller=tenant.caller(access="public"))
    return {key["kid"] for key in answer.json["keys"]}


async def aged(system: System, owner: Any, by: str, alg: str | None = None) -> None:
    """Make the keys of one owner older: as if time had passed for it alone."""

    async def is_whole() -> bool:
        rows = await system.sql("token", "SELECT status FROM signing_keys WHERE client_id = $1", owner)
        stages = [row["status"] for row in rows]
        return stages.count("next") == stages.count("active") > 0

    await until(is_whole, "each active key has a next one")
    await system.sql(
        "token",
        "UPDATE signing_keys SET activated_at = activated_at - $2::text::interval, "
        "created_at = created_at - $2::text::interval WHERE client_id = $1 AND alg = coalesce($3, alg)",
        owner,
        by,
        alg,
    )


async def revoke(system: System, tenant: Tenant | None, kid: str, **changes: Any) -> Answer:
    """Revoke as admin."""
    where = f"/api/admin/clients/{tenant.id}" if tenant else "/api/admin"
    path = f"{where}/signing-keys/{kid}/revoke"
    return await system.call("token", "POST", path, caller=system.admin(**changes))


async def test_lead_time_when_compared_then_covers_every_cache_and_clock(
    system: System, token: Token, tenant: Tenant
) -> None:
    """What a validator may hold at most is older than what may sign."""
    await token.open(tenant)
    answer = await system.call("token", "GET", JWKS, caller=tenant.caller(access="public"))
    assert answer.headers["cache-control"] == f"public, max-age={int(MAX_AGE.total_seconds())}"
    assert answer.headers["etag"]
    served_old = timedelta(seconds=1)
    assert MAX_AGE + MAX_CLOCK_DIFFERENCE + served_old <= LEAD_TIME
    path = f"/api/admin/clients/{tenant.id}/rotate-signing-key"
    for advance, status in ((LEAD_TIME - timedelta(seconds=5), 409), (LEAD_TIME + timedelta(seconds=1), 200)):
        with system.clock.advanced(advance):
            assert (await system.call("token", "POST", path, caller=system.admin())).status == status


async def test_schedule_when_many_processes_run_it_then_each_due_key_is_rotated_once(
    system: System, token: Token
) -> None:
    due = [await system.tenant() for _ in range(4)]
    fresh, opted_out = await system.tenant(), await system.tenant(settings={"signing_key_rotation": "none"})
    before = {}
    for tenant in (*due, fresh, opted_out):
        session = await token.open(tenant)
        before[tenant.id] = header_of(session.access_token)["kid"], (await kids(system, tenant, "next"))[0]

    async def knows() -> bool:
        return (await keys_of(system, opted_out))[0]["due_at"] is None

    await until(knows, "the client's own period is known")
    for tenant in (*due, opted_out):
        await aged(system, tenant.id, "100 days")
    await aged(system, fresh.id, "80 days")  # a tenth of ninety days earlier is the earliest
    async with processes(system, 4):

        async def rotated() -> bool:
            return all([await kids(system, t, "active") == [before[t.id][1]] for t in due])

        await until(rotated, "the due keys are rotated")
    for tenant in due:
        assert await kids(system, tenant, "retiring") == [before[tenant.id][0]]
        assert len(await kids(system, tenant, "next")) == 1
        event = await system.event("signing_key_rotated", client_id=tenant.id)
        assert (event.actor_type, event.data["active_kid"]) == ("system", before[tenant.id][1])
        assert [e.type for e in system.events if e.client_id == tenant.id].count("signing_key_rotated") == 1
        assert header_of((await token.open(tenant)).access_token)["kid"] == before[tenant.id][1]
    for tenant in (fresh, opted_out):
        assert await kids(system, tenant, "active") == [before[tenant.id][0]]


async def test_schedule_when_the_next_key_is_too_young_then_it_waits(
    system: System, token: Token, tenant: Tenant
) -> None:
    other = await system.tenant()
    for one in (tenant, other):
        await token.open(one)
        await aged(system, one.id, "100 days")
    await system.sql(
        "token",
        "UPDATE signing_keys SET created_at = $2 WHERE client_id = $1 AND status = 'next'",
        tenant.id,
        system.clock.now() - LEAD_TIME + timedelta(seconds=60),
    )
    active = await kids(system, tenant, "active")
    # The control: the other is younger by a moment, so its turn comes after.
    async with processes(system, 1):

        async def rotated() -> bool:
            return len(await kids(system, other, "retiring")) == 1

        await until(rotated, "the other is rotated")
    assert await kids(system, tenant, "active") == active


async def test_schedule_when_client_signs_otherwise_now_then_its_old_keys_retire(
    system: System, token: Token
) -> None:
    tenant = await system.tenant(token_mode="v3_eddsa")
    await token.open(tenant)
    path = f"/api/admin/clients/{tenant.id}"
    changed = await system.call("orgs", "PATCH", path, caller=system.admin(), json={"token_mode": "v3_es256"})
    assert changed.status == 200, changed.body
    await token.open(tenant)
    old = next(
        k["kid"] for k in await keys_of(system, tenant) if (k["alg"], k["status"]) == ("EdDSA", "active")
    )
    await aged(system, tenant.id, "100 days", "EdDSA")
    async with processes(system, 1):

        async def retired() -> bool:
            stages = [k["status"] for k in await keys_of(system, tenant) if k["alg"] == "EdDSA"]
            return stages == ["retiring"]

        await until(retired, "the keys of the old mode retire")
    assert old in await published(system, tenant)
    assert len([k for k in await keys_of(system, tenant) if k["alg"] == "ES256"]) == 2


async def test_schedule_when_the_issuers_keys_are_due_then_rotated_and_old_ones_stay_for_hints(
    system: System, tenant: Tenant
) -> None:
    await published(system, tenant)
    (before,) = [
        k["kid"] for k in await keys_of(system, None) if (k["alg"], k["status"]) == ("ES256", "active")
    ]
    await aged(system, ISSUER_ID, "100 days", "ES256")
    async with processes(system, 2):

        async def rotated() -> bool:
            return before in await kids(system, None, "retiring")

        await until(rotated, "the issuer's key is rotated")
    old = next(k for k in await keys_of(system, None) if k["kid"] == before)
    left = datetime.fromisoformat(old["retires_at"]) - system.clock.now()
    assert timedelta(days=89) < left < timedelta(days=91)
    assert before in await published(system, tenant)
    assert await system.event("signing_key_rotated", client_id=None, alg="ES256", retiring_kid=before)


async def test_due_time_when_keys_were_made_together_then_spread_over_a_tenth_of_the_period(
    system: System, token: Token
) -> None:
    tenant = await system.tenant(settings={"signing_key_rotation": "30d"})
    await token.open(tenant)

    async def due() -> datetime | None:
        (key,) = [key for key in await keys_of(system, tenant) if key["status"] == "active"]
        at = datetime.fromisoformat(key["due_at"]) if key["due_at"] else None
        if at is not None:
            days = (at - datetime.fromisoformat(key["activated_at"])) / timedelta(days=1)
            assert 27 <= days <= 30 or 81 <= days <= 90
            return at if days <= 30 else None
        return None

    async def is_own() -> bool:
        return await due() is not None

    await until(is_own, "the client's own period counts")
    # Of many keys of one second, no tenth of the time has even a fifth.
    rows = await system.sql(
        "token",
        "SELECT width_bucket(abs(hashtext(md5(n::text)) % 1000), 0, 1000, 10) AS part, count(*) AS many "
        "FROM generate_series(1, 10000) AS n GROUP BY 1",
    )
    assert len(rows) == 10
    assert max(row["many"] for row in rows) < 2000


async def test_setting_when_it_is_no_period_then_is_refused(system: System, tenant: Tenant) -> None:
    path = f"/api/admin/clients/{tenant.id}"
    refusable: list[Any] = ["59m", "3651d", "soon", 90, True, [], {}, "", "-1d"]
    for value in refusable:
        body: dict[str, Any] = {"settings": {"signing_key_rotation": value}}
        refused = await system.call("orgs", "PATCH", path, caller=system.admin(), json=body)
        assert refused.status == 422, value
        assert refused.json["errors"][0]["field"] == "settings.signing_key_rotation"
    for good in ("1h", "3650d", "none", None):
        body = {"settings": {"signing_key_rotation": good}}
        assert (await system.call("orgs", "PATCH", path, caller=system.admin(), json=body)).status == 200


async def test_list_when_read_then_stages_and_times_and_nothing_private(
    system: System, token: Token, tenant: Tenant
) -> None:
    await token.open(tenant)
    path = f"/api/admin/clients/{tenant.id}/rotate-signing-key?force=true"
    rotated = (await system.call("token", "POST", path, caller=system.admin())).json
    listed = await keys_of(system, tenant)
    assert [(key["kid"], key["status"]) for key in listed] == [
        (rotated["active_kid"], "active"),
        (rotated["next_kid"], "next"),
        (rotated["retiring_kid"], "retiring"),
    ]
    for key in listed:
        members = {"kid", "alg", "status", "created_at", "activated_at", "due_at", "retires_at"}
        assert set(key) == members
        assert (key["activated_at"] is None) == (key["status"] == "next")
        assert (key["due_at"] is not None) == (key["status"] == "active")
        assert (key["retires_at"] is not None) == (key["status"] == "retiring")
    by_secret = await system.tenant(token_mode="v1_hs256")
    await token.open(by_secret)
    assert await keys_of(system, by_secret) == []


async def test_admin_when_of_one_client_then_the_issuers_keys_are_not_theirs(
    system: System, token: Token, tenant: Tenant
) -> None:
    await token.open(tenant)
    issuer_kid = (await kids(system, None, "active"))[0]
    narrow = system.admin(admin_id=tenant.id, admin_scopes=(f"client:{tenant.id}",))
    for method, path in (
        ("GET", "/api/admin/signing-keys"),
        ("POST", "/api/admin/signing-keys/rotate"),
        ("POST", f"/api/admin/signing-keys/{issuer_kid}/revoke"),
    ):
        refused = await system.call("token", method, path, caller=narrow)
        assert (refused.status, refused.code) == (403, "scope_too_narrow")
    own = f"/api/admin/clients/{tenant.id}/signing-keys"
    assert (await system.call("token", "GET", own, caller=narrow)).status == 200
    # And no client's key is revoked by another client's route, nor the issuer's by a client's.
    other = await system.tenant()
    await token.open(other)
    mine = (await kids(system, tenant, "active"))[0]
    for place, kid in ((other, mine), (other, issuer_kid), (None, mine), (tenant, "nobody")):
        refused = await revoke(system, place, kid)
        assert (refused.status, refused.code) == (404, "signing_key_not_found")
    assert await kids(system, tenant, "active") == [mine]


@pytest.mark.parametrize("mode", ["v2_jwks", "v3_es256", "v3_eddsa"])
async def test_revocation_when_key_is_active_then_its_tokens_die_everywhere_and_the_next_signs(
    system: System, token: Token, mode: str
) -> None:
    tenant, other = await system.tenant(token_mode=mode), await system.tenant(token_mode=mode)
    session, untouched = await token.open(tenant), await token.open(other)
    kid = header_of(session.access_token)["kid"]
    (following,) = await kids(system, tenant, "next")
    request = token_pb2.WatchRevocationsRequest(api_key=tenant.api_key)
    stream: Any = token.public.WatchRevocations(request)
    while not (await anext(stream)).synced:
        pass
    # Many at once: one revokes. Each makes a key before it knows, which RSA takes its time for.
    count = 3 if mode == "v2_jwks" else 20
    answers = await asyncio.gather(*(revoke(system, tenant, kid) for _ in range(count)))
    assert sorted(answer.status for answer in answers) == [200, *[404] * (count - 1)]
    done = next(answer.json for answer in answers if answer.status == 200)
    assert (done["kid"], done["status"], done["active_kid"]) == (kid, "active", following)
    assert done["next_kid"] not in (kid, following, None)
    assert not (await token.validate(tenant, session.access_token)).valid
    assert (await token.validate(other, untouched.access_token)).valid
    async with asyncio.timeout(1):
        while not (news := await anext(stream)).revocations:
            pass
    told = news.revocations[0]
    assert (told.kind, told.id) == (token_pb2.Revocation.KIND_KEY, kid)
    await stream.aclose()
    own = await published(system, tenant)
    assert {following, done["next_kid"]} <= own
    assert kid not in own
    # The session goes on under the key that took over, at both processes.
    refreshed = await token.refresh(tenant, session.refresh_token, process=1)
    assert header_of(refreshed.json["access_token"])["kid"] == following
    assert (await token.validate(tenant, refreshed.json["access_token"])).valid
    event = await system.event("signing_key_revoked", client_id=tenant.id)
    assert event.data == done
    assert event.actor_type == "admin_key"


async def test_revocation_when_key_is_next_or_retiring_then_only_it_goes(
    system: System, token: Token, tenant: Tenant
) -> None:
    old = await token.open(tenant)
    path = f"/api/admin/clients/{tenant.id}/rotate-signing-key?force=true"
    rotated = (await system.call("token", "POST", path, caller=system.admin())).json
    new = await token.open(tenant)
    assert (await token.validate(tenant, old.access_token)).valid
    done = (await revoke(system, tenant, rotated["retiring_kid"])).json
    assert (done["status"], done["active_kid"], done["next_kid"]) == (
        "retiring",
        rotated["active_kid"],
        rotated["next_kid"],
    )
    assert not (await token.validate(tenant, old.access_token)).valid
    assert (await token.validate(tenant, new.access_token)).valid
    done = (await revoke(system, tenant, rotated["next_kid"])).json
    assert (done["status"], done["active_kid"]) == ("next", rotated["active_kid"])
    assert done["next_kid"] != rotated["next_kid"]
    assert not {rotated["retiring_kid"], rotated["next_kid"]} & await published(system, tenant)
    assert header_of((await token.open(tenant)).access_token)["kid"] == rotated["active_kid"]


async def test_issuer_keys_when_rotated_and_revoked_by_admins_then_published_sets_follow(
    system: System, tenant: Tenant
) -> None:
    await published(system, tenant)
    rotate = "/api/admin/signing-keys/rotate"
    for query, status in (("?alg=HS256", 422), ("?alg=none", 422)):
        assert (await system.call("token", "POST", rotate + query, caller=system.admin())).status == status
    before = await kids(system, None, "active")
    with system.clock.advanced(timedelta(minutes=7)):
        done = await system.call("token", "POST", rotate, caller=system.admin())
        assert done.status == 200, done.body
        assert {item["alg"] for item in done.json["items"]} == {"RS256", "ES256", "EdDSA"}
        assert {item["retiring_kid"] for item in done.json["items"]} == set(before)
        too_soon = await system.call("token", "POST", f"{rotate}?alg=RS256", caller=system.admin())
        assert (too_soon.status, too_soon.code) == (409, "rotation_too_soon")
    active = await kids(system, None, "active")
    gone = (await revoke(system, None, active[0])).json
    assert gone["active_kid"] in await kids(system, None, "active")
    assert len(await kids(system, None, "next")) == 3
    now = await published(system, tenant)
    assert gone["kid"] not in now
    assert {gone["active_kid"], gone["next_kid"], *before} <= now
    event = await system.event("signing_key_revoked", client_id=None, kid=gone["kid"])
    assert event.data == gone
