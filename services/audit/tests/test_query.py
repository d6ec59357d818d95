"""Reading the log: filters, pages, limits."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID

import pytest

from chassis.clock import rfc3339
from chassis.context import Access, CallerContext
from chassis.ids import new_id
from services.audit.query.views import AuditEventPage
from services.audit.tests.chain_log import EVENTS, ChainLog
from tests.harness import System

USER = "0192f0e0-0000-7000-8000-00000000000a"
OTHER = "0192f0e0-0000-7000-8000-00000000000b"


async def some_day(log: ChainLog) -> None:
    """Six events a minute apart, of several kinds."""
    now = log.system.clock.now()
    kinds: list[dict[str, Any]] = [
        {
            "type": "user_created",
            "actor_type": "user",
            "actor_id": USER,
            "target_id": USER,
            "request_id": "r0",
        },
        {"type": "login_failed", "actor_type": "anonymous", "target_id": USER, "request_id": "r1"},
        {
            "type": "login_succeeded",
            "actor_type": "user",
            "actor_id": USER,
            "target_id": USER,
            "request_id": "r2",
        },
        {
            "type": "session_opened",
            "service": "token",
            "actor_type": "user",
            "actor_id": USER,
            "target_type": "session",
            "target_id": "s1",
            "request_id": "r2",
        },
        {"type": "login_failed", "actor_type": "anonymous", "target_id": OTHER, "request_id": "r4"},
        {
            "type": "client_updated",
            "service": "orgs",
            "actor_type": "admin",
            "actor_id": USER,
            "target_type": "client",
            "target_id": str(log.client_id),
            "request_id": "r5",
        },
    ]
    events = [
        log.event(occurred_at=now - timedelta(minutes=len(kinds) - n), data={"n": n}, **kind)
        for n, kind in enumerate(kinds)
    ]
    await log.publish(events)
    await log.stored(events)


def numbers(page: Any) -> list[int]:
    return [item["data"]["n"] for item in page["items"]]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", [5, 4, 3, 2, 1, 0]),
        ("event_type=login_failed", [4, 1]),
        ("event_type=login_failed,user_created,never_seen", [4, 1, 0]),
        ("actor_type=anonymous", [4, 1]),
        (f"actor_id={USER}", [5, 3, 2, 0]),
        (f"user_id={USER}", [3, 2, 1, 0]),
        (f"user_id={USER}&event_type=login_failed", [1]),
        (f"user_id={OTHER}", [4]),
        ("target_type=session", [3]),
        (f"target_id={USER}", [2, 1, 0]),
        ("request_id=r2", [3, 2]),
        ("request_id=r2&actor_type=anonymous", []),
        ("limit=2", [5, 4]),
        ("limit=10001", [5, 4, 3, 2, 1, 0]),
    ],
)
async def test_list_when_filtered_then_matching_newest_first(
    log: ChainLog, query: str, found: list[int]
) -> None:
    await some_day(log)
    answer = await log.list(query)
    assert answer.status == 200, answer.body
    assert numbers(answer.json) == found
    assert answer.json["events"] == answer.json["items"]
    AuditEventPage.model_validate_json(answer.body)


async def test_list_when_bounded_in_time_then_start_included_and_end_not(log: ChainLog) -> None:
    await some_day(log)
    rows = await log.rows()
    times = [quote(rfc3339(row["occurred_at"])) for row in rows]
    assert numbers((await log.list(f"from={times[2]}&to={times[4]}")).json) == [3, 2]
    assert numbers((await log.list(f"from={times[4]}")).json) == [5, 4]
    assert numbers((await log.list(f"to={times[1]}")).json) == [0]
    assert numbers((await log.list(f"from={times[1]}&to={times[1]}")).json) == []


@pytest.mark.parametrize(
    "query", ["", f"user_id={USER}", "event_type=login_failed,login_succeeded,user_created"]
)
async def test_list_when_paged_then_each_entry_once(log: ChainLog, query: str) -> None:
    await some_day(log)
    whole = numbers((await log.list(query)).json)
    seen: list[int] = []
    cursor, pages = "", 0
    while True:
        page = (await log.list(f"{query}&limit=2{cursor}")).json
        seen += numbers(page)
        pages += 1
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == whole
    assert pages == (len(whole) + 1) // 2


async def test_list_when_events_share_a_time_then_pages_neither_skip_nor_repeat(log: ChainLog) -> None:
    moment = log.system.clock.now()
    await log.happen(7, occurred_at=moment)
    seen: list[str] = []
    cursor = ""
    while True:
        page = (await log.list(f"limit=3{cursor}")).json
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert len(seen) == len(set(seen)) == 7


async def test_list_when_cursor_is_tampered_with_then_400(log: ChainLog, other_log: ChainLog) -> None:
    """Changed bytes, another filter, another tenant's."""
    await log.happen(4)
    cursor = (await log.list("limit=2")).json["next_cursor"]
    flipped = ("A" if cursor[0] != "A" else "B") + cursor[1:]
    tail = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    for asked in (flipped, tail, "x", "%00", "a" * 1000, cursor[:10]):
        answer = await log.list(f"limit=2&cursor={asked}")
        assert (answer.status, answer.code) == (400, "invalid_cursor"), asked
    for answer in (
        await other_log.list(f"limit=2&cursor={cursor}"),
        await log.list(f"limit=2&event_type=login_failed&cursor={cursor}"),
    ):
        assert (answer.status, answer.code) == (400, "invalid_cursor")
    assert (await log.list(f"limit=3&cursor={cursor}")).status == 200


@pytest.mark.parametrize(
    "query",
    [
        "client_id=x",
        "user_id=1",
        "event_type=",
        "event_type=a,,b",
        "event_type=DROP%20TABLE",
        "event_type=" + ",".join(["a"] * 51),
        "actor_type=%00",
        "actor_id=a%00b",
        "actor_id=" + "a" * 201,
        "target_id=%C3%A9",
        "request_id=%0A",
        "from=yesterday",
        "from=2026-01-01T00:00:00",
        "to=99999-01-01T00:00:00Z",
        "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z",
        "limit=0",
        "limit=-1",
        "limit=many",
        "cursor=" + "a" * 1025,
        "event_typ=login_failed",
    ],
)
async def test_list_when_filter_is_bad_then_422(system: System, query: str) -> None:
    answer = await system.call("audit", "GET", f"{EVENTS}?{query}", caller=system.admin())
    assert answer.status == 422, (query, answer.body)
    assert answer.code in ("validation_failed", "range_reversed")


@pytest.mark.parametrize("query", ["from=0001-01-01T00:00:00%2B14:00", "to=9999-12-31T23:59:59-14:00"])
async def test_list_when_time_is_out_of_range_in_utc_then_422(system: System, query: str) -> None:
    answer = await system.call("audit", "GET", f"{EVENTS}?{query}", caller=system.admin())
    assert (answer.status, answer.code) == (422, "validation_failed")


async def test_list_when_no_client_is_named_then_all_clients_and_the_platform(
    log: ChainLog, other_log: ChainLog
) -> None:
    await log.happen(1, request_id="shared-request")
    await other_log.happen(1, request_id="shared-request")
    platform = ChainLog(log.system, log.stream, UUID(int=0))
    events = platform.events(1, client_id=None, request_id="shared-request")
    await platform.publish(events)
    await platform.stored(events)
    answer = await log.system.call(
        "audit", "GET", f"{EVENTS}?request_id=shared-request", caller=log.system.admin()
    )
    assert {item["client_id"] for item in answer.json["items"]} == {
        str(log.client_id),
        str(other_log.client_id),
        None,
    }


async def test_list_when_another_client_asked_for_then_only_its_entries(
    log: ChainLog, other_log: ChainLog
) -> None:
    await log.happen(2)
    await other_log.happen(3)
    assert {item["client_id"] for item in (await log.list()).json["items"]} == {str(log.client_id)}


async def test_list_when_ten_thousand_asked_for_then_all_of_them_in_order(log: ChainLog) -> None:
    await log.happen(2300)
    page = (await log.list("limit=10000")).json
    assert numbers(page) == list(range(2299, -1, -1))
    assert page["next_cursor"] is None


async def test_list_when_caller_is_no_admin_then_refused(system: System) -> None:
    user = CallerContext(
        access=Access.USER, request_id="r", client_id=new_id(), user_id=new_id(), session_id=new_id()
    )
    assert (await system.call("audit", "GET", EVENTS, caller=user)).status == 403
    assert (await system.call("audit", "GET", EVENTS)).status == 401


async def test_list_when_admin_key_asks_then_the_question_is_recorded(system: System) -> None:
    caller = system.admin(request_id=f"asked-{new_id()}")
    await system.call("audit", "GET", EVENTS, caller=caller)
    event = await system.event("admin_key_used", client_id=None, path=EVENTS)
    assert event.actor_type == "admin_key"
