"""Tables: a registry per service, and the tables the chassis keeps in every service's database.

What a role may do with a table is declared in its `info`: `{"tenant_role": "SELECT, INSERT", "jobs_role":
"SELECT"}`. Without it, a table with a `client_id` is open to both roles (row-level security binds the tenant
role to its tenant) and a table without one to the jobs role only. The metadata's `info["jobs_functions"]`
lists functions, with their argument types, that only the jobs role may call. `chassis.migrations` applies it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
)
from sqlalchemy.orm import registry

ALL_PRIVILEGES = "SELECT, INSERT, UPDATE, DELETE"
OUTBOX_SHARDS = 16

SEALED = "sealed"
KEYED = "keyed"
"""Members of a column's `info`: see `sealed_column` and `keyed_column`."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}


@dataclass(frozen=True, slots=True)
class Keyed:
    """What is told of rows that were made under a former master key: `where` they still need it, and why."""

    remark: str
    where: str = "true"


def sealed_column(row: str, *, nullable: bool = False) -> Column[bytes]:
    """Return a column of values that `chassis.sealing.Sealer` has sealed, for `rewrap` to find.

    `row` is the name that each is bound to, of columns of its row, bytes as hex: `signing_key:{kid}`.
    """
    return Column(LargeBinary, nullable=nullable, info={SEALED: row})


def keyed_column(keyed: Keyed, *, nullable: bool = False) -> Column[bytes]:
    """Return a column that begins with the id of the master key that something in its row was derived from.

    It cannot be sealed anew; `rewrap` tells how many rows keep a former key from being dropped.
    """
    return Column(LargeBinary, nullable=nullable, info={KEYED: keyed})


def table_registry() -> registry:
    """Return a registry for `class Base(SQLModel, registry=table_registry())` of one service.

    Each service has its own, so that two may both have a table `users`. The chassis's tables are in it.
    """
    own = registry(metadata=MetaData(naming_convention=NAMING))
    _add_chassis_tables(own.metadata)
    return own


def _add_chassis_tables(metadata: MetaData) -> None:
    """Declare the outbox, its shards, the dead letters and the idempotency keys."""
    Table(
        "outbox",
        metadata,
        Column("id", BigInteger, Identity(always=True), primary_key=True),
        Column("shard", SmallInteger, nullable=False),
        Column("event_id", Uuid, nullable=False),
        Column("subject", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Index("ix_outbox_shard_id", "shard", "id"),
        info={"tenant_role": "INSERT", "jobs_role": ALL_PRIVILEGES},
    )
    Table("outbox_shards", metadata, Column("shard", SmallInteger, primary_key=True))
    Table(
        "dead_letters",
        metadata,
        Column("consumer", Text, nullable=False),
        Column("event_id", Text, nullable=False),
        Column("subject", Text, nullable=False),
        Column("payload", LargeBinary, nullable=False),
        Column("reason", Text, nullable=False),
        Column("died_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        PrimaryKeyConstraint("consumer", "event_id"),
    )
    Table(
        "idempotency_keys",
        metadata,
        Column("key_hash", LargeBinary, primary_key=True),
        Column("request_hash", LargeBinary, nullable=False),
        Column("status", Integer),
        Column("answer", LargeBinary, info={SEALED: "idempotency:{key_hash}"}),
        Column("created_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
        Column("locked_until", DateTime(timezone=True), nullable=False),
        Index("ix_idempotency_keys_created_at", "created_at"),
    )
