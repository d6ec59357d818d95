"""Events become rows: each once, in one line, whatever is in them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from nats.js import JetStreamContext

from chassis.bus import STREAM
from chassis.clock import rfc3339
from chassis.database import Database
from chassis.errors import AppError
from chassis.ids import new_id
from chassis.sealing import Sealer, parse_key
from contracts.gen.internal.audit.v1 import ingest_pb2
from contracts.gen.internal.audit.v1.ingest_pb2_grpc import IngestServiceStub
from services.audit.app import build
from services.audit.ingest.chain import Chains
from services.audit.ingest.models import PLATFORM
from services.audit.ingest.service import CONSUMER, Ingest
from services.audit.tests.chain_log import WAIT_SECONDS, ChainLog
from tests.harness import System


def ingest(system: System, database: Database) -> Ingest:
    root = Sealer(parse_key(system.settings("audit").master_key.get_secret_value()))
    return Ingest(database, Chains(root), system.clock, None)  # type: ignore[arg-type]  # stores without a bus


async def dead_letter(log: ChainLog, event_id: str) -> Any:
    """Wait for a message to be set aside."""
    deadline = asyncio.get_running_loop().time() + 3 * WAIT_SECONDS
    while True:
        rows = await log.system.sql("audit", "SELECT * FROM dead_letters WHERE event_id = $1", event_id)
        if rows:
            return rows[0]
        assert asyncio.get_running_loop().time() < deadline, "not set aside"
        await asyncio.sleep(0.05)


def linear(positions: list[int]) -> bool:
    return positions == list(range(1, len(positions) + 1))


async def test_ingest_when_event_happens_then_stored_with_every_member(log: ChainLog) -> None:
    session_id = new_id()
    actor = str(new_id())
    (event,) = await log.happen(1, actor_type="user", actor_id=actor, session_id=session_id)
    answer = await log.list()
    (item,) = answer.json["items"]
    (row,) = await log.rows()
    assert item.pop("recorded_at") == rfc3339(row["recorded_at"])
    assert item == {
        "id": str(event.id),
        "type": "login_failed",
        "event_type": "login_failed",
        "service": "identity",
        "occurred_at": rfc3339(event.occurred_at),
        "client_id": str(log.client_id),
        "actor": {"type": "user", "id": actor},
        "target": {"type": "user", "id": event.target_id},
        "ip": "203.0.113.9",
        "user_agent": "Mozilla/5.0",
        "request_id": "req-1",
        "session_id": str(session_id),
        "data": {"n": 0},
        "chain": {"position": 1, "hash": row["hash"].hex()},
    }


async def test_ingest_when_event_comes_again_then_stored_once(log: ChainLog, database: Database) -> None:
    """The same message twice, inside and outside the stream's own window against duplicates."""
    events = await log.happen(5)
    for event in events:
        await log.stream.publish(event.subject, event.encode(), headers={"Nats-Msg-Id": str(new_id())})
        await log.stream.publish(event.subject, event.encode())
    await ingest(log.system, database).store([*events, *events])
    await log.happen(1)
    rows = await log.rows()
    assert linear([row["position"] for row in rows])
    assert len(rows) == 6
    assert (await log.verify())["intact"] is True


async def test_ingest_when_two_processes_append_then_one_line_without_gap(
    log: ChainLog, other_log: ChainLog, stream: JetStreamContext
) -> None:
    """Three processes share the consumer, in small batches, for two clients at once."""
    system = log.system
    logs = [log, other_log]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            settings = system.settings("audit", audit_batch_size=7)
            await stack.enter_async_context(build(settings, system.clock).started())
        both = [one.events(600) for one in logs]
        await asyncio.gather(*(one.publish(events) for one, events in zip(logs, both, strict=True)))
        for one, events in zip(logs, both, strict=True):
            await one.stored(events)
    # What the small batches have set for all leaves room for a large one.
    shared = (await stream.consumer_info(STREAM, CONSUMER)).config
    assert (shared.max_ack_pending or 0) >= system.settings("audit").audit_batch_size
    for one, events in zip(logs, both, strict=True):
        rows = await one.rows()
        assert linear([row["position"] for row in rows])
        assert {row["event_id"] for row in rows} == {event.id for event in events}
        answer = await one.verify()
        assert (answer["intact"], answer["checked"]) == (True, 600)


async def test_ingest_when_batches_of_many_clients_race_then_no_deadlock_and_no_fork(
    log: ChainLog, stream: JetStreamContext, database: Database
) -> None:
    """Two writers store overlapping batches whose clients come in opposite orders, each batch twice."""
    logs = [ChainLog(log.system, stream, new_id()) for _ in range(6)]
    batches = [[one.event(data={"n": n}) for one in logs for _ in range(3)] for n in range(10)]
    writers = [ingest(log.system, database) for _ in range(2)]
    await asyncio.gather(
        *(writers[0].store(batch) for batch in batches),
        *(writers[1].store(list(reversed(batch))) for batch in batches),
    )
    for one in logs:
        rows = await one.rows()
        assert linear([row["position"] for row in rows])
        assert len(rows) == 30
        assert (await one.verify())["intact"] is True


async def test_ingest_when_message_is_poison_then_set_aside_and_others_go_on(log: ChainLog) -> None:
    poison = [
        (f"poison-{new_id()}", b"{not json"),
        (f"poison-{new_id()}", b"[]"),
        (f"poison-{new_id()}", b'{"id": 1}'),
        (f"poison-{new_id()}", b"\xff\xfe"),
    ]
    for message_id, payload in poison:
        await log.stream.publish("events.identity.x", payload, headers={"Nats-Msg-Id": message_id})
    await log.happen(3)
    for message_id, payload in poison:
        letter = await dead_letter(log, message_id)
        assert (letter["consumer"], letter["payload"], letter["subject"]) == (
            "audit",
            payload,
            "events.identity.x",
        )
        assert letter["reason"].startswith("unreadable")


async def test_ingest_when_events_cannot_be_stored_then_set_aside_after_retries(log: ChainLog) -> None:
    bad = [
        log.event(**changes)
        for changes in (
            {"occurred_at": datetime(1970, 1, 1, tzinfo=UTC)},
            {"occurred_at": datetime(9999, 1, 1, tzinfo=UTC)},
            {"user_agent": 5},
            {"client_id": PLATFORM},
        )
    ]
    await log.publish(bad)
    await log.happen(2)
    for event in bad:
        letter = await dead_letter(log, str(event.id))
        assert letter["reason"].startswith("ValueError")
    assert len(await log.rows()) == 2


async def test_ingest_when_subject_is_another_services_then_set_aside(log: ChainLog) -> None:
    """A service cannot say what another did: NATS binds it to its subjects, and they bind the envelope."""
    forged = log.event(service="orgs")
    await log.stream.publish(
        "events.identity.login_failed", forged.encode(), headers={"Nats-Msg-Id": str(forged.id)}
    )
    letter = await dead_letter(log, str(forged.id))
    assert letter["reason"] == "says it is events.orgs.login_failed"
    assert await log.rows() == []


async def test_ingest_when_text_is_malicious_then_one_escaped_record(log: ChainLog) -> None:
    """Line breaks, terminal codes, forged JSON."""
    agent = 'x\r\n{"level":"info","event":"login"}\n\x1b[31m\u2028"}],"intact":true,{'
    (event,) = await log.happen(1, user_agent=agent, data={"name": agent})
    answer = await log.list()
    (item,) = answer.json["items"]
    assert (item["id"], item["user_agent"], item["data"]) == (str(event.id), agent, {"name": agent})
    assert b"\n" not in answer.body
    assert b"\r" not in answer.body
    assert b"\x1b" not in answer.body
    assert (await log.verify())["intact"] is True


async def test_ingest_when_text_cannot_be_stored_then_replaced_not_lost(log: ChainLog) -> None:
    """NUL and lone surrogates would keep the event out of the log; an attacker must not have that choice."""
    event = log.event()
    members = json.loads(event.encode())
    members |= {
        "user_agent": "a\x00b\ud800",
        "target_id": "t" * 5000,
        "data": {"k\x00": ["\udfff", {"\x00": 1}]},
    }
    payload = json.dumps(members).encode()
    await log.stream.publish(event.subject, payload, headers={"Nats-Msg-Id": str(event.id)})
    await log.stored([event])
    (item,) = (await log.list()).json["items"]
    assert item["user_agent"] == "a\ufffdb\ufffd"
    assert item["data"] == {"k\ufffd": ["\ufffd", {"\ufffd": 1}]}
    assert item["target"]["id"] == "t" * 512
    assert (await log.verify())["intact"] is True


async def test_ingest_when_event_is_of_another_month_then_its_partition_is_made(log: ChainLog) -> None:
    now = log.system.clock.now()
    await log.happen(1, occurred_at=now - timedelta(days=400))
    await log.happen(1, occurred_at=now + timedelta(days=40))
    assert [row["position"] for row in await log.rows()] == [1, 2]
    assert (await log.verify())["intact"] is True


async def test_record_when_gateway_hands_events_over_then_stored_in_its_name(log: ChainLog) -> None:
    events = [log.event(service="identity", type="credential_refused") for _ in range(3)]
    async with log.system.channel("audit", caller="gateway") as channel:
        stub = IngestServiceStub(channel.for_stubs)
        await stub.Record(ingest_pb2.RecordRequest(events_json=[event.encode().decode() for event in events]))
    await log.stored(events)
    assert {row["service"] for row in await log.rows()} == {"gateway"}


@pytest.mark.parametrize(
    ("events", "code"),
    [
        (["{}"] * 101, "too_many_events"),
        (["{"], "not_an_event"),
        (["{}"], "not_an_event"),
        ([json.dumps({"id": str(UUID(int=7)), "type": "x"})], "not_an_event"),
    ],
)
async def test_record_when_events_are_nonsense_then_refused(
    log: ChainLog, events: list[str], code: str
) -> None:
    async with log.system.channel("audit", caller="gateway") as channel:
        stub = IngestServiceStub(channel.for_stubs)
        with pytest.raises(AppError) as refused:
            await stub.Record(ingest_pb2.RecordRequest(events_json=events))
    assert refused.value.code == code


async def test_record_when_caller_is_no_gateway_then_refused(log: ChainLog) -> None:
    async with log.system.channel("audit", caller="identity") as channel:
        stub = IngestServiceStub(channel.for_stubs)
        with pytest.raises(AppError) as refused:
            await stub.Record(ingest_pb2.RecordRequest())
    assert refused.value.kind in ("unauthenticated", "forbidden")
