"""An index that finds the grants of an app that is disabled or deleted.

Revision: 0010, after 0009.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index while sessions are opened and ended."""
    with op.get_context().autocommit_block():
        # One that was broken off is of no use, and in the way.
        op.drop_index(
            "ix_sessions_client_id_app_id", "sessions", if_exists=True, postgresql_concurrently=True
        )
        op.create_index(
            "ix_sessions_client_id_app_id",
            "sessions",
            ["client_id", "app_id"],
            postgresql_where=sa.text("app_id IS NOT NULL"),
            postgresql_concurrently=True,
        )
