"""The audit log, its chains and their checkpoints, and the tables every service has.

Revision: 0001, the first.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# A partition is made beside the log and attached when it is whole: CREATE TABLE … PARTITION OF would stop all
# readers and writers of the log. The lock makes a second caller wait and then find the partition there; it
# asks pg_class for it, since to_regclass would answer from a cache that the lock does not refresh.
_ENSURE_PARTITION = """
CREATE FUNCTION ensure_audit_partition(moment timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    first timestamptz := date_trunc('month', moment, 'UTC');
    next timestamptz := date_trunc('month', first + interval '32 days', 'UTC');
    name text := 'audit_events_' || to_char(first AT TIME ZONE 'UTC', 'YYYY_MM');
BEGIN
    IF moment IS NULL OR moment < '2020-01-01 00:00+00' OR moment >= '2100-01-01 00:00+00' THEN
        RAISE EXCEPTION 'no partition for that time' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = 'partitions'::regnamespace) THEN
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('ensure_audit_partition'));
    IF EXISTS (SELECT FROM pg_class WHERE relname = name AND relnamespace = 'partitions'::regnamespace) THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TABLE partitions.%I (LIKE public.audit_events INCLUDING ALL)', name);
    EXECUTE format('ALTER TABLE public.audit_events ATTACH PARTITION partitions.%I
                    FOR VALUES FROM (%L) TO (%L)', name, first, next);
END $$
"""


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("recorded_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("service", sa.Text(), nullable=False),
        sa.Column("actor_type", sa.Text(), nullable=False),
        sa.Column("actor_id", sa.Text(), nullable=True),
        sa.Column("target_type", sa.Text(), nullable=True),
        sa.Column("target_id", sa.Text(), nullable=True),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.Column("ip", sa.Text(), nullable=False),
        sa.Column("user_agent", sa.Text(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "position", "occurred_at", name="pk_audit_events"),
        sa.UniqueConstraint("occurred_at", "event_id", name="uq_audit_events_occurred_at_event_id"),
        postgresql_partition_by="RANGE (occurred_at)",
    )
    for name, columns in {
        "client": ["client_id", "occurred_at", "event_id"],
        "client_type": ["client_id", "type", "occurred_at", "event_id"],
        "type": ["type", "occurred_at", "event_id"],
        "actor": ["actor_id", "occurred_at", "event_id"],
        "target": ["target_id", "occurred_at", "event_id"],
        "request": ["request_id", "occurred_at", "event_id"],
    }.items():
        op.create_index(f"ix_audit_events_{name}", "audit_events", columns)
    op.execute("CREATE SCHEMA partitions")
    op.execute(_ENSURE_PARTITION)
    op.create_table(
        "chain_heads",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("checkpoint_position", sa.BigInteger(), nullable=False),
        sa.Column("key_id", sa.LargeBinary(), nullable=False),
        sa.Column("mac", sa.LargeBinary(), nullable=False),
        sa.Column("broken_position", sa.BigInteger(), nullable=True),
        sa.Column("news_since", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("client_id", name="pk_chain_heads"),
    )
    op.create_index(
        "ix_chain_heads_news",
        "chain_heads",
        ["news_since"],
        postgresql_where=sa.text("news_since IS NOT NULL"),
    )
    op.create_table(
        "checkpoints",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("client_id", "position", name="pk_checkpoints"),
    )
    op.create_index("ix_checkpoints_created_at", "checkpoints", ["created_at", "client_id"])
    op.create_table(
        "checkpoint_keys",
        sa.Column("slot", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("sealed_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("slot", name="pk_checkpoint_keys"),
    )
    _create_chassis_tables()


def _create_chassis_tables() -> None:
    op.create_table(
        "outbox",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_shard_id", "outbox", ["shard", "id"])
    op.create_table(
        "outbox_shards",
        sa.Column("shard", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("shard", name="pk_outbox_shards"),
    )
    op.create_table(
        "dead_letters",
        sa.Column("consumer", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("died_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("consumer", "event_id", name="pk_dead_letters"),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("answer", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key_hash", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])
