"""A user on the wire between services."""

from __future__ import annotations

from contracts.gen.internal.identity.v1 import users_pb2
from contracts.session import to_micros
from services.identity.users.models import User


def encode_user(user: User) -> users_pb2.User:
    """Return the message that carries the user."""
    return users_pb2.User(
        id=str(user.id),
        client_id=str(user.client_id),
        email=user.email,
        email_verified=user.email_verified,
        display_name=user.display_name,
        role=user.role,
        status=user.status,
        mfa_enabled=user.mfa_enabled,
        metadata_json=user.metadata_json,
        created_at=to_micros(user.created_at),
        updated_at=to_micros(user.updated_at),
        last_login_at=to_micros(user.last_login_at) if user.last_login_at else 0,
        locale=user.locale or "",
        phone=user.phone or "",
        version=user.version,
    )
