"""Every forged token of the validators' vectors at the doors of the running system: REST and introspection.

`services/token/tests/test_validation.py` shows them to `ValidateToken`, and each validator's own tests to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest

from chassis.sealing import Sealer, parse_key
from gateway.tests.people import sign_up
from gateway.tests.running import RunningGateway, running_gateway, serving
from services.token.tests.forgeries import generator, kid_of
from tests.harness import BASE_URL, System, Tenant

VECTORS_USER = UUID("0190f5c0-0000-7000-8000-000000000001")
"""The `sub` of the vectors."""

AT_A_BORDER = {"nbf-future", "iat-future", "iat-future-nbf-absent", "valid-exp-leeway"}
"""What a second makes of another kind; these are shown to `ValidateToken`, while its clock stands still."""

WITHOUT_A_SESSION = {"valid-minimal", "valid-null"}
"""Validators take them; a token that the system gives to a user always names its session."""

AT_ONCE = 16


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
    with generator(
        issuer=BASE_URL, client_id=tenant.id, session_id=session, now=now, suffix=suffix
    ) as (signing, vectors):
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
