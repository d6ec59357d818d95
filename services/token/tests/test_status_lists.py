"""Status lists: what they say of a token, who signs them, and how little one costs."""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import jwt
import pytest

from chassis.context import Access
from contracts.gen.internal.token.v1 import sessions_pb2
from services.token.revocations.service import Revocations
from services.token.status_lists.bits import LIST_SIZE, StatusBits
from services.token.status_lists.service import LIFE
from services.token.tests.conftest import AT_ANY_TIME, Token, claims_of, header_of, user_of
from tests.harness import BASE_URL, Answer, System, Tenant

LATER = datetime(2030, 1, 1, tzinfo=UTC)


def unpacked(text: str) -> bytes:
    """The octets of a `lst` member."""
    return zlib.decompress(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


async def fetch(token: Token, uri: str, *, process: int = 0, headers: dict[str, str] | None = None) -> Answer:
    """Fetch a list at one of the two processes."""
    system = token.system
    if process == 1:
        system = replace(system, faces={**system.faces, "token": token.second_face})
    anyone = replace(system.admin(), access=Access.PUBLIC, admin_permissions=(), admin_scopes=())
    path = uri.removeprefix(BASE_URL)
    return await system.call("token", "GET", path, caller=anyone, headers=headers)


async def bit(token: Token, access_token: str, *, process: int = 0) -> int:
    """What the list says of a token."""
    claim = claims_of(access_token)["status"]["status_list"]
    answer = await fetch(token, claim["uri"], process=process)
    assert answer.status == 200, answer.body
    octets = unpacked(claims_of(answer.body.decode())["status_list"]["lst"])
    place = int(claim["idx"])
    return octets[place // 8] >> place % 8 & 1


async def dies(token: Token, access_token: str, *, within: float = 1) -> None:
    """Wait until both processes say that a token is dead; a second must do where nothing is polled for."""
    async with asyncio.timeout(within):
        for process in (0, 1):
            while not await bit(token, access_token, process=process):
                await asyncio.sleep(0.01)


async def test_list_when_fetched_then_signed_by_the_issuer_and_as_the_draft_says(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    claim = claims_of(opened.access_token)["status"]["status_list"]
    answer = await fetch(token, claim["uri"])
    assert answer.headers["content-type"] == "application/statuslist+jwt"
    assert answer.headers["cache-control"] == "public, max-age=10"
    listed = answer.body.decode()
    keys = await system.call(
        "token", "GET", "/.well-known/jwks.json", caller=tenant.caller(access=Access.PUBLIC)
    )
    (key,) = [key for key in jwt.PyJWKSet.from_dict(keys.json).keys if key.key_id == header_of(listed)["kid"]]
    assert header_of(listed)["typ"] == "statuslist+jwt"
    claims = jwt.decode(listed, key, algorithms=["ES256"], issuer=BASE_URL, options=AT_ANY_TIME)
    assert claims["sub"] == claim["uri"]
    assert claims["exp"] - claims["iat"] == LIFE.total_seconds()
    assert (claims["ttl"], claims["status_list"]["bits"]) == (10, 1)
    assert len(unpacked(claims["status_list"]["lst"])) * 8 == LIST_SIZE > claim["idx"]
    # It stays the same for a while, and says so in every process; and is another when it says something else.
    # The list is of all tenants: what ended another test's session meanwhile has made it another one.
    for _ in range(3):
        known = {"if-none-match": (await fetch(token, claim["uri"])).headers["etag"]}
        again = [await fetch(token, claim["uri"], process=process, headers=known) for process in (0, 1)]
        if [one.status for one in again] == [304, 304]:
            break
    else:
        pytest.fail("no two processes agree on a list")
    await token.post(tenant, "/api/auth/logout", json={"refresh_token": opened.refresh_token})
    await dies(token, opened.access_token)
    assert (await fetch(token, claim["uri"], headers=known)).status == 200


async def test_list_when_no_session_is_in_it_then_404(token: Token) -> None:
    for number in ("9999", "123456789012"):
        answer = await fetch(token, f"/.well-known/status-lists/{number}")
        assert (answer.status, answer.code) == (404, "status_list_not_found")
    assert (await fetch(token, "/.well-known/status-lists/99999999999999")).status == 422


async def test_bit_when_the_session_or_user_ends_then_set_in_each_process_and_no_other(
    token: Token, tenant: Tenant
) -> None:
    user = user_of(tenant)
    ended, other, stays = (
        await token.open(tenant, user),
        await token.open(tenant, user),
        await token.open(tenant),
    )
    assert await bit(token, ended.access_token) == 0
    await token.post(tenant, "/api/auth/logout", json={"refresh_token": ended.refresh_token})
    await dies(token, ended.access_token)
    assert await bit(token, other.access_token) == 0
    request = sessions_pb2.EndSessionsRequest(client_id=str(tenant.id), user_id=user.id, reason="test")
    await token.sessions.EndSessions(request)
    await dies(token, other.access_token)
    assert await bit(token, stays.access_token) == 0
    renewed = await token.refresh(tenant, stays.refresh_token)
    assert claims_of(renewed.json["access_token"])["status"] == claims_of(stays.access_token)["status"]


Revoke = Callable[[System, Tenant, dict[str, Any]], Awaitable[None]]


async def _of_client(system: System, tenant: Tenant, _claims: dict[str, Any]) -> None:
    path = f"/api/admin/clients/{tenant.id}"
    for status in ("suspended", "active"):
        changed = await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": status})
        assert changed.status == 200
    async with asyncio.timeout(5):
        while not await system.sql("token", "SELECT FROM revocations WHERE ref = $1", str(tenant.id)):
            await asyncio.sleep(0.02)


async def _of_all(system: System, tenant: Tenant, _claims: dict[str, Any]) -> None:
    path = f"/api/admin/clients/{tenant.id}/revoke-tokens"
    assert (await system.call("token", "POST", path, caller=system.admin())).status == 200
    await system.event("client_tokens_revoked", client_id=tenant.id)


async def _of_key(system: System, tenant: Tenant, _claims: dict[str, Any]) -> None:
    path = f"/api/admin/clients/{tenant.id}/rotate-secret"
    assert (await system.call("token", "POST", path, caller=system.admin())).status == 200


async def _of_token(system: System, tenant: Tenant, claims: dict[str, Any]) -> None:
    async with system.db("token") as db:
        revocations = Revocations(db, None, system.clock, timedelta(minutes=15))  # type: ignore[arg-type]  # found by polling
        async with db.tenant(tenant.id) as tx:
            session_id = UUID(claims["sid"])
            await revocations.token(tx, tenant.id, claims["jti"], system.clock.now(), session_id=session_id)


@pytest.mark.parametrize("revoke", [_of_client, _of_all, _of_key, _of_token])
async def test_bit_when_the_session_outlives_its_tokens_then_set_and_the_next_token_has_another(
    system: System, token: Token, revoke: Revoke
) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    opened = await token.open(tenant)
    assert (await token.validate(tenant, opened.access_token)).valid
    assert await bit(token, opened.access_token) == 0
    with system.clock.advanced(timedelta(seconds=1)):
        await revoke(system, tenant, claims_of(opened.access_token))
    await dies(token, opened.access_token, within=5)
    assert (await token.validate(tenant, opened.access_token)).error in ("token_revoked", "invalid_token")
    with system.clock.advanced(timedelta(seconds=2)):
        renewed = (await token.refresh(tenant, opened.refresh_token)).json["access_token"]
        assert (await token.validate(tenant, renewed)).valid
        assert await bit(token, renewed) == 0
        again = await token.open(tenant)
        assert await bit(token, again.access_token) == 0


async def test_bit_when_the_session_is_refreshed_while_its_tokens_are_revoked_then_its_elder_ones_die(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    revoked_up_to = system.clock.now()
    revocations = Revocations(None, None, system.clock, timedelta(minutes=15))  # type: ignore[arg-type]  # not asked
    with system.clock.advanced(timedelta(seconds=3)):
        renewed = await token.refresh(tenant, opened.refresh_token)
        later = await token.open(tenant)
        async with system.db("token") as db, db.tenant(tenant.id) as tx:
            await revocations.client(tx, tenant.id, revoked_up_to)
        await dies(token, opened.access_token, within=5)
        # Its newest token names the same place, until it is refreshed; what was opened later lives.
        assert await bit(token, renewed.json["access_token"]) == 1
        again = await token.refresh(tenant, renewed.json["refresh_token"])
        assert await bit(token, again.json["access_token"]) == 0
        assert await bit(token, later.access_token) == 0


async def test_revocation_when_sessions_are_locked_then_in_force_without_waiting_and_later_in_the_lists(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    base, _, _ = system.servers.postgres_url.rpartition("/")
    other = await asyncpg.connect(f"{base}/token")
    revocations = Revocations(None, None, system.clock, timedelta(minutes=15))  # type: ignore[arg-type]  # found by polling
    try:
        async with other.transaction():
            await other.execute(
                "SELECT FROM sessions WHERE id = $1 FOR UPDATE", claims_of(opened.access_token)["sid"]
            )
            async with system.db("token") as db, db.tenant(tenant.id) as tx:
                await revocations.client(tx, tenant.id, system.clock.now())
            async with asyncio.timeout(5):
                while (await token.validate(tenant, opened.access_token)).error != "token_revoked":
                    await asyncio.sleep(0.01)
            assert await bit(token, opened.access_token) == 0
    finally:
        await other.close()
    await dies(token, opened.access_token, within=5)


def test_bits_when_set_then_as_in_the_draft_and_cleared_after_their_last_expiry() -> None:
    """§4.1: the example of sixteen tokens."""
    bits = StatusBits()
    dead = (0, 3, 4, 5, 7, 8, 9, 13, 15)
    bits.kill(dead, LATER)
    found = bits.of(0)
    assert found is not None
    assert found.octets[:3] == b"\xb9\xa3\x00"
    assert bits.of(1) is None
    bits.kill((LIST_SIZE + 1, 3), LATER + timedelta(seconds=1))
    later = bits.of(1)
    assert later is not None
    assert later.octets[0] == 2
    bits.forget_expired(LATER.timestamp())
    assert found.octets[:2] == b"\x08\x00"
    bits.forget_expired(LATER.timestamp() + 1)
    assert (bits.of(0), bits.of(1)) == (None, None)
