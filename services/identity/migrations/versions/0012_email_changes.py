"""Changes of addresses that can be taken back.

Revision ID: 0012
Revises: 0011
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "email_changes",
        sa.Column("way_back_hash", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("old_email", sa.Text(), nullable=False),
        sa.Column("old_email_normalized", sa.Text(), nullable=False),
        sa.Column("old_email_verified", sa.Boolean(), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("way_back_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("over_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_email_changes_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("way_back_hash", name=op.f("pk_email_changes")),
    )
    op.create_index("ix_email_changes_user_id", "email_changes", ["user_id"])
    op.create_index("ix_email_changes_old_email", "email_changes", ["client_id", "old_email_normalized"])
    op.create_index("ix_email_changes_way_back_until", "email_changes", ["way_back_until"])
