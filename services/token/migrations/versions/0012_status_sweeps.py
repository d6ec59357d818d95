"""Revocations whose places in the status lists are still to be killed.

Revision: 0012, after 0011.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_START = "00000000-0000-0000-0000-000000000000"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "status_sweeps",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_index", sa.BigInteger(), nullable=False),
        sa.Column("after_user_id", sa.Uuid(), server_default=_START, nullable=False),
        sa.Column("after_id", sa.Uuid(), server_default=_START, nullable=False),
        sa.Column("is_incomplete", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_status_sweeps")),
    )
