"""Readiness: what it costs the dependencies that are asked."""

from __future__ import annotations

import asyncio

from chassis.probes import Probes


async def test_readiness_when_asked_by_many_at_once_then_each_dependency_is_asked_once() -> None:
    asked = 0

    async def check() -> None:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0)

    probes = Probes({"database": check}, {})
    answers = await asyncio.gather(*(probes.readiness() for _ in range(50)))
    answers += [await probes.readiness() for _ in range(50)]

    assert asked == 1
    assert all(answer == (True, {"status": "ready", "checks": {"database": "ok"}}) for answer in answers)
    probes.draining = True
    assert await probes.readiness() == (False, {"status": "draining", "checks": {"database": "ok"}})


async def test_readiness_when_who_asked_has_left_then_the_others_get_their_answer() -> None:
    may_answer = asyncio.Event()

    async def check() -> None:
        await may_answer.wait()

    probes = Probes({"database": check}, {})
    first = asyncio.create_task(probes.readiness())
    second = asyncio.create_task(probes.readiness())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    may_answer.set()
    assert (await second)[0]
