"""Which master key a recovery code opens under, so that it can be told when a former one may go.

Revision: 0014, after 0013. Codes of before have none.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("recovery_codes", sa.Column("key_id", sa.LargeBinary(), nullable=True))
