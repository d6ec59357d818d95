"""Settings of the provider."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from chassis.settings import ServiceSettings


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
