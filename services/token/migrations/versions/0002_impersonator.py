"""Who acts in a user's name, of each session.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a session without it is the user's own."""
    op.add_column("sessions", sa.Column("impersonator_id", sa.Text(), nullable=True))
