"""The whole chassis through the notes service: face, tenancy, errors, idempotency, outbox."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import nats
import pytest

from chassis.context import HEADER, Access, sign_context
from chassis.ids import new_id
from chassis.tests.conftest import Notes
from local.servers import Servers


async def test_write_when_called_by_the_gateway_then_stored_and_listed(notes: Notes) -> None:
    caller = notes.caller()
    made = await notes.call("POST", "/api/notes", caller, json={"text": "hello"})
    assert made.status_code == 201, made.text
    listed = await notes.call("GET", "/api/notes", caller)
    assert listed.json() == [{"id": made.json()["id"], "text": "hello"}]
    assert listed.headers["cache-control"] == "no-store"


async def test_read_when_another_tenant_then_nothing(notes: Notes) -> None:
    await notes.call("POST", "/api/notes", notes.caller(), json={"text": "mine"})
    assert (await notes.call("GET", "/api/notes", notes.caller())).json() == []


async def test_call_when_no_context_then_401(notes: Notes) -> None:
    answer = await notes.call("GET", "/api/notes", None)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")


async def test_call_when_context_signed_for_another_path_or_key_then_401(notes: Notes) -> None:
    caller = notes.caller()
    key = notes.service.keys.key("gateway", "notes")
    for forged in (
        sign_context(caller, key, "GET", "/api/other"),
        sign_context(caller, key, "POST", "/api/notes"),
        sign_context(caller, b"x" * 32, "GET", "/api/notes"),
        sign_context(caller, key, "GET", "/api/notes")[:-1] + b"g",
        b"",
        b"a.b",
    ):
        answer = await notes.call("GET", "/api/notes", None, headers={HEADER.decode(): forged.decode()})
        assert answer.status_code == 401, forged
    good = sign_context(caller, key, "GET", "/api/notes").decode()
    assert (await notes.call("GET", "/api/notes", None, headers={HEADER.decode(): good})).status_code == 200


async def test_call_when_access_class_too_low_then_refused(notes: Notes) -> None:
    answer = await notes.call("GET", "/api/notes", notes.caller(access=Access.PUBLIC))
    assert answer.status_code == 401
    answer = await notes.call("GET", "/api/notes", notes.caller(access=Access.ADMIN, admin_id=new_id()))
    assert answer.status_code == 403


async def test_errors_are_problem_documents(notes: Notes) -> None:
    caller = notes.caller()
    taken = await notes.call("POST", "/api/notes", caller, json={"text": "taken"})
    assert (taken.status_code, taken.headers["content-type"]) == (409, "application/problem+json")
    assert taken.json() == {
        "type": "/docs/errors#note_taken",
        "title": "Conflict",
        "status": 409,
        "detail": "This conflicts with the present state.",
        "code": "note_taken",
        "request_id": "test",
    }
    crashed = await notes.call("POST", "/api/notes", caller, json={"text": "crash"})
    assert (crashed.status_code, crashed.json()["code"]) == (500, "internal_error")
    assert "secret" not in crashed.text
    missing = await notes.call("POST", "/api/notes", caller, json={})
    assert (missing.status_code, missing.json()["errors"][0]["field"]) == (422, "text")
    assert (await notes.call("GET", "/nowhere", caller)).status_code == 404
    assert (await notes.call("DELETE", "/api/notes", caller)).status_code == 405


async def test_bodies_that_no_database_can_hold_are_422_or_400(notes: Notes) -> None:
    caller = notes.caller()
    for content in (
        rb'{"text": "a\u0000b"}',
        rb'{"text": "\ud800"}',
        b"[" * 500 + b"]" * 500,
        b"not json",
        b"1",
    ):
        answer = await notes.call("POST", "/api/notes", caller, content=content)
        assert answer.status_code in (400, 422), (content[:20], answer.text)
    huge = await notes.call("POST", "/api/notes", caller, content=b'{"text": "' + b"x" * 2000 + b'"}')
    assert (huge.status_code, huge.json()["code"]) == (413, "body_too_large")


async def test_repeat_when_same_idempotency_key_then_same_answer_once(notes: Notes) -> None:
    caller = notes.caller()
    headers = {"Idempotency-Key": "k1"}
    first = await notes.call("POST", "/api/notes", caller, json={"text": "once"}, headers=headers)
    again = await notes.call("POST", "/api/notes", caller, json={"text": "once"}, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert again.headers["idempotent-replayed"] == "true"
    other = await notes.call("POST", "/api/notes", caller, json={"text": "else"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await notes.call("GET", "/api/notes", caller)).json()) == 1
    foreign = await notes.call("POST", "/api/notes", notes.caller(), json={"text": "once"}, headers=headers)
    assert foreign.json()["id"] != first.json()["id"]


async def test_repeat_when_twenty_at_once_then_one_effect(notes: Notes) -> None:
    caller = notes.caller()
    calls = [
        notes.call("POST", "/api/notes", caller, json={"text": "race"}, headers={"Idempotency-Key": "race"})
        for _ in range(20)
    ]
    answers = await asyncio.gather(*calls)
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert len((await notes.call("GET", "/api/notes", caller)).json()) == 1


async def test_idempotency_when_refused_then_key_is_free_again(notes: Notes) -> None:
    caller = notes.caller()
    headers = {"Idempotency-Key": "retry"}
    assert (
        await notes.call("POST", "/api/notes", caller, json={"text": "taken"}, headers=headers)
    ).status_code == 409
    assert (
        await notes.call("POST", "/api/notes", caller, json={"text": "free"}, headers=headers)
    ).status_code == 201


async def test_event_is_relayed_with_actor_and_request(notes: Notes, servers: Servers) -> None:
    client = await nats.connect(servers.nats_url())
    heard = await client.subscribe("events.notes.>")
    caller = notes.caller(user_agent="agent", request_id="r-1")
    made = await notes.call("POST", "/api/notes", caller, json={"text": "told"})
    async with asyncio.timeout(10):
        async for message in heard.messages:
            event = json.loads(message.data)
            if event["request_id"] == "r-1":
                break
    await client.close()
    assert message.headers == {"Nats-Msg-Id": event["id"]}
    assert message.subject == "events.notes.note_written"
    assert (event["target_id"], event["data"]) == (made.json()["id"], {"number": 1})
    assert (event["actor_type"], event["ip"], event["user_agent"]) == ("client", "192.0.2.1", "agent")


async def test_break_glass_use_is_recorded(notes: Notes, servers: Servers) -> None:
    client = await nats.connect(servers.nats_url())
    heard = await client.subscribe("events.notes.admin_key_used")
    await client.flush()
    await notes.call("GET", "/api/notes", notes.caller(access=Access.ADMIN, client_id=None, request_id="bg"))
    async with asyncio.timeout(10):
        async for message in heard.messages:
            event = json.loads(message.data)
            if event["request_id"] == "bg":
                break
    await client.close()
    assert (event["actor_type"], event["data"]) == ("admin_key", {"method": "GET", "path": "/api/notes"})


async def test_probes_need_no_caller(notes: Notes) -> None:
    assert (await notes.call("GET", "/healthz", None)).json() == {"status": "ok"}
    ready = await notes.call("GET", "/readyz", None)
    assert ready.json() == {"status": "ready", "checks": {"database": "ok", "nats": "ok", "redis": "ok"}}
    assert "http_requests_total" in (await notes.call("GET", "/metrics", None)).text


@pytest.mark.parametrize("style", ["json", "console"])
def test_logged_stack_shows_no_locals(style: str) -> None:
    program = f"""
import logging, structlog
from chassis import telemetry
telemetry.configure_logging("info", "{style}", process="test")
def fail():
    secret = "hunter" + str(2)
    raise ValueError("it failed")
for log in (structlog.get_logger(), logging.getLogger("library")):
    try:
        fail()
    except ValueError:
        log.exception("caught")
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    ).stderr
    assert printed.count("it failed") == 2
    assert "hunter2" not in printed


@pytest.mark.parametrize(
    "body",
    [
        '{"text": "a", "more": ' + "[" * 100 + "]" * 100 + "}",
        '{"text": "a", "more": ' + "[" * 450 + "]" * 450 + "}",
        '{"text": "a", "more": NaN}',
        '{"text": "a", "more": {"deep": [1e999]}}',
        '{"text": "a\\u0000"}',
        '{"text": "a", "more": {"\\ud800": 1}}',
    ],
    ids=["deep", "deeper", "nan", "infinite", "nul", "surrogate"],
)
async def test_body_when_no_database_can_hold_it_then_422(notes: Notes, body: str) -> None:
    headers = {"content-type": "application/json"}
    answer = await notes.call("POST", "/api/notes", notes.caller(), content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (422, "validation_failed")
