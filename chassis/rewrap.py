"""`rewrap`: seals anew, under the present `MASTER_KEY`, what is sealed under a former one.

Which columns hold sealed values is declared with the tables (`chassis.tables.sealed_column`). Rows are read
in batches by primary key, and each is replaced only if it still holds what was read, so that it may be run
beside the running processes, cut short, run again, and run twice at once.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, TextIO

import asyncpg
from sqlalchemy import Column, MetaData, Table

from chassis.database import Database, DatabaseUnavailable, Tx
from chassis.sealing import SealBroken, Sealer
from chassis.tables import KEYED, SEALED, Keyed

_BATCH = 500
_ROUNDS = 5
_COUNTED = 1000

DONE, FAILED, KEEP = 0, 1, 3
"""Exit codes: nothing needs a former key any more; something could not be opened or is left; something that
cannot be sealed anew still needs one."""


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many values of one place were sealed anew, and how many could not be opened."""

    place: str
    done: int
    unopened: int


Step = Callable[[Database, Sealer], Awaitable[Rewrapped]]
"""A service's own part: what hangs on the master key and is no sealed column."""


async def rewrap(
    db: Database, sealer: Sealer, metadata: MetaData, steps: Sequence[Step] = (), *, out: TextIO = sys.stdout
) -> int:
    """Seal anew what a service's tables hold, report it line by line, and return the exit code.

    Raises:
        DatabaseUnavailable: PostgreSQL is away; what was done is done.
    """
    unopened = 0
    for place in _places(metadata):
        result = await place.rewrap(db, sealer)
        unopened += result.unopened
        _report(result, out)
    for step in steps:
        result = await step(db, sealer)
        unopened += result.unopened
        _report(result, out)
    if unopened:
        out.write("Values could not be opened: their key is not configured. Keep every key you have.\n")
        return FAILED
    lines = [await _keyed(db, sealer, *found) for found in _keyed_columns(metadata)]
    needed = [line for line in lines if line]
    out.writelines(f"{line}\n" for line in needed)
    if needed:
        out.write("Nothing is sealed under a former key. What is named above still needs it.\n")
        return KEEP
    out.write(
        "Nothing needs a former key. MASTER_KEY_PREVIOUS may go when every process has this MASTER_KEY.\n"
    )
    return DONE


class _Place:
    """One sealed column."""

    def __init__(self, table: Table, column: Column[Any], row: str) -> None:
        self.name = f"{table.name}.{column.name}"
        self._row = row
        keys = [key.name for key in table.primary_key.columns]
        named = ", ".join(f'"{name}"' for name in keys)
        wanted = dict.fromkeys([*keys, *(name for _, name, _, _ in Formatter().parse(row) if name)])
        read = ", ".join(f'"{name}"' for name in wanted)
        held = f'"{column.name}"'
        after = ", ".join(f"${number + 2}" for number in range(len(keys)))
        # Names of our own tables and columns, nothing from outside.
        select = (
            f'SELECT {read}, {held} AS rewrap_sealed FROM "{table.name}" '  # noqa: S608
            f"WHERE {held} IS NOT NULL AND substring({held} FROM 2 FOR 4) <> $1 "
        )
        tail = f"ORDER BY {named} LIMIT {_BATCH}"
        self._first = select + tail
        self._following = f"{select} AND ({named}) > ({after}) {tail}"
        places = " AND ".join(f'"{name}" = ${number + 3}' for number, name in enumerate(keys))
        self._update = f'UPDATE "{table.name}" SET {held} = $1 WHERE {held} = $2 AND {places}'  # noqa: S608
        self._keys = keys

    async def rewrap(self, db: Database, sealer: Sealer) -> Rewrapped:
        """Go over the rows until a round finds none: a process under a former key may be sealing still."""
        done = unopened = 0
        for _ in range(_ROUNDS):
            in_round, unopened = await self._round(db, sealer)
            done += in_round
            if not in_round:
                break
        return Rewrapped(self.name, done, unopened)

    async def _round(self, db: Database, sealer: Sealer) -> tuple[int, int]:
        done = unopened = 0
        last: list[object] = []
        while True:
            async with db.platform() as tx:
                rows = await tx.fetch(self._following if last else self._first, sealer.key_id, *last)
                for row in rows:
                    try:
                        done += await self._replace(tx, sealer, row)
                    except SealBroken:
                        unopened += 1
            if len(rows) < _BATCH:
                return done, unopened
            last = [rows[-1][name] for name in self._keys]

    async def _replace(self, tx: Tx, sealer: Sealer, row: asyncpg.Record) -> int:
        bound = self._row.format_map({name: _text(value) for name, value in row.items()})
        old = row["rewrap_sealed"]
        fresh = sealer.seal(sealer.open(old, bound), bound)
        tag = await tx.execute(self._update, fresh, old, *(row[name] for name in self._keys))
        return int(tag.split()[-1])


def _places(metadata: MetaData) -> Iterator[_Place]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            if SEALED in column.info:
                yield _Place(table, column, column.info[SEALED])


def _keyed_columns(metadata: MetaData) -> Iterator[tuple[Table, Column[Any], Keyed]]:
    for table in metadata.sorted_tables:
        for column in table.columns:
            if KEYED in column.info:
                yield table, column, column.info[KEYED]


async def _keyed(db: Database, sealer: Sealer, table: Table, column: Column[Any], keyed: Keyed) -> str:
    """Return a line about the rows that were made under a former key; empty when there are none."""
    held = f'substring("{column.name}" FROM 1 FOR 4)'
    where = f"{held} IS DISTINCT FROM $1 AND ({keyed.where})"
    statement = f'SELECT count(*) FROM (SELECT FROM "{table.name}" WHERE {where} LIMIT $2) AS found'  # noqa: S608
    try:
        async with db.platform() as tx:
            count = await tx.fetchval(statement, sealer.key_id, _COUNTED + 1)
    except DatabaseUnavailable:
        return f"{table.name}: too many rows to look at. {keyed.remark}"
    if not count:
        return ""
    return f"{table.name}: {f'over {_COUNTED}' if count > _COUNTED else count} rows. {keyed.remark}"


def _report(result: Rewrapped, out: TextIO) -> None:
    lost = f", {result.unopened} NOT OPENED" if result.unopened else ""
    out.write(f"{result.place}: {result.done} sealed anew{lost}\n")


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
