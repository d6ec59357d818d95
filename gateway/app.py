"""Builds the gateway, from top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from redis.asyncio import Redis
from starlette.types import ASGIApp

from chassis import workers
from chassis.app import App, Resource
from chassis.bus import Bus
from chassis.clock import Clock, SystemClock
from chassis.internal_keys import InternalKeys
from chassis.probes import Check, Probes
from chassis.ratelimit import RateLimiter, closing_redis, connect_redis
from chassis.rpc import Channel
from chassis.service import read_tls
from chassis.settings import Environment
from contracts.admin_directory import AdminDirectory
from contracts.admin_tokens import AdminTokens
from contracts.clients import ClientDirectory
from contracts.topology import GATEWAY, SERVICES, pairs_of
from gateway.addresses import ClientAddresses
from gateway.admin_key import AdminKey
from gateway.admins import Admins
from gateway.answer import security_headers
from gateway.authz import Decisions
from gateway.callers import Callers
from gateway.config import GatewaySettings
from gateway.contract import Contract
from gateway.face import GatewayFace
from gateway.forward import Forwarder
from gateway.guesses import Guesses
from gateway.limits import Limits
from gateway.origins import Origins
from gateway.own import own_handlers
from gateway.preflights import Preflights
from gateway.protocol import HardenedProtocol
from gateway.readiness import service_check
from gateway.refusals import AuditQueue
from gateway.revocations import Revocations
from gateway.rpc_face import PublicRpc
from gateway.tokens import Tokens
from gateway.upstream import Upstream


class Upstreams:
    """The HTTP clients of the services, as one resource of the process."""

    def __init__(self, settings: GatewaySettings) -> None:
        """Make a client per service; each connects at first use."""
        tls = _tls_context(settings)
        self.by_service = {
            name: Upstream(
                settings.addresses(name)[0], tls, max_connections=settings.max_connections_per_service
            )
            for name in SERVICES
        }
        # Apart, so that streams, which hold their connection, leave requests theirs.
        self.for_streams = {
            name: Upstream(
                settings.addresses(name)[0],
                tls,
                max_connections=settings.max_revocation_streams,
                max_waiting=0,
            )
            for name in SERVICES
        }

    async def start(self) -> None:
        """Nothing to do before the first request."""

    async def stop(self) -> None:
        """Close the connections once their requests have ended."""
        for upstream in (*self.by_service.values(), *self.for_streams.values()):
            await upstream.close()


@dataclass(frozen=True, slots=True)
class _Reach:
    """What the gateway reaches others by: the services over HTTP and gRPC, NATS, Redis."""

    upstreams: Upstreams
    channels: Mapping[str, Channel]
    signing_keys: Mapping[str, bytes]
    bus: Bus
    redis: Redis | None

    @classmethod
    def of(cls, settings: GatewaySettings) -> _Reach:
        """Make the clients; each connects at first use."""
        keys = InternalKeys.derive(settings.internal_auth_key.get_secret_value(), pairs_of(GATEWAY))
        tls = read_tls(settings)
        return cls(
            upstreams=Upstreams(settings),
            channels={
                name: Channel(settings.addresses(name)[1], caller=GATEWAY, callee=name, keys=keys, tls=tls)
                for name in SERVICES
            },
            signing_keys={name: keys.key(GATEWAY, name) for name in SERVICES},
            bus=Bus(settings.nats_url.get_secret_value(), process=GATEWAY),
            redis=connect_redis(settings.redis_url.get_secret_value()) if settings.redis_url else None,
        )

    @property
    def resources(self) -> list[Resource]:
        """All of it, for the life of the process."""
        return [self.bus, *closing_redis(self.redis), *self.channels.values(), self.upstreams]

    def checks(self) -> dict[str, Check]:
        """What readiness names; without any of it the gateway still answers something."""
        services = {name: service_check(upstream) for name, upstream in self.upstreams.by_service.items()}
        return {**services, "nats": self.bus.check, **({"redis": self._ping_redis} if self.redis else {})}

    async def _ping_redis(self) -> None:
        if self.redis is not None:
            await self.redis.ping()


class _Rules:
    """Who a caller is and what it may do: built once, asked by both faces."""

    def __init__(self, settings: GatewaySettings, reach: _Reach, clock: Clock) -> None:
        self.addresses = ClientAddresses(settings.trusted_proxies, settings.forwarded_header)
        self.origins = Origins(settings.allow_origin, settings.base_url)
        shared = RateLimiter(reach.redis, settings.redis_key_prefix)
        self.limits = Limits(settings.limits(), shared, settings.rate_limit_server_factor)
        self.guesses = Guesses(settings.rate_limit_refused, settings.rate_limit_server_factor)
        self.audit = AuditQueue(reach.channels["audit"], clock)
        self.revocations = Revocations(reach.channels["token"])
        self.tokens = Tokens(
            reach.channels["token"], self.revocations.known, issuer=settings.base_url, clock=clock
        )
        admin_secret = settings.admin_api_key.get_secret_value() if settings.admin_key_enabled else None
        self.admin_key = AdminKey(admin_secret, self.limits, self.audit)
        self.admins = Admins(
            AdminTokens(settings.admin_tokens_key, issuer=settings.base_url),
            AdminDirectory(reach.channels["identity"], reach.bus),
            clock,
        )
        self.callers = Callers(
            ClientDirectory(reach.channels["orgs"], reach.bus),
            self.tokens,
            self.revocations,
            self.admin_key,
            self.admins,
            self.origins,
            self.audit,
            self.guesses,
        )
        self.preflights = Preflights(reach.channels["orgs"], self.origins, self.guesses)
        self.decisions = Decisions(self.callers, self.tokens, self.limits, self.addresses)


def build(settings: GatewaySettings, clock: Clock | None = None, contract: Contract | None = None) -> App:
    """Return the gateway as a process; tests bring their own clock and contract."""
    contract = contract or Contract.load()
    reach = _Reach.of(settings)
    rules = _Rules(settings, reach, clock or SystemClock())
    contract.require(classes=rules.callers.classes, limits=rules.limits.names)
    return App(
        name=GATEWAY,
        settings=settings,
        make_face=partial(_face, settings, contract, reach, rules),
        make_rpc=partial(_rpc, settings, reach, rules),
        resources=reach.resources,
        jobs={"revocations": rules.revocations.watch, "refusals": rules.audit.run},
        required={"revocations": rules.revocations.check},
        optional=reach.checks(),
        share_ports=workers.is_worker(),
        demands_certificates=False,
        http_protocol=HardenedProtocol,
    )


def _face(
    settings: GatewaySettings, contract: Contract, reach: _Reach, rules: _Rules, probes: Probes
) -> ASGIApp:
    own = own_handlers(
        contract, probes, rules.audit, rules.decisions, expose_metrics=settings.exposes_metrics
    )
    return GatewayFace(
        contract,
        addresses=rules.addresses,
        callers=rules.callers,
        limits=rules.limits,
        origins=rules.origins,
        preflight=rules.preflights.judge,
        forwarder=Forwarder(
            reach.upstreams.by_service, reach.upstreams.for_streams, reach.signing_keys, probes
        ),
        own=own,
        security=security_headers(settings.base_url),
        timeout=settings.request_timeout.total_seconds(),
    )


def _rpc(settings: GatewaySettings, reach: _Reach, rules: _Rules) -> PublicRpc:
    return PublicRpc(
        reach.channels,
        reach.signing_keys,
        addresses=rules.addresses,
        admin_key=rules.admin_key,
        admins=rules.admins,
        limits=rules.limits,
        guesses=rules.guesses,
        timeout=settings.request_timeout.total_seconds(),
        max_revocation_streams=settings.max_revocation_streams,
        share_port=workers.is_worker(),
        with_reflection=settings.environment is Environment.DEVELOPMENT,
    )


def _tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """The gateway's certificate for the services, which demand one where mTLS is configured."""
    if not (settings.internal_tls_cert and settings.internal_tls_key and settings.internal_tls_ca):
        return None
    context = ssl.create_default_context(cafile=str(settings.internal_tls_ca))
    context.load_cert_chain(settings.internal_tls_cert, settings.internal_tls_key)
    return context
