"""Events as a service emits them, from a process of its own: into the outbox of `token`, through the chassis.

    python -m benchmarks.feeder < description.json

Each event names its run and number as the request id, so that whoever reads the log knows how far it is.
Prints the time of each event (seconds since 1970) in order, one a line.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass
from uuid import UUID

import uvloop

from chassis.bus import Bus
from chassis.clock import SystemClock
from chassis.context import Access, CallerContext
from chassis.database import Database
from chassis.events import Actor, ActorType, envelope
from chassis.ids import new_id
from chassis.outbox import Outbox
from contracts.events import SessionRefreshed

_IN_FLIGHT = 200


@dataclass(frozen=True, slots=True)
class Feed:
    """`count` events of one tenant, called `run`, at `rate` a second; 0 means as fast as it goes."""

    database_url: str
    jobs_database_url: str
    client_id: str
    run: str
    count: int
    rate: float


class Feeding:
    """A running feeder."""

    def __init__(self, feed: Feed) -> None:
        """Start it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.feeder"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(feed)).encode())
        self._process.stdin.close()
        self._process.stdin = None

    def times(self) -> list[float]:
        """Wait for its end and return the time of each event.

        Raises:
            RuntimeError: it failed.
        """
        output, _ = self._process.communicate()
        if self._process.returncode != 0:
            raise RuntimeError("the feeder failed")
        return [float(line) for line in output.split()]


async def _feed(feed: Feed) -> list[float]:
    clock = SystemClock()
    db = Database(
        feed.database_url, feed.jobs_database_url, service="bench", pool_size=4, statement_timeout=30
    )
    # The bus is not connected: the relay of the service publishes.
    outbox = Outbox(db, Bus("nats://nowhere", process="bench"), clock, service="token")
    user, session, client_id = new_id(), new_id(), UUID(feed.client_id)
    times = [0.0] * feed.count
    turns, numbers = iter(range(feed.count)), iter(range(feed.count))
    loop = asyncio.get_running_loop()
    started = loop.time()

    async def worker() -> None:
        for turn in turns:
            if feed.rate and (early := started + turn / feed.rate - loop.time()) > 0:
                await asyncio.sleep(early)
            # Numbered as they happen: timers that are due together fire in any order.
            number, now = next(numbers), clock.now()
            caller = CallerContext(
                access=Access.API_KEY, request_id=f"{feed.run}/{number}", ip="192.0.2.1", client_id=client_id
            )
            event = SessionRefreshed(target_id=session, user_id=str(user))
            actor = Actor(ActorType.USER, str(user))
            wrapped = envelope(event, service="token", now=now, caller=caller, actor=actor)
            times[number] = now.timestamp()
            await outbox.append_envelope(wrapped)

    await db.start()
    async with asyncio.TaskGroup() as group:
        for _ in range(_IN_FLIGHT):
            group.create_task(worker())
    await db.stop()
    return times


def main() -> None:
    """Read the description and feed."""
    print(*uvloop.run(_feed(Feed(**json.load(sys.stdin)))), sep="\n")


if __name__ == "__main__":
    main()
