"""Keys of the issuer's own are told by their names: those without such a name sign no more.

They stay published for the ID tokens that they have signed; new ones are made when they are first needed.

Revision: 0011, after 0010.
"""

from __future__ import annotations

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Retire the active ones, and destroy those that were to take over."""
    nameless = "client_id = '00000000-0000-0000-0000-000000000000' AND NOT starts_with(kid, 'issuer.')"
    op.execute(f"DELETE FROM signing_keys WHERE status = 'next' AND {nameless}")  # noqa: S608 - constant
    op.execute(
        "UPDATE signing_keys SET status = 'retiring', retires_at = now() + interval '91 days', sealed = NULL "  # noqa: S608
        f"WHERE status = 'active' AND {nameless}"
    )
