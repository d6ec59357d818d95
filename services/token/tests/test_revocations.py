"""The streams of revocations."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable
from datetime import timedelta
from uuid import UUID, uuid4

import asyncpg
import nats
import pytest

from chassis.bus import Bus
from chassis.clock import MAX_CLOCK_DIFFERENCE
from chassis.errors import AppError, Kind, RateLimited, RemoteError
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.internal.token.v1 import sessions_pb2, verification_pb2
from contracts.gen.internal.token.v1.verification_pb2_grpc import VerificationServiceStub
from services.token.revocations.feed import MAX_STREAMS_OF_CLIENT, RevocationFeed
from services.token.signing.models import ISSUER_ID
from services.token.status_lists.bits import StatusBits
from services.token.tests.conftest import Token, changed, claims_of, header_of, user_of
from tests.harness import System, Tenant

Response = token_pb2.WatchRevocationsResponse
KIND = token_pb2.Revocation


class Stream:
    """A stream of revocations, and what it has said."""

    def __init__(self, messages: AsyncIterable[Response]) -> None:
        """Take the call."""
        self._messages = aiter(messages)
        self.seen: list[token_pb2.Revocation] = []

    async def until_synced(self) -> None:
        """Read what is in force."""
        while not (await self._next()).synced:
            pass

    async def until(self, kind: KIND.Kind.ValueType, ref: str) -> token_pb2.Revocation:
        """Read until something is named."""
        while True:
            for revocation in self.seen:
                if (revocation.kind, revocation.id) == (kind, ref):
                    return revocation
            await self._next()

    async def empty_message(self) -> None:
        """Read a sign of life."""
        while (await self._next()).revocations:
            pass

    async def close(self) -> None:
        """Leave."""
        if isinstance(self._messages, AsyncGenerator):
            await self._messages.aclose()

    async def _next(self) -> Response:
        message = await asyncio.wait_for(anext(self._messages), 3)
        self.seen += message.revocations
        return message


def all_clients(token: Token) -> Stream:
    """What a gateway hears."""
    return Stream(token.verification.WatchRevocations(verification_pb2.WatchRevocationsRequest()))


def of(token: Token, tenant: Tenant) -> Stream:
    """What a customer hears."""
    request = token_pb2.WatchRevocationsRequest(api_key=tenant.api_key)
    return Stream(token.public.WatchRevocations(request))


async def log_out(
    token: Token, tenant: Tenant, session: sessions_pb2.OpenedSession, process: int = 0
) -> None:
    """End a session."""
    body = {"refresh_token": session.refresh_token}
    assert (await token.post(tenant, "/api/auth/logout", process=process, json=body)).status == 204


async def revoked(system: System, owner: UUID, kind: str, ref: str) -> None:
    """Store a revocation."""
    statement = (
        "INSERT INTO revocations (client_id, kind, ref, not_after, expires_at) "
        "VALUES ($1, $2, $3, now() + interval '1 hour', now() + interval '1 hour')"
    )
    await system.sql("token", statement, owner, kind, ref)


async def test_watch_when_opened_then_first_what_is_in_force_then_news_of_each_process(
    token: Token, tenant: Tenant
) -> None:
    before, after, elsewhere = [await token.open(tenant) for _ in range(3)]
    await log_out(token, tenant, before)
    stream = all_clients(token)
    await stream.until_synced()
    known = {revocation.id for revocation in stream.seen}
    assert before.session_id in known
    assert after.session_id not in known
    await log_out(token, tenant, after)
    found = await stream.until(KIND.KIND_SESSION, after.session_id)
    assert found.expires_at.seconds - found.not_after.seconds == 0
    await log_out(token, tenant, elsewhere, process=1)
    await stream.until(KIND.KIND_SESSION, elsewhere.session_id)
    await stream.empty_message()


async def test_watch_when_public_then_only_the_keys_tenant(
    system: System, token: Token, tenant: Tenant
) -> None:
    other = await system.tenant()
    stream = of(token, tenant)
    await stream.until_synced()
    strange, mine = await token.open(other), await token.open(tenant)
    await log_out(token, other, strange)
    await log_out(token, tenant, mine)
    await stream.until(KIND.KIND_SESSION, mine.session_id)
    await stream.empty_message()
    sessions = [revocation.id for revocation in stream.seen if revocation.kind == KIND.KIND_SESSION]
    assert sessions == [mine.session_id]


async def test_watch_when_a_key_of_the_issuer_is_revoked_then_every_tenant_is_told(
    system: System, token: Token, tenant: Tenant
) -> None:
    other = await system.tenant()
    streams = [of(token, tenant), of(token, other), all_clients(token)]
    await asyncio.gather(*(stream.until_synced() for stream in streams))
    kids = {owner: f"key-{uuid4()}" for owner in (ISSUER_ID, other.id)}
    for owner, kid in kids.items():
        await revoked(system, owner, "key", kid)
    # What else is the issuer's, is nobody's.
    await revoked(system, ISSUER_ID, "token", "of-the-issuer")
    await streams[1].until(KIND.KIND_KEY, kids[other.id])
    for stream in streams:
        found = await stream.until(KIND.KIND_KEY, kids[ISSUER_ID])
        assert found.client_id == str(ISSUER_ID)
    await streams[2].until(KIND.KIND_TOKEN, "of-the-issuer")
    late = of(token, tenant)
    await late.until_synced()
    await late.until(KIND.KIND_KEY, kids[ISSUER_ID])
    await streams[0].empty_message()
    for stream in (streams[0], late):
        assert not {kids[other.id], "of-the-issuer"} & {revocation.id for revocation in stream.seen}


async def test_watch_when_api_key_is_not_good_then_refused(token: Token) -> None:
    stream = token.public.WatchRevocations(token_pb2.WatchRevocationsRequest(api_key="ask_unknown"))
    with pytest.raises(AppError) as refusal:
        await anext(aiter(stream))
    assert refusal.value.code == "invalid_api_key"


async def test_watch_when_the_key_is_publishable_then_forbidden(token: Token, tenant: Tenant) -> None:
    # Every page of the tenant carries it: it must not tell whose sessions ended.
    stream = token.public.WatchRevocations(token_pb2.WatchRevocationsRequest(api_key=tenant.publishable_key))
    with pytest.raises(AppError) as refusal:
        await anext(aiter(stream))
    assert (refusal.value.kind, refusal.value.code) == (Kind.FORBIDDEN, "forbidden")


async def test_watch_when_its_key_is_rotated_then_the_stream_ends(
    system: System, token: Token, tenant: Tenant
) -> None:
    stream = of(token, tenant)
    await stream.until_synced()
    await stream.empty_message()
    path = f"/api/admin/clients/{tenant.id}/rotate-key"
    assert (await system.call("orgs", "POST", path, caller=system.admin(), json={})).status == 200
    async with asyncio.timeout(5):
        with pytest.raises(AppError) as refusal:
            while True:
                await stream.empty_message()
    assert refusal.value.code == "invalid_api_key"


async def test_watch_when_a_tenant_has_as_many_streams_as_it_may_then_rate_limited(
    system: System, token: Token, tenant: Tenant
) -> None:
    streams = [of(token, tenant) for _ in range(MAX_STREAMS_OF_CLIENT)]
    await asyncio.gather(*(stream.until_synced() for stream in streams))
    with pytest.raises(AppError) as refusal:
        await of(token, tenant).until_synced()
    assert refusal.value.kind is Kind.RATE_LIMITED
    # Neither other tenants nor gateways have less for it.
    await of(token, await system.tenant()).until_synced()
    await all_clients(token).until_synced()
    await streams.pop().close()
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RateLimited, RemoteError):
                await of(token, tenant).until_synced()
                break
            await asyncio.sleep(0.01)


async def test_watch_when_user_is_suspended_and_secret_rotated_then_named(
    system: System, token: Token
) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    user = user_of(tenant)
    opened = await token.open(tenant, user)
    stream = of(token, tenant)
    await stream.until_synced()
    gone = changed(user, status="deleted", version=2)
    await token.sessions.PutUser(sessions_pb2.PutUserRequest(user=gone))
    await stream.until(KIND.KIND_USER, user.id)
    await stream.until(KIND.KIND_SESSION, opened.session_id)
    path = f"/api/admin/clients/{tenant.id}/rotate-secret"
    await system.call("token", "POST", path, caller=system.admin())
    await stream.until(KIND.KIND_KEY, header_of(opened.access_token)["kid"])


async def set_status(system: System, tenant: Tenant, status: str) -> None:
    """Suspend a client, or let it in again."""
    path = f"/api/admin/clients/{tenant.id}"
    answer = await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": status})
    assert answer.status == 200


async def test_watch_when_client_is_suspended_then_its_tokens_up_to_now_are_named(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    stream = of(token, tenant)
    await stream.until_synced()
    await system.call(
        "orgs", "PATCH", f"/api/admin/clients/{tenant.id}", caller=system.admin(), json={"name": "Other"}
    )
    await set_status(system, tenant, "suspended")
    async with asyncio.timeout(10):
        found = await stream.until(KIND.KIND_CLIENT, str(tenant.id))
    assert found.not_after.seconds >= claims_of(opened.access_token)["iat"]
    assert found.expires_at.seconds - found.not_after.seconds == 16 * 60 + 90
    await set_status(system, tenant, "active")
    assert (await token.validate(tenant, opened.access_token)).error == "token_revoked"
    with system.clock.advanced(timedelta(seconds=2)):
        renewed = (await token.refresh(tenant, opened.refresh_token)).json["access_token"]
        assert (await token.validate(tenant, renewed)).valid
    mine = [revocation for revocation in stream.seen if revocation.client_id == str(tenant.id)]
    assert [revocation.kind for revocation in mine] == [KIND.KIND_CLIENT]


async def test_suspension_when_told_again_after_its_end_then_kills_nothing_newer(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    await set_status(system, tenant, "suspended")
    event = await system.event("client_updated", client_id=tenant.id)
    await written(system, tenant, 1)
    await set_status(system, tenant, "active")
    with system.clock.advanced(timedelta(seconds=5)):
        renewed = (await token.refresh(tenant, opened.refresh_token)).json["access_token"]
        connection = await nats.connect(system.servers.nats_url("admin"))
        await connection.jetstream().publish(event.subject, event.encode())
        await connection.close()
        await written(system, tenant, 2)
        assert (await token.validate(tenant, renewed)).valid
        assert (await token.validate(tenant, opened.access_token)).error == "token_revoked"


async def written(system: System, tenant: Tenant, count: int) -> None:
    """Wait until as many revocations of a client are stored."""
    statement = "SELECT FROM revocations WHERE client_id = $1 AND kind = 'client'"
    async with asyncio.timeout(10):
        while len(await system.sql("token", statement, tenant.id)) < count:
            await asyncio.sleep(0.02)


async def test_watch_when_a_lower_number_is_committed_later_then_not_missed(
    system: System, token: Token, tenant: Tenant
) -> None:
    stream = of(token, tenant)
    await stream.until_synced()
    base, _, _ = system.servers.postgres_url.rpartition("/")
    slow = await asyncpg.connect(f"{base}/token")
    try:
        transaction = slow.transaction()
        await transaction.start()
        await slow.execute(
            "INSERT INTO revocations (client_id, kind, ref, not_after, expires_at) "
            "VALUES ($1, 'token', 'late', now(), now() + interval '1 hour')",
            tenant.id,
        )
        quick = await token.open(tenant)
        await log_out(token, tenant, quick)
        await stream.until(KIND.KIND_SESSION, quick.session_id)
        await transaction.commit()
    finally:
        await slow.close()
    await stream.until(KIND.KIND_TOKEN, "late")
    # Told once, though it is read again and again.
    await stream.empty_message()
    await stream.empty_message()
    assert [revocation.id for revocation in stream.seen].count("late") == 1


async def test_watch_when_a_transaction_is_committed_long_after_it_wrote_then_not_missed(
    system: System, token: Token, tenant: Tenant
) -> None:
    stream = of(token, tenant)
    await stream.until_synced()
    statement = (
        "INSERT INTO revocations (client_id, kind, ref, not_after, expires_at, created_at) "
        "VALUES ($1, 'token', 'waited', now(), now() + interval '1 hour', now() - interval '50 seconds')"
    )
    await system.sql("token", statement, tenant.id)
    async with asyncio.timeout(8):
        await stream.until(KIND.KIND_TOKEN, "waited")
    await stream.empty_message()
    assert [revocation.id for revocation in stream.seen].count("waited") == 1


async def test_revocation_when_its_tokens_are_over_then_not_told_any_more(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    await log_out(token, tenant, opened)
    stream = of(token, tenant)
    await stream.until_synced()
    found = await stream.until(KIND.KIND_SESSION, opened.session_id)
    lives = found.expires_at.ToDatetime().timestamp() - system.clock.now().replace(tzinfo=None).timestamp()
    # The life of an access token, a minute of leeway, and what clocks may differ by.
    longest = timedelta(minutes=16) + MAX_CLOCK_DIFFERENCE
    assert longest - timedelta(seconds=10) < timedelta(seconds=lives) <= longest


@pytest.mark.parametrize("kind", ["user", "client", "token", "key"])
async def test_validate_when_any_kind_of_revocation_names_the_token_then_revoked(
    system: System, token: Token, tenant: Tenant, kind: str
) -> None:
    opened = await token.open(tenant)
    claims = claims_of(opened.access_token)
    names = {
        "user": claims["sub"],
        "client": claims["client_id"],
        "token": claims["jti"],
        "key": header_of(opened.access_token)["kid"],
    }
    statement = (
        "INSERT INTO revocations (client_id, kind, ref, not_after, expires_at) "
        "VALUES ($1, $2, $3, to_timestamp($4), now() + interval '1 hour')"
    )
    # One that was written before the token was issued names it in vain.
    await system.sql("token", statement, tenant.id, kind, names[kind], float(claims["iat"] - 1))
    assert (await token.validate(tenant, opened.access_token)).valid
    await system.sql("token", statement, tenant.id, kind, names[kind], float(claims["iat"]))
    assert (await token.validate(tenant, opened.access_token)).error == "token_revoked"


async def until_last(feed: RevocationFeed) -> None:
    """Watch a feed until it has told what is in force."""
    async for _, is_last in feed.watch(None):
        if is_last:
            return


@pytest.mark.parametrize("turns", range(6))
async def test_feed_when_cancelled_in_any_turn_after_news_then_ended(system: System, turns: int) -> None:
    # In Python 3.11 `wait_for` swallows a cancellation that arrives just after what it waited for.
    async with system.db("token") as db:
        feed = RevocationFeed(
            db, Bus(system.servers.nats_url("token"), process="token"), system.clock, StatusBits()
        )
        running = asyncio.create_task(feed.run())
        await until_last(feed)
        watching = asyncio.create_task(until_last(feed))  # wakes the feed
        for _ in range(turns):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running], timeout=1)
        has_ended = running.done()
        for task in (running, watching):
            task.cancel()
        await asyncio.gather(running, watching, return_exceptions=True)
        assert has_ended


async def test_watch_when_the_process_stops_then_the_stream_ends_long_before_its_grace(
    system: System,
) -> None:
    make_rpc = system.apps["token"].make_rpc
    assert make_rpc is not None
    server = make_rpc()
    port = await server.start("127.0.0.1:0")
    async with system.channel("token", caller="gateway", port=port) as channel:
        stub = VerificationServiceStub(channel.for_stubs)
        stream = Stream(stub.WatchRevocations(verification_pb2.WatchRevocationsRequest()))
        await stream.until_synced()

        async with asyncio.timeout(10):
            stopping = asyncio.create_task(server.stop(60))
            with pytest.raises(AppError) as refused:
                while True:
                    await stream.empty_message()
            await stopping

        assert refused.value.kind is Kind.UNAVAILABLE
