"""Indexes to list and search the users of a client.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build them while users log in; what an attempt that was cut short left behind goes first."""
    with op.get_context().autocommit_block():
        for name in ("ix_users_client_id_id", "ix_users_email_prefix", "ix_users_name_prefix"):
            op.drop_index(name, "users", if_exists=True, postgresql_concurrently=True)
        op.create_index("ix_users_client_id_id", "users", ["client_id", "id"], postgresql_concurrently=True)
        op.create_index(
            "ix_users_email_prefix",
            "users",
            ["client_id", "email_normalized"],
            postgresql_ops={"email_normalized": "text_pattern_ops"},
            postgresql_concurrently=True,
        )
        op.create_index(
            "ix_users_name_prefix",
            "users",
            ["client_id", sa.text("lower(display_name) text_pattern_ops")],
            postgresql_concurrently=True,
        )
