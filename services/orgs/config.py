"""Settings of the registry."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from chassis.settings import Environment, ServiceSettings
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
        description="Let client id metadata documents and logout URIs of apps be at private addresses, and "
        "logout URIs without TLS (development).",
    )
    client_id_document_ca_file: str | None = Field(
        None,
        description="A file of certificates (PEM) that the servers of client id metadata documents are "
        "trusted by, instead of the public ones.",
    )

    @model_validator(mode="after")
    def _refuse_private_addresses(self) -> Self:
        if self.environment is Environment.PRODUCTION and self.oidc_allow_private:
            raise ValueError(
                "OIDC_ALLOW_PRIVATE must not be true in production: tenants could reach what is inside"
            )
        return self
