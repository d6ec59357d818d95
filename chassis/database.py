"""PostgreSQL: pools, and transactions that are bound to a tenant before their first statement.

A service has two roles. Row-level security binds the tenant role to `auth.client_id`, which `Database.tenant`
sets for one transaction; the jobs role, used by `Database.platform`, spans tenants. Every setting is
transaction-local, so a connection needs no reset between borrowers (`tests/test_database.py` proves that
nothing leaks).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import structlog
from asyncpg.pool import PoolConnectionProxy

from chassis import deadlines
from chassis.errors import Unavailable

log = structlog.get_logger()

_ACQUIRE_SECONDS = 3.0
_ROLLBACK_SECONDS = 1.0
_JOBS_POOL_SIZE = 4

AWAY = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,  # shut down, crashed, or a statement over its time
    asyncpg.LockNotAvailableError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.InterfaceError,  # the connection went away under us
    asyncpg.InternalClientError,
)
"""What PostgreSQL, or the way to it, raises when it cannot serve now; answered 503, never 500."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL is away, full or too slow."""

    code = "database_unavailable"


class TransactionLost(Exception):
    """A statement had failed and the failure was passed over: nothing was committed. Our own mistake."""


class Tx:
    """One open transaction: statements in, records out. Made and committed by `Database` only."""

    __slots__ = ("_after_commit", "_connection")

    def __init__(self, connection: PoolConnectionProxy[asyncpg.Record]) -> None:
        """Wrap a connection inside a transaction."""
        self._connection = connection
        self._after_commit: list[Callable[[], None]] = []

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` when, and only when, the transaction has committed."""
        if callback not in self._after_commit:
            self._after_commit.append(callback)

    @contextlib.asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what was done within when a statement of it is refused, and leave the transaction open."""
        await self._connection.execute("SAVEPOINT part")
        try:
            yield
        except asyncpg.PostgresError:
            await self._connection.execute("ROLLBACK TO SAVEPOINT part")
            raise
        await self._connection.execute("RELEASE SAVEPOINT part")

    async def execute(self, sql: str, *args: object) -> str:
        """Run a statement and return its tag, such as `UPDATE 1`."""
        return await self._connection.execute(sql, *args)

    async def executemany(self, sql: str, rows: Iterable[Sequence[object]]) -> None:
        """Run a statement once per row, pipelined."""
        await self._connection.executemany(sql, rows)

    async def fetch(self, sql: str, *args: object) -> list[asyncpg.Record]:
        """Return all rows."""
        return await self._connection.fetch(sql, *args)

    async def fetchrow(self, sql: str, *args: object) -> asyncpg.Record | None:
        """Return the first row, or None."""
        return await self._connection.fetchrow(sql, *args)

    async def fetchval(self, sql: str, *args: object) -> Any:  # noqa: ANN401 - a column's type is known to the caller only
        """Return the first column of the first row, or None."""
        return await self._connection.fetchval(sql, *args)

    async def copy(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Append many rows by COPY."""
        await self._connection.copy_records_to_table(table, columns=columns, records=rows)

    def committed(self) -> None:
        """Run the callbacks; called by `Database` after COMMIT."""
        for callback in self._after_commit:
            callback()


class Database:
    """The pools of one service. Connects lazily, so that services start in any order."""

    def __init__(
        self, url: str, jobs_url: str, *, service: str, pool_size: int, statement_timeout: float
    ) -> None:
        """Remember where; `start` opens the pools. `statement_timeout` is in seconds."""
        self._urls = {"tenant": (url, pool_size), "jobs": (jobs_url, _JOBS_POOL_SIZE)}
        self._service = service
        self._statement_timeout = statement_timeout
        self._pools: dict[str, asyncpg.Pool[asyncpg.Record]] = {}

    async def start(self) -> None:
        """Make the pools; a database that is away is not an error yet."""
        milliseconds = str(int(self._statement_timeout * 1000))
        settings = {
            "application_name": f"authservice-{self._service}",
            "statement_timeout": milliseconds,
            "lock_timeout": milliseconds,
            "idle_in_transaction_session_timeout": str(int(self._statement_timeout * 2000)),
            "jit": "off",
        }
        for name, (url, size) in self._urls.items():
            self._pools[name] = await asyncpg.create_pool(
                url,
                min_size=0,
                max_size=size,
                server_settings=settings,
                timeout=_ACQUIRE_SECONDS,
                reset=_keep_session,
            )

    async def stop(self) -> None:
        """Close the pools, waiting briefly for what is in flight."""
        for pool in self._pools.values():
            try:
                await asyncio.wait_for(pool.close(), timeout=5)
            except (TimeoutError, *AWAY):
                pool.terminate()

    @contextlib.asynccontextmanager
    async def tenant(self, client_id: UUID) -> AsyncIterator[Tx]:
        """Open a transaction that sees and writes rows of one tenant only.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot serve now; nothing was changed.
        """
        async with self._transaction(
            "tenant", f"BEGIN; SET LOCAL auth.client_id = '{UUID(str(client_id))}'"
        ) as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def platform(self) -> AsyncIterator[Tx]:
        """Open a transaction that spans tenants: for jobs, admins, and look-ups that find the tenant.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot serve now; nothing was changed.
        """
        async with self._transaction("jobs", "BEGIN") as tx:
            yield tx

    @contextlib.asynccontextmanager
    async def append(self) -> AsyncIterator[Tx]:
        """Open a transaction without a tenant: it sees nothing, and may append to the outbox."""
        async with self._transaction("tenant", "BEGIN") as tx:
            yield tx

    async def check(self) -> None:
        """Readiness: one round trip."""
        async with self.platform() as tx:
            await tx.fetchval("SELECT 1")

    @contextlib.asynccontextmanager
    async def _transaction(self, pool_name: str, begin: str) -> AsyncIterator[Tx]:
        pool = self._pools[pool_name]
        try:
            connection = await pool.acquire(timeout=deadlines.remaining(_ACQUIRE_SECONDS))
        except AWAY as error:
            raise DatabaseUnavailable from error
        tx = Tx(connection)
        try:
            await connection.execute(begin)
            yield tx
            if await connection.execute("COMMIT") != "COMMIT":
                raise TransactionLost
        except AWAY as error:
            if isinstance(error, ValueError):
                raise  # asyncpg's word for an argument of the wrong type: our mistake, not its absence
            raise DatabaseUnavailable from error
        finally:
            await _give_back(pool, connection)
        tx.committed()


async def _give_back(
    pool: asyncpg.Pool[asyncpg.Record], connection: PoolConnectionProxy[asyncpg.Record]
) -> None:
    """Return a connection to its pool, rolled back when the transaction did not commit."""
    try:
        is_open = not connection.is_closed() and connection.is_in_transaction()
    except asyncpg.InterfaceError:
        # It was lost, and the pool has taken it back by itself.
        return
    if is_open:
        try:
            await asyncio.shield(asyncio.wait_for(connection.execute("ROLLBACK"), _ROLLBACK_SECONDS))
        except BaseException as error:
            connection.terminate()
            if not isinstance(error, Exception):
                raise
    await asyncio.shield(pool.release(connection))


async def _keep_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Replace asyncpg's reset query: there is nothing to reset, every setting is transaction-local."""
