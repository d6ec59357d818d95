"""Settings of sessions and tokens."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, ClassVar, Self

from pydantic import BeforeValidator, Field, FilePath, model_validator

from chassis.settings import Duration, ServiceSettings, parse_duration
from contracts.key_rotation import LONGEST, SHORTEST
from contracts.session import CookieSettings


def _none_or_duration(value: object) -> object:
    return None if value == "none" else parse_duration(value)


OptionalDuration = Annotated[timedelta | None, BeforeValidator(_none_or_duration)]


class TokenSettings(CookieSettings, ServiceSettings):
    """What `token` is told beside what every service is."""

    service: ClassVar[str] = "token"

    identity_grpc: str = Field(
        "localhost:9090", description="gRPC address of `identity`, comma separated for several."
    )
    orgs_grpc: str = Field(
        "localhost:9090", description="gRPC address of `orgs`, comma separated for several."
    )
    geoip_db: FilePath | None = Field(
        None, description="MaxMind-format file of places: where the sessions of a list are from."
    )
    jwt_access_ttl: Duration = Field(
        timedelta(minutes=15), description="Life of an access token, from 5s to 24h."
    )
    jwt_refresh_ttl: Duration = Field(timedelta(hours=168), description="Life of a refresh token.")
    refresh_reuse_grace: Duration = Field(
        timedelta(seconds=10),
        description="How long a used refresh token still gets its unused successor (two tabs at once).",
    )
    session_idle_ttl: OptionalDuration = Field(
        None, description="A session unused for this long ends; `none` leaves it to JWT_REFRESH_TTL."
    )
    session_absolute_ttl: Duration = Field(
        timedelta(days=90), description="A session this old ends, used or not."
    )

    status_lists: bool = Field(
        True,
        description="Access tokens of users name their bit in a status list, for validators that go by it.",
    )
    status_list_ttl: Duration = Field(
        timedelta(seconds=10), description="How long a validator may keep a status list, from 1s to 1h."
    )
    signing_key_rotation: OptionalDuration = Field(
        timedelta(days=90),
        description="How long a signing key signs before the next takes over, of the issuer and of clients "
        "whose `settings.signing_key_rotation` says nothing else; `none` leaves it to admins. From 1h.",
    )
    jwks_max_clients: int = Field(
        1000,
        ge=1,
        le=100_000,
        description="When more clients than this have keys, the JWKS has no client's unless it is named.",
    )

    @model_validator(mode="after")
    def _check_lives(self) -> Self:
        if not timedelta(seconds=5) <= self.jwt_access_ttl <= timedelta(hours=24):
            raise ValueError(f"JWT_ACCESS_TTL was given {self.jwt_access_ttl}: accepted is 5s to 24h")
        lives = [
            self.jwt_refresh_ttl,
            self.session_absolute_ttl,
            self.session_idle_ttl or self.jwt_refresh_ttl,
        ]
        if min(lives) < timedelta(seconds=5):
            raise ValueError(
                "JWT_REFRESH_TTL, SESSION_IDLE_TTL and SESSION_ABSOLUTE_TTL must each be at least 5s"
            )
        if not timedelta(seconds=1) <= self.status_list_ttl <= timedelta(hours=1):
            raise ValueError("STATUS_LIST_TTL accepts 1s to 1h")
        if self.signing_key_rotation is not None and not SHORTEST <= self.signing_key_rotation <= LONGEST:
            raise ValueError("SIGNING_KEY_ROTATION accepts none, or 1h to 3650d")
        if not timedelta(0) <= self.refresh_reuse_grace <= timedelta(minutes=5):
            raise ValueError("REFRESH_REUSE_GRACE accepts 0s to 5m")
        return self
