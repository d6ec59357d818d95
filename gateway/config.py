"""Settings of the gateway."""

from __future__ import annotations

import ipaddress
import re
from datetime import timedelta
from typing import Annotated, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from chassis.ratelimit import Limit
from chassis.settings import CommaList, Duration, Environment
from contracts.admin_tokens import AdminTokenSettings
from contracts.session import CookieSettings

_LIMIT = re.compile(r"(\d{1,9})/(\d{1,6})")
_ORIGIN = re.compile(r"https?://[a-z0-9.\-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

ForwardedHeader = Literal["x-forwarded-for", "forwarded"]
"""The header in which proxies write whom they forward for."""


def parse_limit(value: object) -> object:
    """Turn `600/60` (requests/seconds) into a Limit."""
    if not isinstance(value, str):
        return value
    match = _LIMIT.fullmatch(value.strip())
    if match is None or int(match[1]) == 0 or int(match[2]) == 0:
        raise ValueError("expected requests/seconds, such as 600/60")
    return Limit(int(match[1]), int(match[2]))


def parse_networks(value: object) -> object:
    """Turn `10.0.0.0/8, ::1` into networks."""
    if not isinstance(value, str):
        return value
    return [ipaddress.ip_network(part.strip()) for part in value.split(",") if part.strip()]


RateLimit = Annotated[Limit, BeforeValidator(parse_limit)]
Networks = Annotated[list[Network], BeforeValidator(parse_networks)]


class GatewaySettings(CookieSettings, AdminTokenSettings):
    """What the gateway is told: where the services are, whom to believe, how much to let through."""

    service: ClassVar[str] = "gateway"

    port: int = Field(8080, ge=0, le=65535, description="Public HTTP port; 0 picks a free one.")
    grpc_port: int = Field(9090, ge=0, le=65535, description="Public gRPC port; 0 picks a free one.")

    admin_api_key: SecretStr = Field(description="Break-glass key for `X-Admin-Key`.")
    admin_key_enabled: bool = Field(True, description="`false` refuses `X-Admin-Key` altogether.")
    internal_auth_key: SecretStr = Field(
        description="Root key of internal trust; signs the caller that services are told of."
    )

    identity_url: str = Field(description="HTTP addresses of identity, comma separated.")
    identity_grpc: str = Field(description="gRPC addresses of identity, comma separated.")
    token_url: str = Field(description="HTTP addresses of token, comma separated.")
    token_grpc: str = Field(description="gRPC addresses of token, comma separated.")
    orgs_url: str = Field(description="HTTP addresses of orgs, comma separated.")
    orgs_grpc: str = Field(description="gRPC addresses of orgs, comma separated.")
    federation_url: str = Field(description="HTTP addresses of federation, comma separated.")
    federation_grpc: str = Field(description="gRPC addresses of federation, comma separated.")
    audit_url: str = Field(description="HTTP addresses of audit, comma separated.")
    audit_grpc: str = Field(description="gRPC addresses of audit, comma separated.")

    nats_url: SecretStr = Field(description="NATS; the gateway only listens for invalidations.")
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey; without it limits are per process."
    )
    redis_key_prefix: str = Field("auth:", description="Prefix of all keys in Redis.")

    allow_origin: CommaList = Field(
        ["*"], description="CORS origins of clients that list none, comma separated; `*` never with cookies."
    )
    trusted_proxies: Networks = Field(
        [],
        description="CIDRs whose FORWARDED_HEADER is believed. Must be set behind any balancer: without it "
        "all clients share the balancer's address, and with it every limit by address.",
    )
    forwarded_header: ForwardedHeader = Field(
        "x-forwarded-for",
        description="The header in which those proxies name the client, `x-forwarded-for` or `forwarded`; "
        "the other is never believed.",
    )
    request_timeout: Duration = Field(
        timedelta(seconds=15), description="A request's whole time, its body included."
    )
    max_connections_per_service: int = Field(
        256, ge=1, le=10_000, description="Open HTTP connections to each service."
    )
    max_revocation_streams: int = Field(
        400,
        ge=1,
        le=10_000,
        description="Public streams of revocations of all tenants together, per process: as many over gRPC "
        "(`WatchRevocations`), as many over HTTP.",
    )
    expose_metrics: bool | None = Field(
        None,
        description="Public `/metrics`; `false` leaves them to `GET /api/admin/metrics` and PROBE_PORT. "
        "Not set: `true` in development, `false` in production.",
    )

    rate_limit_default: RateLimit = Field(Limit(600, 60), description="Routes without a class of their own.")
    rate_limit_login: RateLimit = Field(Limit(20, 60), description="Password login and other factors.")
    rate_limit_signup: RateLimit = Field(Limit(10, 60), description="Creation of accounts.")
    rate_limit_refresh: RateLimit = Field(Limit(120, 60), description="Renewal and end of sessions.")
    rate_limit_sensitive: RateLimit = Field(Limit(30, 60), description="Password change and its like.")
    rate_limit_public: RateLimit = Field(Limit(600, 60), description="Routes without a credential.")
    rate_limit_oauth: RateLimit = Field(
        Limit(6000, 60), description="Token endpoint and its siblings, per address."
    )
    rate_limit_admin: RateLimit = Field(Limit(300, 60), description="Administration.")
    rate_limit_admin_key: RateLimit = Field(Limit(30, 60), description="Wrong admin keys, per address.")
    rate_limit_refused: RateLimit = Field(
        Limit(300, 60),
        description="Refused keys, tokens and preflights, per address and process; over it only what is "
        "known to be good passes, and over gRPC nothing.",
    )
    rate_limit_decision: RateLimit = Field(Limit(6000, 60), description="Decisions for other proxies.")
    rate_limit_server_factor: int = Field(
        10, ge=1, le=1000, description="How much more a secret key's server may do, since it acts for many."
    )

    @property
    def admin_tokens_key(self) -> bytes:
        """The key that admin tokens are signed with."""
        key = self.admin_token_key(self.admin_api_key)
        if key is None:
            raise LookupError("there is always an admin key")
        return key

    @property
    def exposes_metrics(self) -> bool:
        """Whether the public port has `/metrics`."""
        if self.expose_metrics is None:
            return self.environment is Environment.DEVELOPMENT
        return self.expose_metrics

    def limits(self) -> dict[str, Limit]:
        """Return the limits by class."""
        names = [name for name in type(self).model_fields if name.startswith("rate_limit_")]
        limits = {name.removeprefix("rate_limit_"): getattr(self, name) for name in names}
        return {name: limit for name, limit in limits.items() if isinstance(limit, Limit)}

    def addresses(self, service: str) -> tuple[str, str]:
        """Return a service's HTTP and gRPC addresses, each comma separated."""
        return getattr(self, f"{service}_url"), getattr(self, f"{service}_grpc")

    @model_validator(mode="after")
    def _check_origins(self) -> Self:
        for origin in self.allow_origin:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"ALLOW_ORIGIN was given {origin!r}: expected `*` or origins such as "
                    "https://app.example.com, lower case, without a path"
                )
        parts = urlsplit(self.base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"BASE_URL was given {self.base_url!r}: expected https://auth.example.com")
        return self

    @model_validator(mode="after")
    def _refuse_unsafe_production(self) -> Self:
        if self.environment is not Environment.PRODUCTION:
            return self
        if "*" in self.allow_origin:
            raise ValueError(
                "ALLOW_ORIGIN=* is not acceptable in production, where browsers send session cookies: "
                "list the exact origins; your BASE_URL alone allows no other site"
            )
        return self
