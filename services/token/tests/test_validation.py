"""Validation over gRPC: all modes, forgeries, tenants, batches, and a database that is away."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import jwt
import pytest

from chassis.errors import AppError
from chassis.ids import new_id
from chassis.sealing import Sealer, parse_key
from contracts.gen.auth.v1 import token_pb2
from contracts.gen.internal.token.v1 import verification_pb2
from services.token.tests.conftest import MODES, Token, claims_of, header_of, user_of
from services.token.tests.forgeries import generator, kid_of
from tests.harness import BASE_URL, System, Tenant

VECTORS_USER = "0190f5c0-0000-7000-8000-000000000001"
"""The `sub` of the conformance vectors."""


@pytest.mark.parametrize("mode", MODES)
async def test_validate_when_token_is_good_then_its_claims(system: System, token: Token, mode: str) -> None:
    tenant = await system.tenant(token_mode=mode)
    user = user_of(tenant, role="admin")
    opened = await token.open(tenant, user)
    answer = await token.validate(tenant, opened.access_token)
    assert answer == token_pb2.ValidateTokenResponse(
        valid=True,
        user_id=user.id,
        email=user.email,
        role="admin",
        email_verified=True,
        client_id=str(tenant.id),
        token_use="access",
    )
    with_publishable = token_pb2.ValidateTokenRequest(
        access_token=opened.access_token, api_key=tenant.publishable_key
    )
    assert (await token.public.ValidateToken(with_publishable)).valid
    with system.clock.advanced(timedelta(seconds=925)):
        assert (await token.validate(tenant, opened.access_token)).valid
    with system.clock.advanced(timedelta(seconds=932)):
        expired = await token.validate(tenant, opened.access_token)
        assert expired == token_pb2.ValidateTokenResponse(valid=False, error="token_expired")


@pytest.mark.parametrize("api_key", ["", "ask_unknown", "garbage", "ask_" + "A" * 43])
async def test_validate_when_api_key_is_not_good_then_an_answer(
    token: Token, tenant: Tenant, api_key: str
) -> None:
    opened = await token.open(tenant)
    request = token_pb2.ValidateTokenRequest(access_token=opened.access_token, api_key=api_key)
    answer = await token.public.ValidateToken(request)
    assert answer == token_pb2.ValidateTokenResponse(valid=False, error="invalid_api_key")
    batch = token_pb2.ValidateTokensRequest(access_tokens=[opened.access_token, "x"], api_key=api_key)
    results = (await token.public.ValidateTokens(batch)).results
    assert [result.error for result in results] == ["invalid_api_key"] * 2


async def test_validate_when_token_is_of_another_tenant_then_invalid(system: System, token: Token) -> None:
    tenants = [await system.tenant(token_mode=mode) for mode in (*MODES, "v2_jwks")]
    opened = [await token.open(tenant) for tenant in tenants]
    for tenant in tenants:
        for owner, session in zip(tenants, opened, strict=True):
            answer = await token.validate(tenant, session.access_token)
            assert answer.valid is (tenant is owner)
            assert answer.error == ("" if tenant is owner else "invalid_token")


async def test_validate_when_tenant_signs_anothers_claims_with_its_own_secret_then_invalid(
    system: System, token: Token
) -> None:
    """An HS256 tenant knows its secret, and may write whatever it likes with it."""
    attacker, victim = [await system.tenant(token_mode="v1_hs256") for _ in range(2)]
    jwks_victim = await system.tenant()
    opened = await token.open(attacker)
    path = f"/api/admin/clients/{attacker.id}/rotate-secret"
    secret = (await system.call("token", "POST", path, caller=system.admin())).json["jwt_secret"]
    mine = await token.open(attacker)
    header = header_of(mine.access_token)
    own = jwt.encode(claims_of(mine.access_token), secret, "HS256", headers=header)
    assert (await token.validate(attacker, own)).valid
    for target in (victim, jwks_victim):
        session = await token.open(target)
        forged = jwt.encode(claims_of(session.access_token), secret, "HS256", headers=header)
        assert (await token.validate(target, forged)).error == "invalid_token"
        assert (await token.validate(attacker, forged)).error == "invalid_token"
    assert (await token.validate(attacker, opened.access_token)).valid is False


async def test_validate_when_client_changed_its_mode_then_tokens_of_the_other_kind_are_invalid(
    system: System, token: Token
) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    path = f"/api/admin/clients/{tenant.id}"
    old = await token.open(tenant)
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"token_mode": "v2_jwks"})
    new = await token.open(tenant)
    assert (await token.validate(tenant, new.access_token)).valid
    assert (await token.validate(tenant, old.access_token)).error == "invalid_token"
    # Between modes with public keys both go on: their keys are published side by side.
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"token_mode": "v3_es256"})
    newest = await token.open(tenant)
    assert (await token.validate(tenant, newest.access_token)).valid
    assert (await token.validate(tenant, new.access_token)).valid


async def test_validate_when_client_is_suspended_then_its_key_is_not_good(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    assert (await token.validate(tenant, opened.access_token)).valid
    path = f"/api/admin/clients/{tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "suspended"})
    assert (await token.validate(tenant, opened.access_token)).error == "invalid_api_key"
    request = verification_pb2.VerifyRequest(client_id=str(tenant.id), access_token=opened.access_token)
    assert not (await token.verification.Verify(request)).valid


async def _install_keys(system: System, signing: Any, jwks: Tenant, secret: Tenant, suffix: str) -> None:
    """Give two tenants the generator's keys."""
    for key in signing.KEYS.jwks["keys"]:
        status = "next" if key["kid"].startswith(("rs-2", "issuer.")) else "active"
        await system.sql(
            "token",
            "INSERT INTO signing_keys (kid, client_id, alg, status, public_jwk, created_at) "
            "VALUES ($1, $2, $3, $4, $5, now())",
            key["kid"],
            jwks.id,
            key["alg"],
            status,
            json.dumps(key),
        )
    kid = kid_of("hs-1", suffix)
    sealed = Sealer(parse_key(system.root_key)).seal(signing.KEYS.secret, f"jwt_secret:{kid}")
    await system.sql("token", "DELETE FROM jwt_secrets WHERE client_id = $1", secret.id)
    await system.sql(
        "token",
        "INSERT INTO jwt_secrets (kid, client_id, status, sealed, created_at) "
        "VALUES ($1, $2, 'active', $3, now())",
        kid,
        secret.id,
        sealed,
    )


async def _judged(token: Token, tenant: Tenant, vectors: list[Any], now: int) -> dict[str, str]:
    """What the service says of each vector: an error, or `valid`. Some stand within a second of a border."""
    found: dict[str, str] = {}
    clock = token.system.clock
    for start in range(0, len(vectors), 50):
        part = vectors[start : start + 50]
        request = token_pb2.ValidateTokensRequest(
            access_tokens=[vector.token for vector in part], api_key=tenant.api_key
        )
        with clock.advanced(timedelta(seconds=now - clock.now().timestamp())):
            results = (await token.public.ValidateTokens(request)).results
            singles = [await token.validate(tenant, vector.token) for vector in part[:3]]
        found |= {vector.id: result.error or "valid" for vector, result in zip(part, results, strict=True)}
        assert singles == list(results[:3])
    return found


@pytest.mark.parametrize("sid", [None, "", "x", "0" * 32, "' OR true --", str(UUID(int=1)), 7])
async def test_validate_when_tenant_invents_a_session_then_refused(
    system: System, token: Token, sid: object
) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    path = f"/api/admin/clients/{tenant.id}/rotate-secret"
    secret = (await system.call("token", "POST", path, caller=system.admin())).json["jwt_secret"]
    access = (await token.open(tenant)).access_token
    for own, error in (
        ({}, ""),
        ({"sid": sid}, "token_revoked" if sid == str(UUID(int=1)) else "invalid_token"),
    ):
        minted = jwt.encode({**claims_of(access), **own}, secret, "HS256", headers=header_of(access))
        assert (await token.validate(tenant, minted)).error == error


@pytest.mark.parametrize(("source", "mode"), [("jwks", "v2_jwks"), ("hs256", "v1_hs256")])
async def test_validate_when_given_every_conformance_vector_then_as_each_says(
    system: System, token: Token, source: str, mode: str
) -> None:
    """Each forgery is made from a token that passes."""
    tenant = await system.tenant(token_mode=mode)
    deadline = time.monotonic() + 15
    table = "jwt_secrets" if mode == "v1_hs256" else "signing_keys"
    while len(await system.sql("token", f"SELECT FROM {table} WHERE client_id = $1", tenant.id)) < 1 + (
        mode != "v1_hs256"
    ):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    await system.sql("token", "DELETE FROM signing_keys WHERE client_id = $1", tenant.id)
    opened_for = await system.tenant()
    session = (await token.open(opened_for, user_of(opened_for, id=VECTORS_USER))).session_id
    await system.sql("token", "UPDATE sessions SET client_id = $1 WHERE id = $2", tenant.id, UUID(session))
    suffix = f"{int(time.time() * 1000) % 10**8}"
    with generator(
        issuer=BASE_URL, client_id=tenant.id, session_id=session, now=int(time.time()), suffix=suffix
    ) as (signing, vectors):
        await _install_keys(system, signing, tenant, tenant, suffix)
        # Those for a validator with a use or audience of its own are not for the service, which takes all.
        mine = [
            vector
            for vector in vectors
            if vector.source == source and _is_text(vector.token) and not vector.settings
        ]
        found = await _judged(token, tenant, mine, signing.NOW)
    expected = {vector.id: vector.expect for vector in mine}
    # Validators elsewhere take a token without a session; a token of a user always has one.
    expected |= dict.fromkeys(expected.keys() & {"valid-minimal", "valid-null"}, "invalid_token")
    assert found == expected
    assert sum(said == "valid" for said in found.values()) >= 1
    assert len(found) >= (300 if source == "jwks" else 10)


def _is_text(value: object) -> bool:
    """Whether a proto string can hold it."""
    try:
        return isinstance(value, str) and bool(value.encode())
    except UnicodeEncodeError:
        return False


async def test_validate_tokens_when_mixed_then_answers_in_order(token: Token, tenant: Tenant) -> None:
    opened = [await token.open(tenant) for _ in range(4)]
    await token.post(tenant, "/api/auth/logout", json={"refresh_token": opened[2].refresh_token})
    tokens = [opened[0].access_token, "", "a.b.c", opened[1].access_token, opened[2].access_token]
    tokens += [opened[3].access_token, opened[0].access_token + "A"]
    request = token_pb2.ValidateTokensRequest(access_tokens=tokens, api_key=tenant.api_key)
    results = (await token.public.ValidateTokens(request)).results
    assert [result.error or result.user_id for result in results] == [
        opened[0].user.id,
        "invalid_token",
        "invalid_token",
        opened[1].user.id,
        "token_revoked",
        opened[3].user.id,
        "invalid_token",
    ]


async def test_validate_tokens_when_a_thousand_then_all_and_one_more_is_refused(
    token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    request = token_pb2.ValidateTokensRequest(
        access_tokens=[opened.access_token] * 1000, api_key=tenant.api_key
    )
    results = (await token.public.ValidateTokens(request)).results
    assert len(results) == 1000
    assert all(result.valid for result in results)
    request.access_tokens.append("x")
    with pytest.raises(AppError) as refusal:
        await token.public.ValidateTokens(request)
    assert refusal.value.code == "invalid_request"


async def test_validate_tokens_when_empty_then_empty(token: Token, tenant: Tenant) -> None:
    answer = await token.public.ValidateTokens(token_pb2.ValidateTokensRequest(api_key=tenant.api_key))
    assert list(answer.results) == []


@pytest.mark.parametrize("mode", ["v1_hs256", "v3_es256"])
async def test_verify_when_asked_by_a_gateway_then_claims_or_error(
    system: System, token: Token, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    opened = await token.open(tenant)
    request = verification_pb2.VerifyRequest(client_id=str(tenant.id), access_token=opened.access_token)
    answer = await token.verification.Verify(request)
    assert (answer.valid, answer.error) == (True, "")
    assert json.loads(answer.claims_json) == claims_of(opened.access_token)
    await token.post(tenant, "/api/auth/logout", json={"refresh_token": opened.refresh_token})
    answer = await token.verification.Verify(request)
    assert (answer.valid, answer.error, answer.claims_json) == (False, "token_revoked", "")
    unknown = verification_pb2.VerifyRequest(client_id=str(new_id()), access_token=opened.access_token)
    with pytest.raises(AppError) as refusal:
        await token.verification.Verify(unknown)
    assert refusal.value.code == "client_not_found"


async def test_validate_when_database_is_away_then_memory_decides(
    system: System, token: Token, tenant: Tenant
) -> None:
    alive, dead = await token.open(tenant), await token.open(tenant)
    await token.post(tenant, "/api/auth/logout", json={"refresh_token": dead.refresh_token})
    for session, error in ((alive, ""), (dead, "token_revoked")):
        assert (await token.validate(tenant, session.access_token)).error == error
    try:
        # As good as away: the server is full for the role, and its connections are cut.
        await system.sql("token", "ALTER ROLE token_jobs CONNECTION LIMIT 0")
        await system.sql(
            "token", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'token_jobs'"
        )
        for session, error in ((alive, ""), (dead, "token_revoked")) * 3:
            assert (await token.validate(tenant, session.access_token)).error == error
    finally:
        await system.sql("token", "ALTER ROLE token_jobs CONNECTION LIMIT -1")
    deadline = asyncio.get_running_loop().time() + 10
    # Recovers by itself: an end that only the table knows of is seen again.
    statement = "UPDATE sessions SET ended_at = now() WHERE id = $1"
    await system.sql("token", statement, UUID(alive.session_id))
    while (await token.validate(tenant, alive.access_token)).valid:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)
