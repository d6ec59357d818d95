"""Rotation of signing keys by schedule: who rotates a due key, and the periods of clients of their own.

Revision: 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the table."""
    op.add_column("signing_keys", sa.Column("claimed_until", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "key_rotation_periods",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("seconds", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("seconds >= 0", name=op.f("ck_key_rotation_periods_seconds")),
        sa.PrimaryKeyConstraint("client_id", name=op.f("pk_key_rotation_periods")),
    )
