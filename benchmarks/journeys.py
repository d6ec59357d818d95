"""The journeys, each driven through the gateway, and what of each is held to a floor."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Callable

from benchmarks import calibration, grpc_client, provider
from benchmarks.audit_trail import audit
from benchmarks.bench import Bench
from benchmarks.cpu import Use
from benchmarks.load import Load, drive, request
from benchmarks.results import Measure, Result, Unit
from benchmarks.stack import PASSWORD, Person, Tenant
from chassis.internal_keys import InternalKeys
from contracts.topology import pairs_of

IN_FLIGHT = 32
"""Connections of a journey, unless it says otherwise."""

_LOGINS = 8
_FLOOD = 48
_QUIET = 4
_VALIDATE = "/auth.v1.TokenService/ValidateToken"
_BATCH = 100


def jwks(bench: Bench) -> list[Result]:
    """The published keys of one client."""
    tenant = bench.stack.tenant("RS256", 0)
    asked = request("GET", f"/.well-known/jwks.json?client_id={tenant.id}", {})
    measured = bench.measure(lambda seconds: _drive(bench, [asked], seconds))
    measure = Measure("JWKS", measured[0].rate, Unit.PER_SECOND, 4000, 8000)
    return [bench.result("jwks", "JWKS of a client", measured, measure, limit="asgi")]


def discovery(bench: Bench) -> list[Result]:
    """The issuer's metadata, which every relying party fetches when it starts."""
    asked = request("GET", "/.well-known/openid-configuration", {})
    measured = bench.measure(lambda seconds: _drive(bench, [asked], seconds))
    measure = Measure("discovery", measured[0].rate, Unit.PER_SECOND, 4000, 8000)
    return [bench.result("discovery", "discovery", measured, measure, limit="asgi")]


def me(bench: Bench) -> list[Result]:
    """The own profile: an access token checked at the gateway, one row read by identity."""
    requests = _me(bench.stack.tenant("RS256", IN_FLIGHT))
    driven, use = measured = bench.measure(lambda seconds: _drive(bench, requests, seconds))
    measures = (
        Measure("/me", driven.rate, Unit.PER_SECOND, 1000, 3000),
        Measure(
            "gateway's own cost of a forwarded /me",
            use.per_request.get("gateway", 0.0),
            Unit.MICROSECONDS,
            200,
            100,
        ),
    )
    return [bench.result("me", "own profile (/me)", measured, *measures, limit="select")]


def refresh(bench: Bench) -> list[Result]:
    """Rotation of refresh tokens: each answer's token is the next request's, a commit for each."""
    return [_refresh(bench, "RS256", 400, 1200), _refresh(bench, "ES256", 600, 2000)]


def _refresh(bench: Bench, algorithm: str, floor: float, aim: float) -> Result:
    tenant = bench.stack.tenant(algorithm, 0)

    def prepare() -> list[bytes]:
        # New people each time: tokens whose answers were still under way are known to nobody.
        people = bench.stack.people(tenant, IN_FLIGHT + 8)
        return [_refresh_request(tenant, person) for person in people]

    def drive_once(requests: list[bytes], seconds: float) -> Load:
        return drive(bench.stack.port, requests, connections=IN_FLIGHT, seconds=seconds, chain=True)

    drive_once(prepare(), bench.warm_up)
    requests = prepare()
    measured = bench.measure(lambda seconds: drive_once(requests, seconds), warm_up=False)
    measure = Measure(f"refresh rotation, {algorithm}", measured[0].rate, Unit.PER_SECOND, floor, aim)
    name = f"refresh-{algorithm.lower()}"
    return bench.result(name, f"refresh rotation, {algorithm}", measured, measure, limit="insert")


def sessions(bench: Bench) -> list[Result]:
    """The list of the own sessions: the other forwarded and authenticated route, answered by token."""
    tenant = bench.stack.tenant("RS256", IN_FLIGHT)
    requests = [
        request("GET", "/api/auth/sessions", tenant.headers_of(person))
        for person in tenant.people[:IN_FLIGHT]
    ]
    measured = bench.measure(lambda seconds: _drive(bench, requests, seconds))
    return [bench.result("sessions", "list of own sessions", measured, limit="select")]


def validate(bench: Bench) -> list[Result]:
    """`ValidateToken` at one token process, called as the gateway calls it, alone and in batches."""
    tenant = bench.stack.tenant("RS256", IN_FLIGHT)
    token = bench.stack.system.process("token")
    gateway = bench.stack.system.process("gateway")
    one = _measure_calls(bench, tenant, token.grpc, 1, IN_FLIGHT, trusted=True)
    many = _measure_calls(bench, tenant, token.grpc, _BATCH, 4, trusted=True)
    passed = _measure_calls(bench, tenant, gateway.grpc, 1, IN_FLIGHT)
    passed_many = _measure_calls(bench, tenant, gateway.grpc, _BATCH, 4)
    batched = Measure("ValidateTokens, batch of 100", many[0].rate * _BATCH, Unit.PER_SECOND, 20_000, 100_000)
    return [
        bench.result(
            "validate",
            "ValidateToken at one token process",
            one,
            Measure("ValidateToken, one process", one[0].rate, Unit.PER_SECOND, 2500, 10_000),
            limit="grpc",
        ),
        bench.result("validate-batch", "the same, batches of 100", many, batched, limit="grpc"),
        bench.result("validate-gateway", "ValidateToken through the gateway", passed, limit="grpc"),
        bench.result("validate-gateway-batch", "the same, batches of 100", passed_many, limit="grpc"),
    ]


def _measure_calls(
    bench: Bench, tenant: Tenant, address: str, batch: int, concurrency: int, *, trusted: bool = False
) -> tuple[Load, Use]:
    def call_once(seconds: float) -> Load:
        return grpc_client.call(
            grpc_client.Calls(
                address=address,
                api_key=tenant.api_key,
                tokens=[person.access_token for person in tenant.people[:IN_FLIGHT]],
                batch=batch,
                concurrency=concurrency,
                seconds=seconds,
                metadata=_proof(bench, batch) if trusted else [],
            )
        )

    return bench.measure(call_once)


def _proof(bench: Bench, batch: int) -> list[list[str]]:
    """What the gateway's calls carry; good for 30 s."""
    root = bench.stack.system.env["INTERNAL_AUTH_KEY"]
    keys = InternalKeys.derive(root, pairs_of("gateway"))
    method = _VALIDATE if batch == 1 else f"{_VALIDATE}s"
    return [["x-caller", "gateway"], ["x-caller-proof", keys.prove("gateway", "token", method)]]


def login(bench: Bench) -> list[Result]:
    """Password login: each costs a hash, and the hash rate is what bounds it."""
    return [_login(bench, "argon2id"), _login(bench, "bcrypt")]


def _login(bench: Bench, scheme: str) -> Result:
    """In turns with the raw hash rate, since machines share cores with others and change by the minute."""
    requests = _logins(bench, scheme)
    # What is in the workers at the end is not counted, so a slow hash needs a longer look.
    longer = 2 if scheme == "bcrypt" else 1
    _drive(bench, requests, 1.0, _LOGINS)

    def raw_rate() -> float:
        bench.settle()
        return calibration.hash_rate(scheme, bench.seconds / 2)

    raw = [raw_rate()]
    shares, kept = [], None
    for _ in range(bench.rounds):
        measured = bench.measure(
            lambda seconds: _drive(bench, requests, seconds * longer, _LOGINS), warm_up=False
        )
        raw.append(raw_rate())
        shares.append(measured[0].rate / statistics.mean(raw[-2:]))
        kept = measured
    assert kept is not None
    bench.raw[scheme] = statistics.mean(raw)
    measure = Measure(
        f"login, {scheme}, of the raw hash rate", statistics.median(shares), Unit.SHARE, 0.85, 0.97
    )
    return bench.result(f"login-{scheme}", f"password login, {scheme}", kept, measure, limit=scheme)


def isolation(bench: Bench) -> list[Result]:
    """`/me` at low concurrency, alone and while logins saturate the hash workers."""
    requests = _me(bench.stack.tenant("RS256", IN_FLIGHT))
    flood = _logins(bench, "bcrypt")
    idle = bench.measure(lambda seconds: _drive(bench, requests, seconds, _QUIET))
    logins: list[Load] = []
    flooding = threading.Thread(
        target=lambda: logins.append(_drive(bench, flood, bench.seconds + 4, _FLOOD)), daemon=True
    )
    flooding.start()
    _drive(bench, requests, 2.0, _QUIET)
    busy = bench.measure(lambda seconds: _drive(bench, requests, seconds, _QUIET), warm_up=False)
    flooding.join()
    ratio = Measure(
        "validation p99 while logins saturate hashing", busy[0].p99_ms / idle[0].p99_ms, Unit.TIMES, 5, 2
    )
    return [
        bench.result("isolation-idle", "/me, 4 connections, idle", idle),
        bench.result("isolation-busy", "the same beside a flood of logins", busy, ratio),
        bench.result("isolation-flood", "the flood of logins", (logins[0], Use({}, 0.0))),
    ]


def _drive(bench: Bench, requests: list[bytes], seconds: float, connections: int = IN_FLIGHT) -> Load:
    return drive(bench.stack.port, requests, connections=connections, seconds=seconds)


def _me(tenant: Tenant) -> list[bytes]:
    return [request("GET", "/api/auth/me", tenant.headers_of(person)) for person in tenant.people[:IN_FLIGHT]]


def _refresh_request(tenant: Tenant, person: Person) -> bytes:
    body = {"refresh_token": person.refresh_token, "token_transport": "json"}
    return request("POST", "/api/auth/refresh", tenant.headers, body)


def _logins(bench: Bench, scheme: str) -> list[bytes]:
    """Logins of people whose passwords are hashed so; the configured scheme is this one afterwards."""
    bench.stack.use_hash(scheme)
    tenant = bench.stack.tenant("ES256", _LOGINS * 2, name=scheme)
    return [
        request(
            "POST",
            "/api/auth/login",
            tenant.headers,
            {"email": person.email, "password": PASSWORD, "token_transport": "json"},
        )
        for person in tenant.people
    ]


JOURNEYS: dict[str, Callable[[Bench], list[Result]]] = {
    "jwks": jwks,
    "discovery": discovery,
    "me": me,
    "sessions": sessions,
    "refresh": refresh,
    "machines": provider.machines,
    "introspection": provider.introspection,
    "grants": provider.grants,
    "validate": validate,
    "audit": audit,
    "login": login,
    "isolation": isolation,
}
"""By name, in the order they run: identity is started again only once, to hash with bcrypt."""
