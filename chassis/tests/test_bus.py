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
