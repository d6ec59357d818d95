"""The session shape: what every answer that opens or renews a session looks like, in body and cookie."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from fastapi import Query, Response
from pydantic import Field, PlainSerializer, model_validator

from chassis.clock import rfc3339
from chassis.context import CallerContext
from chassis.errors import Forbidden
from chassis.models import AnswerModel, RequestModel
from chassis.settings import Environment, Settings
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.token.v1 import sessions_pb2

COOKIE_NAME = "auth_refresh"
COOKIE_PATH = "/api/auth"

Time = Annotated[datetime, PlainSerializer(rfc3339, return_type=str)]
"""A time in an answer: RFC 3339, UTC, with `Z`."""


class Transport(StrEnum):
    """Where the refresh token goes: the HttpOnly cookie, or the body."""

    COOKIE = "cookie"
    JSON = "json"


SessionMode = Literal["cookie", "token"]
"""The older way to choose the transport; `token` means `json`."""

TransportParameter = Annotated[
    Transport | None, Query(description="Where the refresh token goes; a member of the body wins.")
]
ModeParameter = Annotated[
    SessionMode | None, Query(description="Older name of `token_transport`; `token` means `json`.")
]


class TransportRequest(RequestModel):
    """Members that choose the transport; `session_mode` is the older name (`token` means `json`)."""

    token_transport: Transport | None = None
    session_mode: SessionMode | None = None


class OriginNotAllowed(Forbidden):
    """The page's origin is not one that the client allows; with a session cookie there must be one."""

    code = "origin_not_allowed"
    detail = "Requests with the session cookie need an allowed Origin."


class UserView(AnswerModel):
    """A user as its owner sees it."""

    id: UUID
    client_id: UUID
    email: str
    email_verified: bool
    display_name: str
    role: str
    status: str
    mfa_enabled: bool
    metadata: dict[str, Any]
    locale: str | None = None
    phone: str | None = None
    created_at: Time
    updated_at: Time
    last_login_at: Time | None = None


class RefreshView(AnswerModel):
    """How the refresh token travels; `expires_in` is in seconds."""

    transport: Transport
    cookie_name: str = COOKIE_NAME
    expires_in: int


class SessionRef(AnswerModel):
    """The session by id."""

    id: UUID


class SessionOpened(AnswerModel):
    """Tokens, user and session; `refresh_token` only with the JSON transport."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = Field(description="Seconds the access token lives.")
    refresh: RefreshView
    refresh_token: str | None = Field(None, exclude_if=lambda token: token is None)
    user: UserView
    session: SessionRef


class RiskView(AnswerModel):
    """How risky a login looked, and the signals that made it so."""

    level: Literal["low", "medium", "high", "critical"]
    signals: list[str]


class MfaRequired(AnswerModel):
    """The login waits for a second factor: send one of `factors` with the `mfa_token`. No tokens yet."""

    mfa_required: Literal[True] = True
    mfa_token: str
    expires_in: int = Field(description="Seconds the login waits.")
    factors: list[str]
    risk: RiskView


class EnrollmentRequired(AnswerModel):
    """The user must set up one of `factors` first.

    The `enrollment_token` is a bearer token that opens nothing but their set-up, which answers the session.
    """

    mfa_enrollment_required: Literal[True] = True
    enrollment_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a scheme's name
    expires_in: int = Field(description="Seconds the enrollment token lives.")
    factors: list[str]
    risk: RiskView


class CookieSettings(Settings):
    """Settings of the refresh cookie, for the services that set it."""

    cookie_secure: Literal["auto", "true", "false"] = Field(
        "auto", description="`auto`: with an HTTPS BASE_URL."
    )
    cookie_samesite: Literal["auto", "lax", "strict", "none"] = Field(
        "auto", description="`auto`: `none` with an HTTPS BASE_URL, else `lax`."
    )
    cookie_domain: str | None = Field(None, description="Only to share the cookie between subdomains.")

    @model_validator(mode="after")
    def _refuse_insecure_cookie(self) -> Self:
        is_secure = self.base_url.startswith("https://") and self.cookie_secure != "false"
        if self.environment is Environment.PRODUCTION and not is_secure:
            raise ValueError(
                "BASE_URL must be https:// and COOKIE_SECURE must not be false in production: "
                "the session cookie would travel in the clear"
            )
        return self


@dataclass(frozen=True, slots=True)
class RefreshCookie:
    """How the refresh cookie is set and cleared."""

    secure: bool
    samesite: Literal["lax", "strict", "none"]
    domain: str | None

    @classmethod
    def of(cls, settings: CookieSettings) -> RefreshCookie:
        """Resolve `auto`."""
        https = settings.base_url.startswith("https://")
        secure = https if settings.cookie_secure == "auto" else settings.cookie_secure == "true"
        samesite = settings.cookie_samesite
        if samesite == "auto":
            samesite = "none" if secure else "lax"
        return cls(secure, samesite, settings.cookie_domain)

    def set(self, response: Response, token: str, max_age: int) -> None:
        """Put the token into the cookie; `max_age` in seconds."""
        response.set_cookie(
            COOKIE_NAME,
            token,
            max_age=max_age,
            path=COOKIE_PATH,
            domain=self.domain,
            secure=self.secure,
            httponly=True,
            samesite=self.samesite,
        )

    def clear(self, response: Response) -> None:
        """Remove the cookie."""
        response.delete_cookie(
            COOKIE_NAME,
            path=COOKIE_PATH,
            domain=self.domain,
            secure=self.secure,
            httponly=True,
            samesite=self.samesite,
        )


def chosen_transport(
    body: TransportRequest | None, query: Transport | None, mode: SessionMode | None
) -> Transport:
    """Return the transport asked for in the body or the query (`mode` is the query's `session_mode`)."""
    asked = (body.token_transport if body else None) or query
    if asked is not None:
        return asked
    older = (body.session_mode if body else None) or mode
    return Transport.JSON if older == "token" else Transport.COOKIE


def check_cookie_origin(caller: CallerContext) -> None:
    """Refuse a request that proves itself by cookie without an allowed `Origin` (cross-site request forgery).

    The gateway passes `origin` on only when the client allows it.

    Raises:
        OriginNotAllowed: there is none.
    """
    if caller.origin is None:
        raise OriginNotAllowed


def session_answer(
    opened: sessions_pb2.OpenedSession, transport: Transport, cookie: RefreshCookie, response: Response
) -> SessionOpened:
    """Render an opened or renewed session, and set the cookie when that is the transport."""
    if transport is Transport.COOKIE:
        cookie.set(response, opened.refresh_token, opened.refresh_expires_in)
    return SessionOpened(
        access_token=opened.access_token,
        expires_in=opened.expires_in,
        refresh=RefreshView(transport=transport, expires_in=opened.refresh_expires_in),
        refresh_token=opened.refresh_token if transport is Transport.JSON else None,
        user=user_view(opened.user),
        session=SessionRef(id=UUID(opened.session_id)),
    )


def user_view(user: users_pb2.User) -> UserView:
    """Decode a user into what its owner sees."""
    return UserView(
        id=UUID(user.id),
        client_id=UUID(user.client_id),
        email=user.email,
        email_verified=user.email_verified,
        display_name=user.display_name,
        role=user.role,
        status=user.status,
        mfa_enabled=user.mfa_enabled,
        metadata=json.loads(user.metadata_json or "{}"),
        locale=user.locale or None,
        phone=user.phone or None,
        created_at=from_micros(user.created_at),
        updated_at=from_micros(user.updated_at),
        last_login_at=from_micros(user.last_login_at) if user.last_login_at else None,
    )


def from_micros(micros: int) -> datetime:
    """Return the UTC time of Unix microseconds, exactly."""
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def to_micros(moment: datetime) -> int:
    """Return Unix microseconds of an aware time, exactly."""
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
