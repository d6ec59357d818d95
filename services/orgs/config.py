"""Settings of the registry."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from chassis.settings import ServiceSettings
from contracts.clients import TokenMode


class OrgsSettings(ServiceSettings):
    """What `orgs` is told beside what every service is."""

    service: ClassVar[str] = "orgs"

    identity_grpc: str = Field(
        "localhost:9090", description="gRPC address of `identity`, comma separated for several."
    )
    token_grpc: str = Field(
        "localhost:9090", description="gRPC address of `token`, comma separated for several."
    )
    default_token_mode: TokenMode = Field(
        TokenMode.RS256, description="How a new client's access tokens are signed, unless it asks otherwise."
    )
    oidc_allow_private: bool = Field(
        False,
        description="Let back-channel logout URIs of apps, and client id metadata documents, be at private "
        "addresses and logout URIs use plain http. For development only.",
    )
