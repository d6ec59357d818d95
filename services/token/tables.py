"""The base of the tables of token: what `migrations/` creates."""

from __future__ import annotations

from sqlmodel import SQLModel

from chassis.tables import table_registry


class Base(SQLModel, registry=table_registry()):
    """Base class of every table of this service."""


Base.metadata.info["sequences"] = ["status_indices"]
