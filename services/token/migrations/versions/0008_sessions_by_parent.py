"""An index that finds the grants of a session that ends.

Revision: 0008, after 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index while sessions are opened and ended."""
    with op.get_context().autocommit_block():
        # One that was broken off is of no use, and in the way.
        op.drop_index("ix_sessions_parent_id", "sessions", if_exists=True, postgresql_concurrently=True)
        op.create_index(
            "ix_sessions_parent_id",
            "sessions",
            ["parent_id"],
            postgresql_where=sa.text("parent_id IS NOT NULL"),
            postgresql_concurrently=True,
        )
