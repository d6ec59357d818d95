"""A process's stop: it ends everything it started, whatever that does with its first cancellation."""

from __future__ import annotations

import asyncio
import contextlib

from chassis.app import App
from chassis.probes import Probes
from chassis.settings import Settings


async def test_stop_ends_a_job_that_lost_its_first_cancellation() -> None:
    running, ended = asyncio.Event(), asyncio.Event()

    async def stubborn() -> None:
        running.set()
        # As `asyncio.wait_for` of Python 3.11 does when its result comes at the same moment.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    app = App(
        name="test", settings=Settings(), make_face=lambda probes: Probes({}, {}), jobs={"stubborn": stubborn}
    )
    async with asyncio.timeout(20):
        async with app.started():
            await running.wait()

    assert ended.is_set()
