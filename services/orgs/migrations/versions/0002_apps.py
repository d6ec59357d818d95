"""Apps (OAuth clients of tenants) and their secrets.

Revision: 0002, after 0001.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "apps",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("is_registered", sa.Boolean(), nullable=False),
        sa.Column("registration_sha256", sa.LargeBinary(), nullable=True),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("application_type", sa.Text(), nullable=False),
        sa.Column("auth_method", sa.Text(), nullable=False),
        sa.Column("jwks", postgresql.JSONB(), nullable=True),
        sa.Column("redirect_uris", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("post_logout_redirect_uris", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("grant_types", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("audiences", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("is_trusted", sa.Boolean(), nullable=False),
        sa.Column("requires_consent", sa.Boolean(), nullable=False),
        sa.Column("requires_pkce", sa.Boolean(), nullable=False),
        sa.Column("requires_par", sa.Boolean(), nullable=False),
        sa.Column("is_dpop_bound", sa.Boolean(), nullable=False),
        sa.Column("backchannel_logout_uri", sa.Text(), nullable=False),
        sa.Column("id_token_alg", sa.Text(), nullable=False),
        sa.Column("logo_uri", sa.Text(), nullable=False),
        sa.Column("client_uri", sa.Text(), nullable=False),
        sa.Column("policy_uri", sa.Text(), nullable=False),
        sa.Column("tos_uri", sa.Text(), nullable=False),
        sa.Column("contacts", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("software_id", sa.Text(), nullable=False),
        sa.Column("software_version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('active', 'disabled')", name=op.f("ck_apps_status")),
        sa.CheckConstraint("application_type IN ('web', 'native')", name=op.f("ck_apps_application_type")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("fk_apps_client_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_apps")),
    )
    op.create_index("ix_apps_client_id_id", "apps", ["client_id", "id"])
    op.create_table(
        "app_secrets",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("app_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_sha256", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["app_id"], ["apps.id"], name=op.f("fk_app_secrets_app_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_app_secrets")),
    )
    op.create_index("ix_app_secrets_app_id", "app_secrets", ["app_id"])
