"""Settings of the provider."""

from __future__ import annotations

from datetime import timedelta
from typing import ClassVar, Self

from pydantic import Field, FilePath, model_validator

from chassis.settings import Duration, Environment, ServiceSettings


class FederationSettings(ServiceSettings):
    """What `federation` is told beside what every service is."""

    service: ClassVar[str] = "federation"

    identity_grpc: str = Field(
        "localhost:9090", description="gRPC address of `identity`, comma separated for several."
    )
    token_grpc: str = Field(
        "localhost:9090", description="gRPC address of `token`, comma separated for several."
    )
    orgs_grpc: str = Field(
        "localhost:9090", description="gRPC address of `orgs`, comma separated for several."
    )

    geoip_db: FilePath | None = Field(
        None, description="MaxMind-format file of places: from where a device asks, for its user to see."
    )
    logout_timeout: Duration = Field(
        timedelta(seconds=5), description="How long an app may take to accept that a login has ended."
    )
    oidc_allow_private: bool = Field(
        False, description="Let apps be told of a logout at private addresses and without TLS (development)."
    )

    @model_validator(mode="after")
    def _refuse_private_addresses(self) -> Self:
        if self.environment is Environment.PRODUCTION and self.oidc_allow_private:
            raise ValueError(
                "OIDC_ALLOW_PRIVATE must not be true in production: tenants could reach what is inside"
            )
        if not timedelta(seconds=0.1) <= self.logout_timeout <= timedelta(seconds=20):
            raise ValueError(f"LOGOUT_TIMEOUT was given {self.logout_timeout}: accepted is 0.1s to 20s")
        return self
