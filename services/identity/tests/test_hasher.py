"""The hashing pool: bounded, mortal, low in priority, and never in the way."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from chassis.deadlines import set_budget
from chassis.errors import DeadlineExceeded
from services.identity.errors import HashingInterrupted, Overloaded
from services.identity.passwords.hasher import BUSY, PasswordHasher
from services.identity.passwords.schemes import HashPolicy
from services.identity.tests.conftest import PASSWORD, Person, another_identity, until
from tests.harness import System

REPOSITORY = Path(__file__).parents[3]
SLOW = HashPolicy("bcrypt", 14)
FAST = HashPolicy("bcrypt", 10)


def workers_of(pid: int) -> set[psutil.Process]:
    """The live hash workers of a process."""
    found = set()
    for child in psutil.Process(pid).children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it ended, or is about to be reaped
            if any(part.endswith("hash_worker.py") for part in child.cmdline()):
                found.add(child)
    return found


def busy() -> float:
    """How many workers hash now."""
    return next(sample.value for metric in BUSY.collect() for sample in metric.samples)


@asynccontextmanager
async def pool(policy: HashPolicy, *, workers: int = 1, queue: int = 64) -> AsyncIterator[PasswordHasher]:
    """A pool of its own."""
    async with running(PasswordHasher(policy, workers=workers, queue=queue, niceness=0)) as hasher:
        yield hasher


@asynccontextmanager
async def running(hasher: PasswordHasher) -> AsyncIterator[PasswordHasher]:
    """Start and stop a pool."""
    await hasher.start()
    try:
        yield hasher
    finally:
        await hasher.stop()


@pytest.mark.parametrize("policy", [FAST, HashPolicy("argon2id", 10)])
async def test_a_hash_matches_its_password_only(policy: HashPolicy) -> None:
    async with pool(policy) as hasher:
        stored = await hasher.hash(PASSWORD)

        assert policy.accepts(stored)
        assert not policy.is_weaker(stored)
        assert await hasher.verify(stored, PASSWORD)
        assert not await hasher.verify(stored, PASSWORD + "x")
        assert not await hasher.verify(stored, "")
        assert not await hasher.verify(None, PASSWORD)
        assert await hasher.hash(PASSWORD) != stored


@pytest.mark.parametrize("policy", [FAST, HashPolicy("bcrypt", 16), HashPolicy("argon2id", 10)])
async def test_a_decoy_is_a_hash_of_the_policy(policy: HashPolicy) -> None:
    decoys = {policy.decoy() for _ in range(50)}

    assert len(decoys) == 50
    assert all(policy.accepts(decoy) and not policy.is_weaker(decoy) for decoy in decoys)


async def test_a_password_over_72_bytes_is_refused_and_never_cut() -> None:
    async with pool(FAST) as hasher:
        stored = await hasher.hash("x" * 72)

        assert await hasher.verify(stored, "x" * 72)
        assert not await hasher.verify(stored, "x" * 73)
        with pytest.raises(ValueError, match="72"):
            await hasher.hash("é" * 37)


async def test_a_full_queue_refuses_at_once() -> None:
    async with pool(SLOW, queue=2) as hasher:
        running = asyncio.create_task(hasher.verify(None, PASSWORD))
        await until(lambda: busy() == 1)
        waiting = [asyncio.create_task(hasher.verify(None, PASSWORD)) for _ in range(2)]
        await asyncio.sleep(0)

        with pytest.raises(Overloaded) as refused:
            await asyncio.wait_for(hasher.verify(None, PASSWORD), 0.1)

        assert refused.value.retry_after
        # Whoever goes makes room.
        waiting[0].cancel()
        await asyncio.gather(waiting[0], return_exceptions=True)
        follower = asyncio.create_task(hasher.verify(None, PASSWORD))
        await asyncio.sleep(0)
        assert not follower.done()
        for task in (running, waiting[1], follower):
            task.cancel()
        await asyncio.gather(running, waiting[1], follower, return_exceptions=True)


async def test_a_request_out_of_time_is_overloaded_when_it_waited_and_late_when_it_ran() -> None:
    async def within(seconds: float, hasher: PasswordHasher) -> None:
        set_budget(seconds)
        await hasher.verify(None, PASSWORD)

    async with pool(SLOW) as hasher:
        runs = asyncio.create_task(within(0.5, hasher))
        await until(lambda: busy() == 1)
        waits = asyncio.create_task(within(0.1, hasher))

        with pytest.raises(Overloaded):
            await waits
        with pytest.raises(DeadlineExceeded):
            await runs


async def test_a_killed_worker_costs_its_request_only() -> None:
    earlier = workers_of(os.getpid())
    async with pool(SLOW) as hasher:
        victim = asyncio.create_task(hasher.verify(None, PASSWORD))
        follower = asyncio.create_task(hasher.hash("x" * 72))
        await until(lambda: busy() == 1)
        [worker] = workers_of(os.getpid()) - earlier

        worker.kill()

        with pytest.raises(HashingInterrupted):
            await victim
        assert await follower
        assert worker not in workers_of(os.getpid())


async def test_a_worker_that_died_idle_costs_nobody() -> None:
    earlier = workers_of(os.getpid())
    async with pool(FAST) as hasher:
        assert not await hasher.verify(None, PASSWORD)
        [worker] = workers_of(os.getpid()) - earlier
        worker.kill()
        await until(lambda: workers_of(os.getpid()) - earlier - {worker})

        assert not await hasher.verify(None, PASSWORD)


async def test_a_pool_that_is_stopped_while_it_starts_leaves_nothing() -> None:
    earlier = workers_of(os.getpid())
    for turns in range(8):
        hasher = PasswordHasher(FAST, workers=2, queue=1, niceness=0)
        await hasher.start()
        for _ in range(turns):
            await asyncio.sleep(0)
        await asyncio.wait_for(hasher.stop(), 10)

    assert workers_of(os.getpid()) <= earlier


async def test_workers_are_nice_know_no_secrets_and_end_with_the_pool(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MASTER_KEY", "a secret of the service")
    earlier = workers_of(os.getpid())
    hasher = PasswordHasher(FAST, workers=2, queue=64, niceness=10)
    async with running(hasher):
        await asyncio.gather(*(hasher.verify(None, PASSWORD) for _ in range(4)))
        workers = workers_of(os.getpid()) - earlier

        assert len(workers) == 2
        for worker in workers:
            assert worker.nice() == psutil.Process().nice() + 10
            assert "MASTER_KEY" not in worker.environ()
            assert PASSWORD not in " ".join(worker.cmdline())

    assert not any(worker.is_running() for worker in workers)


async def test_workers_end_when_the_service_is_killed() -> None:
    program = """
import asyncio
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.schemes import HashPolicy

async def main():
    hasher = PasswordHasher(HashPolicy("bcrypt", 10), workers=2, queue=4, niceness=0)
    await hasher.start()
    await asyncio.gather(*(hasher.verify(None, "x") for _ in range(4)))
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE
    )
    assert service.stdout is not None
    await service.stdout.readline()
    workers = workers_of(service.pid)
    service.kill()
    await service.wait()

    assert len(workers) == 2
    await until(lambda: not any(worker.is_running() for worker in workers))


async def test_logins_beyond_the_queue_are_503_at_once_and_cost_no_attempt(
    system: System, person: Person
) -> None:
    async with another_identity(
        system, hash_workers=1, hash_queue=1, lockout_threshold=100, lockout_account_threshold=1000
    ):
        answers = await asyncio.gather(*(person.log_in("wrong password") for _ in range(12)))

    shed = [answer for answer in answers if answer.status == 503]
    evaluated = [answer for answer in answers if answer.status == 401]
    assert len(shed) + len(evaluated) == 12
    assert shed
    assert {answer.code for answer in shed} == {"overloaded"}
    assert all(answer.headers["retry-after"] for answer in shed)
    rows = await system.sql(
        "identity",
        # By address: sprays over many are counted under a name that is no hash.
        "SELECT attempts FROM login_attempts WHERE client_id = $1 AND octet_length(email_hash) = 32",
        person.tenant.id,
    )
    assert [row["attempts"] for row in rows] == [len(evaluated)] * 2
