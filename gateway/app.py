"""Builds the gateway, from top to bottom; nothing is constructed anywhere else."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from starlette.types import ASGIApp

from chassis import workers
from chassis.app import App, Resource
from chassis.bus import Bus
from chassis.clock import Clock, SystemClock
from chassis.internal_keys import InternalKeys
from chassis.probes import Probes
from chassis.ratelimit import RateLimiter, closing_redis, connect_redis
from chassis.rpc import Channel
from chassis.service import read_tls
from chassis.settings import Environment
from contracts.clients import ClientDirectory
from contracts.topology import GATEWAY, SERVICES, pairs_of
from gateway.addresses import ClientAddresses
from gateway.admin_key import AdminKey
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

    async def start(self) -> None:
        """Nothing to do before the first request."""

    async def stop(self) -> None:
        """Close the connections once their requests have ended."""
        for upstream in self.by_service.values():
            await upstream.close()


def build(settings: GatewaySettings, clock: Clock | None = None, contract: Contract | None = None) -> App:
    """Return the gateway as a process; tests bring their own clock and contract."""
    clock = clock or SystemClock()
    contract = contract or Contract.load()
    keys = InternalKeys.derive(settings.internal_auth_key.get_secret_value(), pairs_of(GATEWAY))
    tls = read_tls(settings)
    bus = Bus(settings.nats_url.get_secret_value(), process=GATEWAY)
    redis = connect_redis(settings.redis_url.get_secret_value()) if settings.redis_url else None
    upstreams = Upstreams(settings)
    channels = {
        name: Channel(settings.addresses(name)[1], caller=GATEWAY, callee=name, keys=keys, tls=tls)
        for name in SERVICES
    }

    directory = ClientDirectory(channels["orgs"], bus)
    revocations = Revocations(channels["token"])
    tokens = Tokens(channels["token"], revocations.known, issuer=settings.base_url, clock=clock)
    audit = AuditQueue(channels["audit"], clock)
    origins = Origins(settings.allow_origin, settings.base_url)
    limits = Limits(
        settings.limits(), RateLimiter(redis, settings.redis_key_prefix), settings.rate_limit_server_factor
    )
    guesses = Guesses(settings.rate_limit_refused, settings.rate_limit_server_factor)
    admin_secret = settings.admin_api_key.get_secret_value() if settings.admin_key_enabled else None
    admin_key = AdminKey(admin_secret, limits, audit)
    callers = Callers(directory, tokens, revocations, admin_key, origins, audit, guesses)
    addresses = ClientAddresses(settings.trusted_proxies, settings.forwarded_header)
    signing_keys = {name: keys.key(GATEWAY, name) for name in SERVICES}
    forwarder = Forwarder(upstreams.by_service, signing_keys)
    decisions = Decisions(callers, tokens, limits, addresses)
    contract.require(classes=callers.classes, limits=limits.names)

    def make_face(probes: Probes) -> ASGIApp:
        return GatewayFace(
            contract,
            addresses=addresses,
            callers=callers,
            limits=limits,
            origins=origins,
            preflight=Preflights(channels["orgs"], origins, guesses).judge,
            forwarder=forwarder,
            own=own_handlers(contract, probes, audit, decisions, expose_metrics=settings.exposes_metrics),
            security=security_headers(settings.base_url),
            timeout=settings.request_timeout.total_seconds(),
        )

    def make_rpc() -> PublicRpc:
        return PublicRpc(
            channels,
            signing_keys,
            addresses=addresses,
            admin_key=admin_key,
            limits=limits,
            guesses=guesses,
            timeout=settings.request_timeout.total_seconds(),
            max_revocation_streams=settings.max_revocation_streams,
            share_port=workers.is_worker(),
            with_reflection=settings.environment is Environment.DEVELOPMENT,
        )

    async def ping_redis() -> None:
        if redis is not None:
            await redis.ping()

    resources: list[Resource] = [bus, *closing_redis(redis), *channels.values(), upstreams]
    services: Mapping[str, Upstream] = upstreams.by_service
    return App(
        name=GATEWAY,
        settings=settings,
        make_face=make_face,
        make_rpc=make_rpc,
        resources=resources,
        jobs={"revocations": revocations.watch, "refusals": audit.run},
        required={"revocations": revocations.check},
        optional={
            **{name: service_check(services[name]) for name in SERVICES},
            "nats": bus.check,
            **({"redis": ping_redis} if redis else {}),
        },
        share_ports=workers.is_worker(),
        demands_certificates=False,
        http_protocol=HardenedProtocol,
    )


def _tls_context(settings: GatewaySettings) -> ssl.SSLContext | None:
    """The gateway's certificate for the services, which demand one where mTLS is configured."""
    if not (settings.internal_tls_cert and settings.internal_tls_key and settings.internal_tls_ca):
        return None
    context = ssl.create_default_context(cafile=str(settings.internal_tls_ca))
    context.load_cert_chain(settings.internal_tls_cert, settings.internal_tls_key)
    return context
