"""The epoch of a user's proofs.

Revision ID: 0002
Revises: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; every user starts in the first epoch."""
    op.add_column(
        "users", sa.Column("auth_epoch", sa.BigInteger(), server_default=sa.text("1"), nullable=False)
    )
