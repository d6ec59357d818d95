"""Grants: what users allow apps, and the codes that carry it through a redirect.

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table; a session without an app is a login."""
    op.add_column("sessions", sa.Column("parent_id", sa.Uuid(), nullable=True))
    op.add_column("sessions", sa.Column("app_id", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("scope", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("audience", postgresql.ARRAY(sa.Text()), nullable=True))
    op.add_column("sessions", sa.Column("cnf_jkt", sa.Text(), nullable=True))
    op.add_column("sessions", sa.Column("auth_time", sa.DateTime(timezone=True), nullable=True))
    op.add_column("sessions", sa.Column("requested_claims", sa.Text(), nullable=True))
    op.create_table(
        "authorization_codes",
        sa.Column("code_hash", sa.LargeBinary(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.Text(), nullable=False),
        sa.Column("user_id", sa.Uuid(), nullable=False),
        sa.Column("parent_id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("audience", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("requested_claims", sa.Text(), nullable=False),
        sa.Column("redirect_uri", sa.Text(), nullable=False),
        sa.Column("code_challenge", sa.Text(), nullable=False),
        sa.Column("dpop_jkt", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("session_id", sa.Uuid(), nullable=True),
        sa.PrimaryKeyConstraint("code_hash", name=op.f("pk_authorization_codes")),
    )
    op.create_index("ix_authorization_codes_expires_at", "authorization_codes", ["expires_at"])
