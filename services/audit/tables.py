"""The base of the tables of audit: what `migrations/` creates."""

from __future__ import annotations

from sqlmodel import SQLModel

from chassis.tables import table_registry


class Base(SQLModel, registry=table_registry()):
    """Base class of every table of this service."""


# Defined in the migration; it makes partitions of the log, which only the owner of the tables can.
Base.metadata.info["jobs_functions"] = ["ensure_audit_partition(timestamptz)"]
