"""Checkpoints: made when due, signed so that anyone can verify them, linked to each other."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from typing import Any

import jwt
import pytest

from chassis.database import Database
from chassis.sealing import SealBroken, Sealer, parse_key
from services.audit.checkpoints.service import Checkpoints
from services.audit.ingest.chain import Chains
from services.audit.tests.chain_log import EVENTS, ChainLog

PATH = f"{EVENTS}/checkpoints"


def maker(log: ChainLog, database: Database, every: int = 1000, master_key: str | None = None) -> Checkpoints:
    root = Sealer(parse_key(master_key or log.system.settings("audit").master_key.get_secret_value()))
    interval = timedelta(seconds=60)
    return Checkpoints(database, root, Chains(root), log.system.clock, every=every, interval=interval)


async def exhaust(checkpoints: Checkpoints) -> None:
    while await checkpoints.make_due():
        pass


async def listed(log: ChainLog, query: str = "") -> Any:
    path = f"{PATH}?client_id={log.client_id}&{query}"
    answer = await log.system.call("audit", "GET", path, caller=log.system.admin())
    assert answer.status == 200, answer.body
    return answer.json


async def test_checkpoint_when_verified_with_the_public_key_only_then_says_where_the_chain_stood(
    log: ChainLog, database: Database
) -> None:
    """What an auditor does: a JOSE library, the published key, nothing of ours."""
    checkpoints = maker(log, database)
    for count in (2, 3):
        await log.happen(count)
        with log.system.clock.advanced(timedelta(seconds=61)):
            await exhaust(checkpoints)
    page = await listed(log)
    keys = {key["kid"]: jwt.PyJWK(key) for key in page["keys"]}
    newest, oldest = page["items"]
    said = [jwt.decode(item["signed"], keys[item["kid"]], algorithms=["EdDSA"]) for item in (oldest, newest)]
    hashes = [row["hash"].hex() for row in await log.rows()]
    for statement, item, position in zip(said, (oldest, newest), (2, 5), strict=True):
        assert item["position"] == statement["position"] == position
        assert item["hash"] == statement["hash"] == hashes[position - 1]
        assert item["client_id"] == statement["chain"] == str(log.client_id)
        assert item["created_at"] == statement["created_at"]
    assert said[0]["previous"] is None
    assert said[1]["previous"] == hashlib.sha256(oldest["signed"].encode()).hexdigest()
    assert jwt.get_unverified_header(newest["signed"])["typ"] == "audit-checkpoint+jwt"


async def test_checkpoint_when_chain_has_no_news_or_is_young_then_none_is_made(
    log: ChainLog, database: Database
) -> None:
    checkpoints = maker(log, database)
    await log.happen(1)
    await exhaust(checkpoints)
    assert (await listed(log))["items"] == []
    with log.system.clock.advanced(timedelta(seconds=61)):
        await exhaust(checkpoints)
        await exhaust(checkpoints)
    assert len((await listed(log))["items"]) == 1


async def test_checkpoint_when_enough_events_came_then_made_at_once(
    log: ChainLog, database: Database
) -> None:
    checkpoints = maker(log, database, every=10)
    await log.happen(9)
    await exhaust(checkpoints)
    assert (await listed(log))["items"] == []
    await log.happen(1)
    await exhaust(checkpoints)
    assert [item["position"] for item in (await listed(log))["items"]] == [10]


async def test_checkpoint_when_two_processes_make_them_then_each_once(
    log: ChainLog, database: Database
) -> None:
    await log.happen(3)
    with log.system.clock.advanced(timedelta(seconds=61)):
        await asyncio.gather(*(exhaust(maker(log, database)) for _ in range(4)))
    assert [item["position"] for item in (await listed(log))["items"]] == [3]


async def test_checkpoint_when_head_is_forged_then_none_is_signed(log: ChainLog, database: Database) -> None:
    await log.happen(3)
    await log.tamper("UPDATE chain_heads SET position = 2 WHERE client_id = $1")
    with log.system.clock.advanced(timedelta(seconds=61)):
        await exhaust(maker(log, database))
    assert (await listed(log))["items"] == []
    assert (await log.verify())["intact"] is False


async def test_checkpoint_key_when_sealed_under_another_master_key_then_never_replaced(
    log: ChainLog, database: Database
) -> None:
    """A key that cannot be read is a fault, not a reason for a new one."""
    before = (await listed(log))["keys"]
    with pytest.raises(SealBroken):
        await maker(log, database, master_key="cd" * 32).make_due()
    assert (await listed(log))["keys"] == before


async def test_list_checkpoints_when_paged_then_newest_first(log: ChainLog, database: Database) -> None:
    checkpoints = maker(log, database, every=1)
    for _ in range(3):
        await log.happen(1)
        await exhaust(checkpoints)
    first = await listed(log, "limit=2")
    second = await listed(log, f"limit=2&cursor={first['next_cursor']}")
    assert [item["position"] for item in first["items"] + second["items"]] == [3, 2, 1]
    assert second["next_cursor"] is None
    answer = await log.system.call(
        "audit", "GET", f"{PATH}?cursor={first['next_cursor']}", caller=log.system.admin()
    )
    assert (answer.status, answer.code) == (400, "invalid_cursor")
