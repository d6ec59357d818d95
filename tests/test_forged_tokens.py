"""Forged tokens, and genuine ones of every kind, at the doors of the running system.

The forged ones are the validators' vectors: `services/token/tests/test_validation.py` shows them to
`ValidateToken`, and each validator's own tests to it; here they meet REST and introspection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any, cast
from uuid import UUID

import grpc
import pytest
import structlog

from chassis.sealing import Sealer, parse_key
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.auth.v1.token_pb2_grpc import TokenServiceStub
from contracts.gen.internal.token.v1 import grants_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from gateway.tests.people import PASSWORD, sign_up
from gateway.tests.running import RunningGateway, running_gateway, serving
from services.federation.tests.flow import Browser, RelyingParty, answer_of, open_login
from services.token.tests.forgeries import generator, kid_of
from tests.admins import new_admin
from tests.harness import BASE_URL, System, Tenant

VECTORS_USER = UUID("0190f5c0-0000-7000-8000-000000000001")
"""The `sub` of the vectors."""

AT_A_BORDER = {"nbf-future", "iat-future", "iat-future-nbf-absent", "valid-exp-leeway"}
"""What a second makes of another kind; these are shown to `ValidateToken`, while its clock stands still."""

WITHOUT_A_SESSION = {"valid-minimal", "valid-null"}
"""Validators take them; a token that the system gives to a user always names its session."""

log = structlog.get_logger()

AT_ONCE = 16
GRANT_TYPES = ["authorization_code", "refresh_token", "client_credentials"]
STRICT = {"actions": {"data.export": {"mode": "challenge"}}}


@pytest.fixture(scope="module")
async def gateway(system: System) -> AsyncIterator[RunningGateway]:
    """A gateway before the services."""
    async with contextlib.AsyncExitStack() as stack:
        urls = {}
        for name, face in system.faces.items():
            port = await stack.enter_async_context(serving(face))
            urls[name] = f"http://127.0.0.1:{port}"
        yield await stack.enter_async_context(running_gateway(system, urls))


async def install_keys(system: System, signing: Any, tenant: Tenant, suffix: str) -> None:
    """Let a client's tokens be signed with the generator's keys, as if they had been its own."""
    if tenant.document["token_mode"] == "v1_hs256":
        kid = kid_of("hs-1", suffix)
        await system.sql("token", "DELETE FROM jwt_secrets WHERE client_id = $1", tenant.id)
        await system.sql(
            "token",
            "INSERT INTO jwt_secrets (kid, client_id, status, sealed, created_at) "
            "VALUES ($1, $2, 'active', $3, now())",
            kid,
            tenant.id,
            Sealer(parse_key(system.root_key)).seal(signing.KEYS.secret, f"jwt_secret:{kid}"),
        )
        return
    for key in signing.KEYS.jwks["keys"]:
        await system.sql(
            "token",
            "INSERT INTO signing_keys (kid, client_id, alg, status, public_jwk, created_at, retires_at) "
            "VALUES ($1, $2, $3, 'retiring', $4, now(), now() + interval '1 hour')",
            *(key["kid"], tenant.id, key["alg"], json.dumps(key)),
        )


async def own_keys(system: System, tenant: Tenant) -> None:
    """Wait until a client has the keys that are made for it after it was created."""
    of_secret = tenant.document["token_mode"] == "v1_hs256"
    table, number = ("jwt_secrets", 1) if of_secret else ("signing_keys", 2)
    async with asyncio.timeout(15):
        while len(await system.sql("token", f"SELECT FROM {table} WHERE client_id = $1", tenant.id)) < number:
            await asyncio.sleep(0.05)


async def is_let_in(gateway: RunningGateway, tenant: Tenant, token: str) -> bool | None:
    """Whether the gateway takes a token; None for one that no header can hold as it is."""
    if not (token and token.isascii() and token.isprintable() and token == token.strip()):
        return None
    headers = {"x-api-key": tenant.api_key, "authorization": f"Bearer {token}"}
    answer = await gateway.client.get("/_authz", headers=headers)
    assert answer.status_code in (200, 401, 431), answer.text
    return answer.status_code == 200


async def is_active(gateway: RunningGateway, tenant: Tenant, token: str) -> bool | None:
    """Whether introspection says so; None for what is no text."""
    try:
        form = {"token": token.encode().decode()}
    except UnicodeEncodeError:
        return None
    credentials = (str(tenant.id), tenant.api_key)
    answer = await gateway.client.post("/introspect", data=form, auth=credentials)
    if not token:
        assert answer.json()["error"] == "invalid_request"
        return False
    assert answer.status_code == 200, answer.text
    found: bool = answer.json()["active"]
    # Nothing is said of why.
    assert found or answer.content == b'{"active":false}'
    return found


@pytest.mark.parametrize(("source", "mode"), [("jwks", "v2_jwks"), ("hs256", "v1_hs256")])
async def test_vectors_when_shown_to_gateway_and_introspection_then_forged_ones_are_refused(
    system: System, gateway: RunningGateway, source: str, mode: str
) -> None:
    """J-01 to J-17, J-20: each forgery beside the tokens that such forgeries are made from."""
    tenant, opened_for = await system.tenant(token_mode=mode), await system.tenant()
    await own_keys(system, tenant)
    session = (await sign_up(gateway, opened_for)).session_id
    statement = "UPDATE sessions SET client_id = $1, user_id = $2 WHERE id = $3"
    await system.sql("token", statement, tenant.id, VECTORS_USER, UUID(session))
    now = int(time.time())
    suffix = f"{now % 10**8}"
    with generator(issuer=BASE_URL, client_id=tenant.id, session_id=session, now=now, suffix=suffix) as (
        signing,
        vectors,
    ):
        await install_keys(system, signing, tenant, suffix)
    # Those for a validator with a use or audience of its own are not for the system, which knows what it is.
    mine = [vector for vector in vectors if vector.source == source and not vector.settings]
    mine = [vector for vector in mine if vector.id not in AT_A_BORDER | WITHOUT_A_SESSION]
    for door in (is_let_in, is_active):
        judged: list[bool | None] = []
        for start in range(0, len(mine), AT_ONCE):
            some = mine[start : start + AT_ONCE]
            judged += await asyncio.gather(*(door(gateway, tenant, vector.token) for vector in some))
        wrong = [
            vector.id
            for vector, verdict in zip(mine, judged, strict=True)
            if verdict not in (None, vector.expect == "valid")
        ]
        assert wrong == [], door.__name__
        assert sum(verdict is True for verdict in judged) >= 1
        assert sum(verdict is False for verdict in judged) >= (270 if source == "jwks" else 10)


async def genuine_tokens(system: System, gateway: RunningGateway, tenant: Tenant) -> dict[str, str]:
    """One token of each kind that the system gives out, as its owner has it."""
    browser, login = Browser(system), await open_login(system, tenant)
    await browser.know(login)
    rp = RelyingParty(system, tenant, *await system.app(tenant, trusted=True, grant_types=GRANT_TYPES))
    asked = await browser.get(rp.url(scope="openid offline_access"))
    granted = (await rp.redeem(answer_of(asked)["code"])).json
    own = {"grant_type": "client_credentials"}
    signed = {"accept": "application/token-introspection+jwt"}
    opened = (await gateway.client.get("/.well-known/status-lists/1")).text
    logout = grants_pb2.SignTokenRequest(
        typ="logout+jwt",
        alg="RS256",
        claims_json=json.dumps({"aud": rp.id, "sub": login.user.id, "sid": login.session_id}),
    )
    async with system.channel("token", caller="federation") as channel:
        logout_token = (await GrantServiceStub(channel.for_stubs).SignToken(logout)).token
    person = await sign_up(gateway, tenant)
    refused = await gateway.client.get("/api/auth/me/export", headers=person.headers)
    challenge = refused.json()["challenge_token"]
    answer = {"challenge_token": challenge, "factor": "password", "password": PASSWORD}
    proven = await gateway.client.post("/api/auth/step-up/verify", headers=person.headers, json=answer)
    return {
        "access token": person.access_token,
        "refresh token": person.refresh_token,
        "challenge": challenge,
        "step-up token": proven.json()["step_up_token"],
        "app's access token": granted["access_token"],
        "app's refresh token": granted["refresh_token"],
        "ID token": granted["id_token"],
        "machine's token": (await rp.post("token", "/token", own)).json["access_token"],
        "introspection": (
            await rp.post("token", "/introspect", {"token": granted["access_token"]}, **signed)
        ).body.decode(),
        "logout token": logout_token,
        "status list": opened,
        "code": answer_of(await browser.get(rp.url()))["code"],
        "admin's token": str(
            (await (await new_admin(system, mfa_required=False)).log_in()).json["access_token"]
        ),
    }


OPENS = {
    "access token": {"rest", "grpc", "introspection"},
    "refresh token": {"refresh"},
    "app's access token": {"grpc", "introspection", "userinfo"},
    "machine's token": {"grpc", "introspection"},
    "ID token": {"hint"},
    "admin's token": {"admin"},
}
"""The doors that a kind of token opens; every other kind opens none of these."""


async def test_token_when_of_each_kind_then_opens_its_own_doors_and_no_other(
    system: System, gateway: RunningGateway
) -> None:
    """J-05, J-13, J-14: each token is good, and each door opens to one of them."""
    tenant = await system.tenant(
        settings={
            "oidc_allowed_scopes": ["openid", "offline_access", "jobs:run"],
            "adaptive_security": STRICT,
        }
    )
    tokens = await genuine_tokens(system, gateway, tenant)
    assert all(tokens[kind].count(".") == 2 for kind in ("introspection", "logout token", "status list"))
    key = {"x-api-key": tenant.api_key}
    http = gateway.client
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.grpc_port}") as public,
        system.channel("token", caller="federation") as channel,
    ):
        validation = TokenServiceStub(cast("Any", public))
        grants = GrantServiceStub(channel.for_stubs)
        for kind, token in tokens.items():
            bearer = {"authorization": f"Bearer {token}"}
            request = token_pb2.ValidateTokenRequest(access_token=token, api_key=tenant.api_key)
            hint = grants_pb2.ReadIdTokenRequest(id_token=token)
            renewal = {"refresh_token": token, "token_transport": "json"}
            opened = {
                "rest": (await http.get("/_authz", headers={**key, **bearer})).is_success,
                "grpc": (await validation.ValidateToken(request)).valid,
                "introspection": await is_active(gateway, tenant, token),
                "userinfo": (await http.get("/userinfo", headers=bearer)).is_success,
                "admin": (await http.get("/api/admin/clients", headers=bearer)).is_success,
                "hint": (await grants.ReadIdToken(hint)).valid,
                "refresh": (await http.post("/api/auth/refresh", headers=key, json=renewal)).is_success,
            }
            assert {door for door, is_open in opened.items() if is_open} == OPENS.get(kind, set()), kind
    assert set.union(*OPENS.values()) == set(opened)


async def test_secrets_when_used_or_misplaced_then_in_no_log_and_no_event(
    system: System,
    gateway: RunningGateway,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """O-38: also where they are refused, or stand where they must not; the logs have every level here."""
    tenant = await system.tenant(settings={"oidc_allowed_scopes": ["openid", "offline_access", "jobs:run"]})
    tokens = await genuine_tokens(system, gateway, tenant)
    secrets = [tenant.api_key, PASSWORD, *(tokens[kind] for kind in tokens if kind != "status list")]
    http = gateway.client
    for secret in secrets:
        query = {"access_token": secret, "client_secret": secret, "code": secret}
        for method, path in (("GET", "/api/auth/me"), ("POST", "/token"), ("GET", "/userinfo"), ("GET", "/")):
            misplaced = await http.request(method, path, params=query)
            assert misplaced.is_client_error, misplaced.text
        page = f"https://app.example.com/?token={secret}"
        await http.get(f"/login/{secret}", headers={"x-api-key": secret[:-1], "referer": page})
        form = {"token": secret, "refresh_token": secret, "code": secret, "grant_type": "refresh_token"}
        for path in ("/token", "/introspect", "/revoke"):
            await http.post(path, data=form, auth=(str(tenant.id), secret[::-1]))
            await http.post(path, data=form, auth=(str(tenant.id), tenant.api_key))
    await system.event("app_refused", client_id=tenant.id, reason="invalid_client")
    log.info("a positive control", client_id=str(tenant.id))
    written = capsys.readouterr()
    logged = written.out + written.err + caplog.text
    told = "".join(str(event) for event in system.events)
    assert str(tenant.id) in logged
    assert str(tenant.id) in told
    for secret in secrets:
        assert secret not in logged
        assert secret not in told
