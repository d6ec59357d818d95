"""Assertions about admins are good once.

Revision ID: 0013
Revises: 0012
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("admin_users", sa.Column("sso_last_issued_at", sa.DateTime(timezone=True), nullable=True))
