"""The journeys of the OpenID provider: tokens of machines, introspection, and refresh of grants."""

from __future__ import annotations

import asyncio
import base64
import json
from base64 import b64encode
from typing import Any
from urllib.parse import quote

from benchmarks.bench import Bench
from benchmarks.load import Load, drive, request
from benchmarks.results import Measure, Result, Unit
from benchmarks.stack import Person, Stack, Tenant
from chassis.internal_keys import InternalKeys
from chassis.rpc import Channel
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from contracts.topology import pairs_of

IN_FLIGHT = 32
_REDIRECT = "https://app.example.com/callback"
_SCOPES = ("email", "offline_access")


def machines(bench: Bench) -> list[Result]:
    """`client_credentials`: a secret looked up in memory, a signature, and one event."""
    return [_machines(bench, "RS256"), _machines(bench, "ES256")]


def _machines(bench: Bench, algorithm: str) -> Result:
    headers = _account(bench.stack, bench.stack.tenant(algorithm, 0))
    asked = request("POST", "/oauth/token", headers, {"grant_type": "client_credentials"})
    measured = bench.measure(lambda seconds: _drive(bench, [asked], seconds))
    rate, title = measured[0].rate, f"client credentials, {algorithm}"
    if algorithm == "RS256":
        measure = Measure(f"{title}, of raw signing", rate / bench.raw["RS256"], Unit.SHARE, 0.45, 0.65)
    else:
        measure = Measure(title, rate, Unit.PER_SECOND, 1000, 3000)
    return bench.result(f"machines-{algorithm.lower()}", title, measured, measure, limit=algorithm)


def introspection(bench: Bench) -> list[Result]:
    """What users' tokens are worth, asked by a service account that is remembered."""
    tenant = bench.stack.tenant("RS256", IN_FLIGHT)
    headers = _account(bench.stack, tenant)
    requests = [
        request("POST", "/oauth/introspect", headers, {"token": person.access_token})
        for person in tenant.people[:IN_FLIGHT]
    ]
    measured = bench.measure(lambda seconds: _drive(bench, requests, seconds))
    measure = Measure("introspection (warm)", measured[0].rate, Unit.PER_SECOND, 1500, 5000)
    return [bench.result("introspection", "introspection", measured, measure, limit="select")]


def grants(bench: Bench) -> list[Result]:
    """Refresh at `/token` of what users granted the tenant as an app; then of logins, with an ID token.

    An ID token is signed with RS256 whatever the client's mode, so raw RS256 signing bounds these.
    """
    return [
        _grants(bench, "RS256", _SCOPES, (400, 1200)),
        _grants(bench, "ES256", _SCOPES, (600, 2000)),
        _grants(bench, "RS256", ("openid", *_SCOPES)),
        _grants(bench, "ES256", ("openid", *_SCOPES)),
    ]


def _grants(
    bench: Bench, algorithm: str, scopes: tuple[str, ...], bounds: tuple[float, float] | None = None
) -> Result:
    tenant = bench.stack.tenant(algorithm, 0)
    headers = _basic(tenant.id, tenant.api_key)

    def prepare() -> list[bytes]:
        # New people each time, as for refresh of sessions.
        people = bench.stack.people(tenant, IN_FLIGHT + 8)
        codes = asyncio.run(_codes(bench.stack, tenant, people, scopes))
        tokens = [_redeem(bench.stack, headers, code) for code in codes]
        return [
            request("POST", "/token", headers, {"grant_type": "refresh_token", "refresh_token": token})
            for token in tokens
        ]

    def drive_once(requests: list[bytes], seconds: float) -> Load:
        return drive(bench.stack.port, requests, connections=IN_FLIGHT, seconds=seconds, chain=True)

    drive_once(prepare(), bench.warm_up)
    requests = prepare()
    measured = bench.measure(lambda seconds: drive_once(requests, seconds), warm_up=False)
    name, title = f"grants-{algorithm.lower()}", f"refresh at /token, {algorithm}"
    if bounds is None:
        return bench.result(f"{name}-openid", f"{title}, with an ID token", measured, limit="insert")
    measure = Measure(title, measured[0].rate, Unit.PER_SECOND, *bounds)
    return bench.result(name, title, measured, measure, limit="insert")


async def _codes(stack: Stack, tenant: Tenant, people: list[Person], scopes: tuple[str, ...]) -> list[str]:
    """Make a code for each, as federation does when a user has agreed."""
    keys = InternalKeys.derive(stack.system.env["INTERNAL_AUTH_KEY"], pairs_of("federation"))
    address = stack.system.process("token").grpc
    channel = Channel(address, caller="federation", callee="token", keys=keys)
    await channel.start()
    try:
        stub = GrantServiceStub(channel.for_stubs)
        requests = [_code_request(tenant, person, scopes) for person in people]
        return [(await stub.CreateAuthorizationCode(asked)).code for asked in requests]
    finally:
        await channel.stop()


def _code_request(
    tenant: Tenant, person: Person, scopes: tuple[str, ...]
) -> grants_pb2.CreateAuthorizationCodeRequest:
    claims = _claims(person.access_token)
    authorization = grants_pb2.Authorization(
        client_id=tenant.id,
        app_id=tenant.id,
        user_id=claims["sub"],
        session_id=claims["sid"],
        scopes=scopes,
    )
    return grants_pb2.CreateAuthorizationCodeRequest(authorization=authorization, redirect_uri=_REDIRECT)


def _redeem(stack: Stack, headers: dict[str, str], code: str) -> str:
    body = {"grant_type": "authorization_code", "code": code, "redirect_uri": _REDIRECT}
    return str(stack.call("POST", "/token", headers, body)["refresh_token"])


def _account(stack: Stack, tenant: Tenant) -> dict[str, str]:
    """The header of a new service account."""
    path = f"/api/admin/clients/{tenant.id}/service-accounts"
    admin = {"x-admin-key": stack.system.env["ADMIN_API_KEY"]}
    made = stack.call("POST", path, admin, {"name": "bench", "scopes": ["jobs:run"]})
    return _basic(made["service_account"]["id"], made["client_secret"])


def _basic(client_id: str, secret: str) -> dict[str, str]:
    pair = f"{quote(client_id, safe='')}:{quote(secret, safe='')}"
    return {"authorization": f"Basic {b64encode(pair.encode()).decode()}"}


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return claims


def _drive(bench: Bench, requests: list[bytes], seconds: float) -> Load:
    return drive(bench.stack.port, requests, connections=IN_FLIGHT, seconds=seconds)
