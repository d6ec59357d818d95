"""What a miss costs: the same whatever was missed, also while hashes of two schemes are stored."""

from __future__ import annotations

import os
from collections.abc import Collection

import bcrypt
import psutil
import pytest

from chassis.bus import Bus
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.inventory import SchemeInventory
from services.identity.passwords.schemes import HashPolicy, Scheme
from services.identity.tests.conftest import PASSWORD, Person, sign_up
from tests.harness import System

# What is measured means something only while nothing else runs.
pytestmark = pytest.mark.alone

COST = 12
IMPORTED = "$pbkdf2-sha256$i=60000$c2FsdA$" + "A" * 43
ARGON2ID = HashPolicy("argon2id", COST)
BCRYPT = HashPolicy("bcrypt", COST)


async def spent_on_misses(policy: HashPolicy, stored_schemes: Collection[Scheme]) -> list[float]:
    """CPU seconds that a worker spends on a miss: of nobody, and of hashes of every scheme and cost."""
    earlier = set(psutil.Process(os.getpid()).children())
    hasher = PasswordHasher(policy, workers=1, queue=8, niceness=0)
    hasher.stored_schemes = stored_schemes
    await hasher.start()
    try:
        await hasher.verify(None, PASSWORD)
        [worker] = set(psutil.Process(os.getpid()).children()) - earlier
        weak = bcrypt.hashpw(b"another", bcrypt.gensalt(COST - 2)).decode()
        spent = []
        for stored in (None, ARGON2ID.decoy(), BCRYPT.decoy(), weak, IMPORTED):
            before = worker.cpu_times()
            for _ in range(3):
                assert not await hasher.verify(stored, PASSWORD)
            after = worker.cpu_times()
            spent.append(after.user + after.system - before.user - before.system)
        return spent
    finally:
        await hasher.stop()


@pytest.mark.parametrize("policy", [ARGON2ID, BCRYPT])
async def test_a_miss_costs_the_same_while_a_move_between_schemes_goes_on(policy: HashPolicy) -> None:
    spent = await spent_on_misses(policy, {"bcrypt", "argon2id"})

    assert min(spent) > 0.75 * max(spent), spent


async def test_a_miss_costs_no_more_than_the_only_scheme_in_use() -> None:
    both = await spent_on_misses(ARGON2ID, {"bcrypt", "argon2id"})
    alone = await spent_on_misses(ARGON2ID, {"argon2id"})

    assert max(*alone[:2], alone[-1]) < 0.6 * min(both[:2])


async def test_the_schemes_in_use_are_looked_up(system: System, person: Person) -> None:
    await sign_up(system, person.tenant, "second@example.com")
    hasher = PasswordHasher(BCRYPT, workers=1, queue=1, niceness=0)
    assert set(hasher.stored_schemes) == {"bcrypt", "argon2id"}
    statement = "UPDATE passwords SET hash = $1 WHERE user_id = $2"
    await system.sql("identity", statement, ARGON2ID.decoy(), person.id)
    bus = Bus(system.servers.nats_url("identity"), process="identity")
    async with system.db("identity") as db:
        await SchemeInventory(db, bus, hasher).look()
        assert set(hasher.stored_schemes) == {"bcrypt", "argon2id"}
        await system.sql("identity", statement, BCRYPT.decoy(), person.id)
        others = await system.sql("identity", "SELECT FROM passwords WHERE hash LIKE '$argon2id$%'")
        await SchemeInventory(db, bus, hasher).look()
        assert set(hasher.stored_schemes) == ({"bcrypt", "argon2id"} if others else {"bcrypt"})
