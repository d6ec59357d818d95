"""Telling everyone: that a cache is dropped where it is used before the change is answered."""

from __future__ import annotations

import asyncio
import time

from chassis.bus import Bus
from local.servers import Servers


async def connected(servers: Servers, process: str) -> Bus:
    bus = Bus(servers.nats_url(), process=process)
    await bus.start()
    async with asyncio.timeout(10):
        while not bus.client.is_connected:
            await asyncio.sleep(0.01)
    return bus


async def test_tell_all_when_it_returns_then_every_known_listener_has_acted(servers: Servers) -> None:
    acted: list[str] = []
    listeners = []
    for name in ("one", "two"):
        bus = Bus(servers.nats_url(), process=name)

        async def slowly(text: str, name: str = name) -> None:
            await asyncio.sleep(0.05)
            acted.append(f"{name}:{text}")

        bus.on("invalidate.bus_test", slowly)
        await bus.start()
        listeners.append(bus)
    teller = await connected(servers, "teller")
    async with asyncio.timeout(10):
        while len(acted) < 2:  # the call at connecting
            await asyncio.sleep(0.01)
    acted.clear()
    for number in range(5):
        await teller.tell_all("invalidate.bus_test", str(number))
        assert sorted(acted) == [f"one:{number}", f"two:{number}"]
        acted.clear()

    await listeners.pop().stop()
    await teller.tell_all("invalidate.bus_test", "gone")  # waits its moment for the one that left
    started = time.monotonic()
    await teller.tell_all("invalidate.bus_test", "after")
    assert "one:after" in acted
    assert time.monotonic() - started < 0.4
    for bus in (*listeners, teller):
        await bus.stop()


async def test_tell_all_when_nats_is_away_then_returns_at_once() -> None:
    bus = Bus("nats://127.0.0.1:1", process="alone")
    await bus.start()
    await bus.tell_all("invalidate.bus_test", "x")
    await bus.stop()


async def test_message_when_it_asks_for_an_answer_elsewhere_than_in_an_inbox_then_none_is_sent(
    servers: Servers,
) -> None:
    # Permission to answer covers whatever subject is named: JetStream's, or that of an event.
    heard: list[str] = []
    listener = Bus(servers.nats_url(), process="listener")

    async def hear(text: str) -> None:
        heard.append(text)

    listener.on("invalidate.bus_test", hear)
    await listener.start()
    other = await connected(servers, "other")
    elsewhere = await other.client.subscribe("events.other.forged")
    inbox = await other.client.subscribe("_INBOX_other.x")
    async with asyncio.timeout(10):
        while "asked" not in heard:
            await other.client.publish("invalidate.bus_test", b"asked", reply="events.other.forged")
            await other.client.flush()
            await asyncio.sleep(0.01)
    await other.client.publish("invalidate.bus_test", b"again", reply="_INBOX_other.x")
    await inbox.next_msg(timeout=5)  # sent after whatever the others would have been answered with
    assert elsewhere.pending_msgs == 0
    for bus in (listener, other):
        await bus.stop()
