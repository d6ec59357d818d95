"""The one statement of reading the log, made of literal parts."""

from __future__ import annotations

import asyncpg

from chassis.database import Tx
from services.audit.ingest.models import Link, Record
from services.audit.query.models import Filters, Place

COLUMNS = """client_id, position, occurred_at, event_id, recorded_at, type, service, actor_type, actor_id,
    target_type, target_id, session_id, ip, user_agent, request_id, data, key_id, hash"""


async def newest(tx: Tx, filters: Filters, after: Place | None, limit: int) -> list[Link]:
    """Return at most `limit` rows that match, newest first, behind a place.

    A user is an actor or a target: two walks along two indices, merged, because one walk over both would read
    everything of everybody.
    """
    conditions, args = _conditions(filters, after)
    args.append(limit)
    walk = _walk(conditions, len(args))
    if filters.user_id is not None:
        args.append(str(filters.user_id))
        user = len(args)
        actor = f"actor_type = 'user' AND actor_id = ${user}"
        # Not `NOT (actor_type …)`, which is unknown, and so not true, for an actor without an id.
        target = f"target_type = 'user' AND target_id = ${user} AND ({actor}) IS NOT TRUE"
        walk = (
            f"SELECT * FROM (({_walk([*conditions, actor], len(args) - 1)}) UNION ALL "  # noqa: S608 - literals only
            f"({_walk([*conditions, target], len(args) - 1)})) AS both_walks "
            f"ORDER BY occurred_at DESC, event_id DESC LIMIT ${len(args) - 1}"
        )
    return [link_of(row) for row in await tx.fetch(walk, *args)]


def _walk(conditions: list[str], limit: int) -> str:
    return (
        f"SELECT {COLUMNS} FROM audit_events WHERE {' AND '.join(conditions)} "  # noqa: S608 - literals only
        f"ORDER BY occurred_at DESC, event_id DESC LIMIT ${limit}"
    )


def _conditions(filters: Filters, after: Place | None) -> tuple[list[str], list[object]]:
    """Return the conditions, and the arguments they number from $1."""
    conditions = ["true"]
    args: list[object] = []
    for condition, value in (
        ("client_id = ANY($#)", None if filters.within is None else list(filters.within)),
        ("client_id = $#", filters.client_id),
        ("type = ANY($#)", list(filters.types) or None),
        ("actor_type = $#", filters.actor_type),
        ("actor_id = $#", filters.actor_id),
        ("target_type = $#", filters.target_type),
        ("target_id = $#", filters.target_id),
        ("request_id = $#", filters.request_id),
        ("occurred_at >= $#", filters.since),
        ("occurred_at < $#", filters.until),
    ):
        if value is not None:
            args.append(value)
            conditions.append(condition.replace("#", str(len(args))))
    if after is not None:
        args += (after.occurred_at, after.event_id)
        conditions.append(f"(occurred_at, event_id) < (${len(args) - 1}, ${len(args)})")
        # Said again for the planner, which drops partitions by it.
        conditions.append(f"occurred_at <= ${len(args) - 1}")
    return conditions, args


def link_of(row: asyncpg.Record) -> Link:
    """Read a link from its row."""
    record = Record(
        client_id=row["client_id"],
        event_id=row["event_id"],
        type=row["type"],
        service=row["service"],
        occurred_at=row["occurred_at"],
        recorded_at=row["recorded_at"],
        actor_type=row["actor_type"],
        actor_id=row["actor_id"],
        target_type=row["target_type"],
        target_id=row["target_id"],
        session_id=row["session_id"],
        ip=row["ip"],
        user_agent=row["user_agent"],
        request_id=row["request_id"],
        data=row["data"],
    )
    return Link(record, row["position"], row["key_id"], row["hash"])
