"""Whatever is done to the log in SQL, verification names where."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from chassis.context import Access, CallerContext
from chassis.database import Database
from chassis.ids import new_id
from chassis.sealing import Sealer, parse_key
from services.audit.checkpoints.service import Checkpoints
from services.audit.errors import ChainKeyMissing
from services.audit.ingest.chain import Chains, canonical
from services.audit.ingest.heads import prove_anew
from services.audit.ingest.key_check import KeyCheck
from services.audit.ingest.service import Ingest
from services.audit.query.store import link_of
from services.audit.tests.chain_log import VERIFY, ChainLog
from services.audit.verification.models import Reason
from services.audit.verification.service import Verification
from tests.harness import System

COLUMNS = """occurred_at, event_id, recorded_at, type, service, actor_type, actor_id, target_type, target_id,
    session_id, ip, user_agent, request_id, data, key_id, hash"""


def sealer(system: System) -> Sealer:
    settings = system.settings("audit")
    return Sealer(parse_key(settings.master_key.get_secret_value()))


def broken(answer: Any) -> tuple[int, str]:
    assert answer["intact"] is False, answer
    return answer["broken"]["position"], answer["broken"]["reason"]


async def checkpoint(system: System, database: Database) -> None:
    """Make every checkpoint that a minute's wait would."""
    clock, root = system.clock, sealer(system)
    with clock.advanced(timedelta(seconds=61)):
        maker = Checkpoints(database, root, Chains(root), clock, every=1000, interval=timedelta(seconds=60))
        while await maker.make_due():
            pass


async def test_verify_when_untouched_then_intact_and_itself_recorded(log: ChainLog) -> None:
    await log.happen(5)
    answer = await log.verify()
    rows = await log.rows()
    verified_at = answer.pop("verified_at")
    assert verified_at.endswith("Z")
    assert answer == {
        "intact": True,
        "client_id": str(log.client_id),
        "checked": 5,
        "first_position": 1,
        "last_position": 5,
        "head_hash": rows[4]["hash"].hex(),
        "checkpoints_checked": 0,
        "broken": None,
    }
    event = await log.system.event("audit_chain_checked", client_id=log.client_id)
    assert event.data == {"intact": True}
    assert event.actor_type == "admin_key"


async def test_verify_when_chain_is_empty_then_intact(log: ChainLog) -> None:
    answer = await log.verify()
    assert answer["intact"] is True
    assert (answer["checked"], answer["last_position"], answer["head_hash"]) == (0, 0, None)


async def test_verify_when_no_client_is_named_then_checks_the_platform_chain(log: ChainLog) -> None:
    answer = await log.system.call("audit", "GET", VERIFY, caller=log.system.admin())
    assert answer.json["intact"] is True
    assert answer.json["client_id"] is None


@pytest.mark.parametrize(
    "change",
    [
        "user_agent = 'nozilla/5.0'",
        "ip = '203.0.113.8'",
        "occurred_at = occurred_at + interval '1 microsecond'",
        "recorded_at = recorded_at - interval '1 microsecond'",
        "type = 'login_faileD'",
        "service = 'token'",
        "actor_type = 'user'",
        "actor_id = ''",
        "target_type = NULL",
        "target_id = NULL",
        "session_id = event_id",
        "request_id = ''",
        "data = '{\"n\": 3}'",
        "event_id = client_id",
        "hash = sha256(hash)",
    ],
)
async def test_verify_when_one_column_changed_then_names_the_row(log: ChainLog, change: str) -> None:
    await log.happen(6)
    await log.tamper(f"UPDATE audit_events SET {change} WHERE client_id = $1 AND position = 4")
    answer = await log.verify()
    assert broken(answer) == (4, "row_changed")
    rows = await log.rows()
    assert answer["broken"]["event_id"] == str(rows[3]["event_id"])
    assert answer["checked"] == 3


async def test_verify_when_key_id_changed_then_names_the_row(log: ChainLog) -> None:
    await log.happen(3)
    await log.tamper("UPDATE audit_events SET key_id = '\\x00000000' WHERE client_id = $1 AND position = 2")
    assert broken(await log.verify()) == (2, "key_unknown")


@pytest.mark.parametrize("position", [1, 3, 6])
async def test_verify_when_one_row_deleted_then_names_it(log: ChainLog, position: int) -> None:
    await log.happen(6)
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position = $2", position)
    assert broken(await log.verify()) == (position, "row_missing")


async def test_verify_when_tail_deleted_and_head_set_back_then_names_the_first_lost(log: ChainLog) -> None:
    await log.happen(6)
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position > 4")
    await log.tamper(
        """
        UPDATE chain_heads SET position = 4, hash = (
            SELECT hash FROM audit_events WHERE client_id = $1 AND position = 4) WHERE client_id = $1
        """
    )
    assert broken(await log.verify()) == (5, "head_mismatch")


async def test_verify_when_log_went_on_behind_a_forged_head_then_still_broken(log: ChainLog) -> None:
    await log.happen(6)
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position = 6")
    await log.tamper(
        """
        UPDATE chain_heads SET position = 5, hash = (
            SELECT hash FROM audit_events WHERE client_id = $1 AND position = 5) WHERE client_id = $1
        """
    )
    await log.happen(3)
    assert broken(await log.verify()) == (6, "head_mismatch")
    await log.tamper("UPDATE chain_heads SET broken_position = NULL WHERE client_id = $1")
    assert (await log.verify())["intact"] is False


async def test_verify_when_head_deleted_and_log_went_on_then_broken_and_numbered_on(log: ChainLog) -> None:
    await log.happen(4)
    await log.tamper("DELETE FROM chain_heads WHERE client_id = $1")
    assert broken(await log.verify()) == (5, "head_mismatch")
    await log.happen(2)
    assert [row["position"] for row in await log.rows()] == [1, 2, 3, 4, 5, 6, 7]
    assert broken(await log.verify()) == (5, "head_mismatch")


@pytest.mark.parametrize(("one", "other"), [(2, 3), (2, 5)])
async def test_verify_when_two_rows_swapped_then_names_the_first(log: ChainLog, one: int, other: int) -> None:
    await log.happen(6)
    await log.tamper(
        "UPDATE audit_events SET position = $2 + $3 - position WHERE client_id = $1 AND position IN ($2, $3)",
        one,
        other,
    )
    assert broken(await log.verify()) == (one, "row_moved")


async def test_verify_when_contents_swapped_and_hashes_left_then_names_the_first(log: ChainLog) -> None:
    await log.happen(6)
    await log.tamper(
        """
        UPDATE audit_events AS a SET position = b.position, hash = b.hash FROM audit_events AS b
        WHERE a.client_id = $1 AND b.client_id = $1 AND a.position IN (2, 4) AND b.position = 6 - a.position
        """
    )
    assert broken(await log.verify()) == (2, "row_moved")


@pytest.mark.parametrize("shift", ["position + 1000", "position + 1"])
async def test_verify_when_row_inserted_then_names_it(log: ChainLog, shift: str) -> None:
    """Once beside a row with the same position, once with the later rows moved up to make room."""
    await log.happen(6)
    if shift == "position + 1":
        await log.tamper(f"UPDATE audit_events SET position = {shift} WHERE client_id = $1 AND position >= 4")
        await log.tamper("UPDATE chain_heads SET position = 7 WHERE client_id = $1")
    await log.tamper(
        f"""
        INSERT INTO audit_events (client_id, position, {COLUMNS})
        SELECT client_id, 4, occurred_at - interval '1 hour', gen_random_uuid(), recorded_at,
               type, service, actor_type, actor_id, target_type, target_id, session_id, ip, user_agent,
               request_id, data, key_id, sha256(hash)
        FROM audit_events WHERE client_id = $1 AND position = 3
        """
    )
    assert broken(await log.verify()) == (4, "row_inserted")


async def test_verify_when_row_appended_behind_the_head_then_names_it(log: ChainLog) -> None:
    await log.happen(3)
    await log.tamper(
        f"""
        INSERT INTO audit_events (client_id, position, {COLUMNS})
        SELECT client_id, 4, occurred_at + interval '1 second', gen_random_uuid(), recorded_at,
               type, service, actor_type, actor_id, target_type, target_id, session_id, ip, user_agent,
               request_id, data, key_id, sha256(hash)
        FROM audit_events WHERE client_id = $1 AND position = 3
        """
    )
    assert broken(await log.verify()) == (4, "row_inserted")


async def test_verify_when_tail_rewritten_with_unkeyed_hashes_then_names_its_first_row(log: ChainLog) -> None:
    await log.happen(6)
    await log.tamper("UPDATE audit_events SET ip = '198.51.100.1' WHERE client_id = $1 AND position = 4")
    await _rehash(log, first=4)
    assert broken(await log.verify()) == (4, "row_changed")


async def test_verify_when_whole_chain_replaced_with_unkeyed_hashes_then_names_its_first_row(
    log: ChainLog,
) -> None:
    await log.happen(4)
    await log.tamper("UPDATE audit_events SET ip = '198.51.100.1' WHERE client_id = $1")
    await _rehash(log, first=1)
    assert broken(await log.verify()) == (1, "row_changed")


async def test_verify_when_row_of_another_client_is_put_in_its_place_then_names_it(
    log: ChainLog, other_log: ChainLog
) -> None:
    await log.happen(3)
    await other_log.happen(3)
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position = 2")
    await log.tamper(
        "UPDATE audit_events SET client_id = $1 WHERE client_id = $2 AND position = 2", other_log.client_id
    )
    assert broken(await log.verify()) == (2, "row_changed")
    assert broken(await other_log.verify()) == (2, "row_missing")


async def test_verify_when_head_rolled_back_behind_a_checkpoint_then_names_the_first_lost(
    log: ChainLog, database: Database
) -> None:
    await log.happen(3)
    (old,) = await log.system.sql("audit", "SELECT * FROM chain_heads WHERE client_id = $1", log.client_id)
    await log.happen(3)
    await checkpoint(log.system, database)
    assert (await log.verify())["checkpoints_checked"] == 1
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position > 3")
    await log.tamper(
        "UPDATE chain_heads SET position = 3, hash = $2, mac = $3, checkpoint_position = $4 "
        "WHERE client_id = $1",
        old["hash"],
        old["mac"],
        old["checkpoint_position"],
    )
    assert broken(await log.verify()) == (4, "checkpoint_mismatch")


async def test_verify_when_head_rolled_back_and_rows_left_then_names_the_row_behind(log: ChainLog) -> None:
    await log.happen(3)
    (old,) = await log.system.sql("audit", "SELECT * FROM chain_heads WHERE client_id = $1", log.client_id)
    await log.happen(1)
    await log.tamper(
        "UPDATE chain_heads SET position = 3, hash = $2, mac = $3 WHERE client_id = $1",
        old["hash"],
        old["mac"],
    )
    assert broken(await log.verify()) == (4, "head_mismatch")


@pytest.mark.parametrize(
    ("tampering", "position"),
    [
        ("UPDATE checkpoints SET signed = signed || 'A' WHERE client_id = $1 AND position = 2", 2),
        ("UPDATE checkpoints SET hash = sha256(hash) WHERE client_id = $1 AND position = 2", 2),
        ("DELETE FROM checkpoints WHERE client_id = $1 AND position = 2", 4),
        ("DELETE FROM checkpoints WHERE client_id = $1 AND position = 4", 4),
    ],
)
async def test_verify_when_checkpoint_tampered_with_then_named(
    log: ChainLog, database: Database, tampering: str, position: int
) -> None:
    for _ in range(2):
        await log.happen(2)
        await checkpoint(log.system, database)
    assert (await log.verify())["checkpoints_checked"] == 2
    await log.tamper(tampering)
    assert broken(await log.verify()) == (position, "checkpoint_mismatch")


async def test_verify_when_chain_rewritten_with_the_master_key_then_checkpoint_contradicts(
    log: ChainLog, database: Database
) -> None:
    await log.happen(4)
    await checkpoint(log.system, database)
    await log.tamper("UPDATE audit_events SET ip = '198.51.100.1' WHERE client_id = $1 AND position = 2")
    chains, previous = Chains(sealer(log.system)), bytes(32)
    for link in map(link_of, await log.rows()):
        previous = chains.follows(link, previous)
        await log.tamper(
            "UPDATE audit_events SET hash = $2 WHERE client_id = $1 AND position = $3",
            previous,
            link.position,
        )
    assert broken(await log.verify()) == (4, "checkpoint_mismatch")


async def test_verify_when_asked_for_a_range_then_checks_only_that(log: ChainLog, database: Database) -> None:
    await log.happen(3)
    await checkpoint(log.system, database)
    await log.happen(7)
    await checkpoint(log.system, database)
    answer = await log.verify(from_position=4, to_position=8)
    assert (answer["intact"], answer["checked"], answer["first_position"]) == (True, 5, 4)
    assert (await log.verify(from_position=4))["checkpoints_checked"] == 1
    assert (await log.verify(from_position=11))["intact"] is True
    assert (await log.verify(from_position=99))["checked"] == 0
    await log.tamper("UPDATE audit_events SET ip = '' WHERE client_id = $1 AND position = 2")
    assert (await log.verify(from_position=4))["intact"] is True
    assert broken(await log.verify(to_position=3)) == (2, "row_changed")
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position = 3")
    assert broken(await log.verify(from_position=4)) == (3, "row_missing")


async def test_verify_when_chain_is_longer_than_a_step_then_whole_chain_is_checked(log: ChainLog) -> None:
    await log.happen(1203)
    answer = await log.verify()
    assert (answer["intact"], answer["checked"]) == (True, 1203)
    await log.tamper("DELETE FROM audit_events WHERE client_id = $1 AND position BETWEEN 500 AND 1100")
    assert broken(await log.verify()) == (500, "row_missing")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("client_id=x", "validation_failed"),
        ("from_position=0", "validation_failed"),
        ("to_position=-1", "validation_failed"),
        ("from_position=99999999999999999999", "validation_failed"),
        ("from_position=5&to_position=4", "range_reversed"),
    ],
)
async def test_verify_when_asked_nonsense_then_422(system: System, query: str, code: str) -> None:
    answer = await system.call("audit", "GET", f"{VERIFY}?{query}", caller=system.admin())
    assert (answer.status, answer.code) == (422, code)


async def test_verify_when_caller_is_no_admin_then_refused(system: System) -> None:
    caller = CallerContext(access=Access.API_KEY, request_id="r", client_id=new_id())
    assert (await system.call("audit", "GET", VERIFY, caller=caller)).status == 403
    assert (await system.call("audit", "GET", VERIFY)).status == 401


async def test_verify_when_master_key_was_replaced_then_old_and_new_rows_verify(
    log: ChainLog, database: Database
) -> None:
    await log.happen(3)
    old = log.system.settings("audit").master_key
    new = SecretStr("ab" * 32)
    root = Sealer(parse_key(new.get_secret_value()), parse_key(old.get_secret_value()))
    chains, clock = Chains(root), log.system.clock
    try:
        await Ingest(database, chains, clock, None).store(log.events(2))  # type: ignore[arg-type]  # stores without a bus
        checkpoints = Checkpoints(database, root, chains, clock, every=1000, interval=timedelta(seconds=60))
        verdict = await Verification(database, chains, checkpoints, clock).verify(log.client_id, 1, None)
        assert (verdict.broken, verdict.checked) == (None, 5)
        key_ids = {bytes(row["key_id"]) for row in await log.rows()}
        assert key_ids == {sealer(log.system).key_id, root.key_id}
    finally:
        await back_under_the_key_of_the_system(log.system, database, new)


async def back_under_the_key_of_the_system(system: System, database: Database, key: SecretStr) -> None:
    """Prove what was proven under another key so that the running process can tell."""
    own = system.settings("audit").master_key
    await prove_anew(database, Sealer(*(parse_key(one.get_secret_value()) for one in (own, key))))


async def test_chain_when_the_key_of_its_head_is_missing_then_refused_and_never_taken_for_broken(
    log: ChainLog, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """MASTER_KEY_PREVIOUS was forgotten, or a step of the change of keys was skipped."""
    await log.happen(2)
    system, clock, key = log.system, log.system.clock, SecretStr("cd" * 32)
    lacking = sealer(system)
    having = Sealer(
        parse_key(key.get_secret_value()), parse_key(system.settings("audit").master_key.get_secret_value())
    )

    async def head() -> dict[str, Any]:
        (row,) = await system.sql("audit", "SELECT * FROM chain_heads WHERE client_id = $1", log.client_id)
        return dict(row)

    def of(root: Sealer) -> tuple[Ingest, Checkpoints, Verification]:
        chains = Chains(root)
        # Not sealed under the key that is missing, so that only the head is in the way.
        checkpoints = Checkpoints(database, having, chains, clock, every=1, interval=timedelta(0))
        ingest = Ingest(database, chains, clock, None)  # type: ignore[arg-type]  # stores without a bus
        return ingest, checkpoints, Verification(database, chains, checkpoints, clock)

    try:
        ingest, _, _ = of(having)
        await ingest.store(log.events(1))
        before = await head()
        assert bytes(before["key_id"]) == having.key_id

        ingest, checkpoints, verification = of(lacking)
        with pytest.raises(ChainKeyMissing):
            await ingest.store(log.events(1))
        while await checkpoints.make_due():
            pass
        verdict = await verification.verify(log.client_id, 1, 2)
        assert (verdict.broken, verdict.checked) == (None, 2)
        verdict = await verification.verify(log.client_id, 1, None)
        assert verdict.broken is not None
        assert (verdict.broken.position, verdict.broken.reason) == (3, Reason.KEY_UNKNOWN)
        verdict = await verification.verify(log.client_id, 4, None)
        assert verdict.broken is not None
        assert (verdict.broken.position, verdict.broken.reason) == (4, Reason.KEY_UNKNOWN)
        app = system.definitions["audit"].build(system.settings("audit"), clock)
        with pytest.raises(SystemExit):
            async with app.started():
                pytest.fail("it started")
        said = capsys.readouterr().err
        assert "audit refuses to start" in said
        assert f"{having.key_id.hex()} (1 chains)" in said
        assert await head() == before

        # The positive control: with the key, all of it goes on where it stood.
        await KeyCheck(database, Chains(having)).start()
        ingest, checkpoints, verification = of(having)
        await ingest.store(log.events(1))
        while await checkpoints.make_due():
            pass
        verdict = await verification.verify(log.client_id, 1, None)
        assert (verdict.broken, verdict.checked, verdict.checkpoints_checked) == (None, 4, 1)
    finally:
        await back_under_the_key_of_the_system(system, database, key)


async def _rehash(log: ChainLog, *, first: int) -> None:
    """Recompute hashes and head as somebody would who knows all of the code and not the key."""
    rows = await log.rows()
    previous = rows[first - 2]["hash"] if first > 1 else bytes(32)
    for row in rows[first - 1 :]:
        link = link_of(row)
        previous = hashlib.sha256(previous + canonical(link.record, link.position, link.key_id)).digest()
        await log.tamper(
            "UPDATE audit_events SET hash = $2 WHERE client_id = $1 AND position = $3",
            previous,
            link.position,
        )
    await log.tamper("UPDATE chain_heads SET hash = $2, mac = sha256($2) WHERE client_id = $1", previous)
