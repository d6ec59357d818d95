"""An index that finds the consents at an app that is deleted.

Revision: 0005, after 0004.
"""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Build the index while consents are given and withdrawn."""
    with op.get_context().autocommit_block():
        # One that was broken off is of no use, and in the way.
        op.drop_index(
            "ix_consents_client_id_app_id", "consents", if_exists=True, postgresql_concurrently=True
        )
        op.create_index(
            "ix_consents_client_id_app_id",
            "consents",
            ["client_id", "app_id"],
            postgresql_concurrently=True,
        )
