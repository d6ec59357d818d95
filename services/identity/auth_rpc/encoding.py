"""Messages of `auth.v1.AuthService`, to and from what the rules work with."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from google.protobuf import struct_pb2, timestamp_pb2

from contracts.gen.auth.v1 import auth_pb2
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.session import UserView, user_view
from services.identity.logins.models import Challenged, EnrollmentDue, Opened, Outcome


def encode_user(view: UserView) -> auth_pb2.User:
    """Return the public message of a user."""
    metadata = struct_pb2.Struct()
    metadata.update(view.metadata)
    return auth_pb2.User(
        id=str(view.id),
        client_id=str(view.client_id),
        email=view.email,
        email_verified=view.email_verified,
        display_name=view.display_name,
        role=view.role,
        status=view.status,
        mfa_enabled=view.mfa_enabled,
        metadata=metadata,
        created_at=_timestamp(view.created_at),
        updated_at=_timestamp(view.updated_at),
        last_login_at=_timestamp(view.last_login_at) if view.last_login_at else None,
        locale=view.locale or "",
        phone=view.phone or "",
    )


def encode_outcome(outcome: Outcome) -> auth_pb2.SessionResponse:
    """Return the public message of what a login came to."""
    match outcome:
        case Opened():
            return encode_session(outcome.session)
        case Challenged():
            mfa = auth_pb2.MfaChallenge(
                mfa_token=outcome.mfa_token,
                expires_in=outcome.expires_in,
                factors=outcome.factors,
                risk_level=outcome.risk.level,
                risk_signals=outcome.risk.signals,
            )
            return auth_pb2.SessionResponse(mfa=mfa)
        case EnrollmentDue():
            enrollment = auth_pb2.MfaEnrollment(
                enrollment_token=outcome.enrollment_token,
                expires_in=outcome.expires_in,
                factors=outcome.factors,
            )
            return auth_pb2.SessionResponse(enrollment=enrollment)


def encode_session(opened: sessions_pb2.OpenedSession) -> auth_pb2.SessionResponse:
    """Return the public message of an opened or renewed session."""
    return auth_pb2.SessionResponse(
        access_token=opened.access_token,
        token_type="Bearer",  # noqa: S106 - a scheme's name
        expires_in=opened.expires_in,
        refresh_token=opened.refresh_token,
        refresh_expires_in=opened.refresh_expires_in,
        user=encode_user(user_view(opened.user)),
        session_id=opened.session_id,
    )


def decode_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """Return a Struct as JSON values; whole numbers are integers again, as they are over HTTP."""
    return {name: _decode_value(value) for name, value in struct.fields.items()}


def _decode_value(value: struct_pb2.Value) -> Any:  # noqa: ANN401 - any JSON value
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return decode_struct(value.struct_value)
        case "list_value":
            return [_decode_value(item) for item in value.list_value.values]
        case _:
            return None


def _timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp
