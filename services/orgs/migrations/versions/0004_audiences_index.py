"""Find the client whose resource an app with a client id metadata document asks for.

Revision: 0004, after 0003.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    with op.get_context().autocommit_block():
        op.create_index(
            "ix_clients_oidc_audiences",
            "clients",
            [sa.text("(settings -> 'oidc_audiences'::text)")],
            postgresql_using="gin",
            postgresql_where=sa.text("settings -> 'oidc_client_id_metadata_documents' = 'true'::jsonb"),
            postgresql_concurrently=True,
        )
