"""The outbox under competition and crash, and consumers under duplicates and poison."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence
from uuid import UUID

import nats
import pytest
from nats.js.api import StreamConfig

from chassis import deadlines
from chassis.batching import Batcher
from chassis.consumers import Consumer
from chassis.events import Event
from chassis.ids import new_id
from chassis.service import Service
from chassis.tables import OUTBOX_SHARDS
from chassis.tests.conftest import Notes, NotesSettings
from chassis.tests.notes import NoteWritten
from local.servers import Servers


async def test_order_is_kept_per_tenant_when_two_processes_relay(
    notes: Notes, notes_settings: NotesSettings, servers: Servers
) -> None:
    second = Service(notes_settings)
    app = second.app(routes=[], rpc=[], callers={})
    client = await nats.connect(servers.nats_url())
    heard = await client.subscribe("events.notes.note_written")
    await client.flush()
    tenants = [new_id() for _ in range(4)]
    got: dict[UUID, list[int]] = {tenant: [] for tenant in tenants}

    async def write(service: Service, tenant: UUID) -> None:
        for number in range(60):
            async with service.db.tenant(tenant) as tx:
                event = NoteWritten(target_id=new_id(), number=number)
                await service.outbox.emit(tx, event, notes.caller(tenant))

    async with app.started():
        writers = [
            write(service, tenant)
            for tenant, service in zip(tenants, (notes.service, second) * 2, strict=True)
        ]
        await asyncio.gather(*writers)
        async with asyncio.timeout(20):
            async for message in heard.messages:
                event = Event.decode(message.data)
                if event.client_id in got:
                    got[event.client_id].append(int(str(event.data["number"])))
                if all(len(numbers) == 60 for numbers in got.values()):
                    break
    await client.close()
    assert all(numbers == list(range(60)) for numbers in got.values())


async def test_append_shares_commits_and_every_event_arrives(notes: Notes, servers: Servers) -> None:
    tenant = new_id()
    caller = notes.caller(tenant)
    client = await nats.connect(servers.nats_url())
    heard = await client.subscribe("events.notes.note_written")
    await client.flush()
    events = [NoteWritten(target_id=new_id(), number=number) for number in range(200)]
    await asyncio.gather(*(notes.service.outbox.append(event, caller) for event in events))
    numbers: set[object] = set()
    async with asyncio.timeout(10):
        async for message in heard.messages:
            event = Event.decode(message.data)
            if event.client_id == tenant:
                numbers.add(event.data["number"])
            if len(numbers) == 200:
                break
    await client.close()


async def test_event_is_not_lost_or_stored_when_its_transaction_rolls_back(notes: Notes) -> None:
    tenant = new_id()
    with pytest.raises(LookupError):
        async with notes.service.db.tenant(tenant) as tx:
            await notes.service.outbox.emit(tx, NoteWritten(number=1), notes.caller(tenant))
            raise LookupError
    rows = await notes.sql("SELECT payload FROM outbox")
    assert not [row for row in rows if json.loads(row["payload"])["client_id"] == str(tenant)]


async def test_duplicate_publication_reaches_the_stream_once(notes: Notes, servers: Servers) -> None:
    client = await nats.connect(servers.nats_url())
    stream = client.jetstream()
    headers = {"Nats-Msg-Id": str(new_id())}
    first = await stream.publish("events.notes.duplicate_test", b"x", headers=headers)
    second = await stream.publish("events.notes.duplicate_test", b"x", headers=headers)
    await client.close()
    assert not first.duplicate
    assert second.duplicate


async def test_consumer_when_one_event_is_poison_then_the_others_are_handled_and_it_is_set_aside(
    notes: Notes,
) -> None:
    tenant = new_id()
    handled: list[object] = []

    async def handle(events: Sequence[Event]) -> None:
        for event in events:
            if event.client_id == tenant and event.data["number"] == 13:
                raise LookupError("cannot handle thirteen")
        handled.extend(event.data["number"] for event in events if event.client_id == tenant)

    consumer = Consumer(
        notes.service.bus,
        notes.service.db,
        handle,
        name="poison_test",
        subject="events.notes.note_written",
        retry_delay=0.05,
    )
    running = asyncio.create_task(consumer.run())
    for number in (12, 13, 14):
        await notes.service.outbox.append(NoteWritten(number=number), notes.caller(tenant))
    async with asyncio.timeout(30):
        while not (rows := await notes.sql("SELECT * FROM dead_letters WHERE consumer = 'poison_test'")):
            await asyncio.sleep(0.05)
        while set(handled) != {12, 14}:
            await asyncio.sleep(0.05)
    running.cancel()
    assert json.loads(rows[0]["payload"])["data"]["number"] == 13
    assert rows[0]["reason"] == "LookupError: cannot handle thirteen"


async def test_consumer_when_message_is_not_an_event_then_set_aside(notes: Notes, servers: Servers) -> None:
    client = await nats.connect(servers.nats_url())
    await client.jetstream().publish(
        "events.notes.garbage_test", b"not json", headers={"Nats-Msg-Id": "garbage-1"}
    )
    await client.close()

    async def handle(events: Sequence[Event]) -> None:
        assert not events

    consumer = Consumer(
        notes.service.bus, notes.service.db, handle, name="garbage_test", subject="events.notes.garbage_test"
    )
    running = asyncio.create_task(consumer.run())
    async with asyncio.timeout(10):
        while not (rows := await notes.sql("SELECT * FROM dead_letters WHERE consumer = 'garbage_test'")):
            await asyncio.sleep(0.05)
    running.cancel()
    assert (rows[0]["event_id"], rows[0]["payload"]) == ("garbage-1", b"not json")


async def test_stream_when_created_then_bounded_and_deduplicating(servers: Servers, notes: Notes) -> None:
    client = await nats.connect(servers.nats_url())
    config: StreamConfig = (await client.jetstream().stream_info("EVENTS")).config
    await client.close()
    assert (config.subjects, config.duplicate_window, config.max_age) == (["events.>"], 600, 14 * 86400)


async def test_batcher_answers_each_and_passes_errors_to_its_batch_only() -> None:
    sizes: list[int] = []

    async def work(items: Sequence[int]) -> Sequence[int]:
        sizes.append(len(items))
        await asyncio.sleep(0)
        if -1 in items:
            raise LookupError
        return [item * 2 for item in items]

    batcher = Batcher(work, max_batch=10)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(25))) == [
        n * 2 for n in range(25)
    ]
    assert sizes == [10, 10, 5]
    results = await asyncio.gather(batcher.submit(-1), return_exceptions=True)
    assert isinstance(results[0], LookupError)
    assert await batcher.submit(4) == 8


async def test_batch_takes_no_deadline_from_the_request_that_started_it() -> None:
    release = asyncio.Event()

    async def work(items: Sequence[int]) -> Sequence[float]:
        await release.wait()
        return [deadlines.remaining(60.0) for _ in items]

    batcher = Batcher(work)

    async def hurried() -> float:
        deadlines.set_budget(0.0)
        return await batcher.submit(1)

    first = asyncio.create_task(hurried())
    await asyncio.sleep(0)
    second = asyncio.create_task(batcher.submit(2))
    release.set()
    assert [await first, await second] == [60.0, 60.0]


async def test_relay_when_one_event_cannot_be_published_then_other_tenants_events_go_out(
    notes: Notes, servers: Servers
) -> None:
    stuck, free = new_id(), new_id()
    while zlib.crc32(free.bytes) % OUTBOX_SHARDS == zlib.crc32(stuck.bytes) % OUTBOX_SHARDS:
        free = new_id()
    client = await nats.connect(servers.nats_url())
    heard = await client.subscribe("events.notes.note_written")
    await client.flush()
    # No stream takes this subject, so its publication is never acknowledged.
    shard = zlib.crc32(stuck.bytes) % OUTBOX_SHARDS
    await notes.sql(
        "INSERT INTO outbox (shard, event_id, subject, payload) VALUES ($1, $2, 'nowhere.at_all', 'x')",
        shard,
        stuck,
    )
    await notes.service.outbox.append(NoteWritten(number=1), notes.caller(free))
    async with asyncio.timeout(20):
        async for message in heard.messages:
            if Event.decode(message.data).client_id == free:
                break
        left = "SELECT count(*) FROM outbox WHERE event_id = $1"
        assert (await notes.sql(left, stuck))[0]["count"] == 1
        await notes.sql("DELETE FROM outbox WHERE event_id = $1", stuck)
    await client.close()


def test_event_when_nested_without_end_then_unreadable_and_not_a_crash() -> None:
    with pytest.raises(ValueError, match="not an event"):
        Event.decode(b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


async def test_batcher_when_it_pauses_then_what_came_meanwhile_goes_together_and_one_alone_at_once() -> None:
    batches: list[list[int]] = []
    release = asyncio.Event()

    async def work(items: Sequence[int]) -> Sequence[int]:
        batches.append(list(items))
        await release.wait()
        return list(items)

    batcher = Batcher(work, pause=0.2)
    first = asyncio.create_task(batcher.submit(1))
    while not batches:
        await asyncio.sleep(0)
    second = asyncio.create_task(batcher.submit(2))
    await asyncio.sleep(0)
    release.set()
    assert await first == 1
    third = asyncio.create_task(batcher.submit(3))
    assert [await second, await third] == [2, 3]
    assert batches == [[1], [2, 3]]
    alone = Batcher(work, pause=3600.0)
    assert await alone.submit(4) == 4
