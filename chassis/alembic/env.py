"""Alembic's environment of every service; `chassis.migrations` hands in the connection and the tables."""

from __future__ import annotations

from alembic import context

config = context.config
context.configure(
    connection=config.attributes["connection"],
    # Without a connection, the statements are written instead of run.
    dialect_name="postgresql",
    literal_binds=config.attributes["connection"] is None,
    target_metadata=config.attributes["metadata"],
    compare_type=True,
    compare_server_default=True,
    transaction_per_migration=True,
)
with context.begin_transaction():
    context.run_migrations()
