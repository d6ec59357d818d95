"""Where the status of a session's access tokens stands in the status lists.

Revision: 0005, after 0004.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the places, and the sequence that gives them out."""
    op.execute("CREATE SEQUENCE status_indices AS bigint")
    op.add_column("sessions", sa.Column("status_index", sa.BigInteger(), nullable=True))
    op.add_column(
        "revocations", sa.Column("status_indices", postgresql.ARRAY(sa.BigInteger()), nullable=True)
    )
