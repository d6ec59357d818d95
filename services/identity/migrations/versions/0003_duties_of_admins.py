"""Duties that a deed of an admin made, beside those of users themselves.

Revision: 0003, after 0002.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add who it was; a duty without it is of a deed of the user's own."""
    op.add_column(
        "session_duties", sa.Column("access", sa.Text(), server_default=sa.text("'user'"), nullable=False)
    )
    op.add_column("session_duties", sa.Column("admin_id", sa.Uuid(), nullable=True))
