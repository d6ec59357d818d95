"""Published keys and their rotation, JWT secrets, and the master key."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
from datetime import timedelta
from typing import Any

import httpx
import pytest
from authservice_validator import HmacKey, JwksKeys, TokenVerifier

from chassis.errors import AppError
from chassis.ids import new_id
from contracts.gen.internal.origin.v1 import origin_pb2
from contracts.gen.internal.token.v1 import secrets_pb2, verification_pb2
from services.token.signing.models import ISSUER_ID
from services.token.signing.stages import LEAD_TIME
from services.token.tests.conftest import MODES, Token, header_of
from tests.harness import BASE_URL, Answer, System, Tenant

JWKS = "/.well-known/jwks.json"
PUBLIC = {
    "RSA": {"kty", "n", "e", "kid", "use", "alg"},
    "EC": {"kty", "crv", "x", "y", "kid", "use", "alg"},
    "OKP": {"kty", "crv", "x", "kid", "use", "alg"},
}


async def jwks(system: System, tenant: Tenant | None, **headers: str) -> Answer:
    """The key set, as somebody without a credential gets it."""
    query = f"?client_id={tenant.id}" if tenant else ""
    caller = system.admin(access="public")
    return await system.call("token", "GET", JWKS + query, caller=caller, headers=headers)


async def issuer_kids(system: System) -> set[str]:
    """The names of the issuer's own keys, which are in every public set."""
    path = f"{JWKS}?client_id={ISSUER_ID}"
    answer = await system.call("token", "GET", path, caller=system.admin(access="public"))
    return {key["kid"] for key in answer.json["keys"]}


async def own_keys(system: System, tenant: Tenant) -> list[dict[str, Any]]:
    """A client's keys, without the issuer's beside them; a new client's next one is a moment younger."""
    deadline = asyncio.get_running_loop().time() + 5
    while True:
        keys = (await jwks(system, tenant)).json["keys"]
        of_issuer = await issuer_kids(system)
        own = [key for key in keys if key["kid"] not in of_issuer]
        if len(own) >= 2:
            assert of_issuer <= {key["kid"] for key in keys}
            return own
        assert asyncio.get_running_loop().time() < deadline, keys
        await asyncio.sleep(0.05)


async def rotate(system: System, tenant: Tenant, action: str, query: str = "") -> Answer:
    """Rotate as admin."""
    path = f"/api/admin/clients/{tenant.id}/{action}{query}"
    return await system.call("token", "POST", path, caller=system.admin())


async def fresh_keys(system: System, tenant: Tenant, kids: set[str]) -> list[dict[str, Any]]:
    """The set once it holds exactly these keys; a process may serve one that is a second old."""
    deadline = asyncio.get_running_loop().time() + 5
    while True:
        keys = await own_keys(system, tenant)
        if {key["kid"] for key in keys} == kids:
            return keys
        assert asyncio.get_running_loop().time() < deadline, keys
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("mode", MODES[1:])
async def test_jwks_when_client_has_keys_then_public_members_only(
    system: System, token: Token, mode: str
) -> None:
    tenant = await system.tenant(token_mode=mode)
    opened = await token.open(tenant)
    answer = await jwks(system, tenant)
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "public, max-age=300"
    keys = answer.json["keys"]
    assert len({key["kid"] for key in keys}) == len(keys)
    assert len(await own_keys(system, tenant)) == 2
    assert header_of(opened.access_token)["kid"] in {key["kid"] for key in keys}
    for key in keys:
        assert set(key) == PUBLIC[key["kty"]]
        assert key["use"] == "sig"
        if key["kty"] == "RSA":
            assert key["e"] == "AQAB"
            assert len(base64.urlsafe_b64decode(key["n"] + "==")) == 256


async def test_jwks_when_etag_is_known_then_304(system: System, token: Token, tenant: Tenant) -> None:
    await token.open(tenant)
    answer = await jwks(system, tenant)
    etag = answer.headers["etag"]
    assert etag.startswith('"')
    for value in (etag, f'"other", {etag}', f"W/{etag}"):
        again = await jwks(system, tenant, **{"if-none-match": value})
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", etag)
    assert (await jwks(system, tenant, **{"if-none-match": '"other"'})).status == 200


async def test_jwks_when_client_is_named_then_no_key_of_another(system: System, token: Token) -> None:
    one, two = await system.tenant(), await system.tenant(token_mode="v2_jwks")
    kids = {}
    for tenant in (one, two):
        await token.open(tenant)
        kids[tenant.id] = {key["kid"] for key in await own_keys(system, tenant)}
    assert not kids[one.id] & kids[two.id]
    by_key = await system.call("token", "GET", JWKS, caller=one.caller(access="public"))
    of_issuer = await issuer_kids(system)
    assert {key["kid"] for key in by_key.json["keys"]} == kids[one.id] | of_issuer
    everything = {key["kid"] for key in (await jwks(system, None)).json["keys"]}
    assert everything >= kids[one.id] | kids[two.id] | of_issuer
    got = await token.verification.GetKeys(verification_pb2.GetKeysRequest(client_id=str(two.id)))
    assert {key["kid"] for key in json.loads(got.jwks_json)["keys"]} == kids[two.id]


async def test_jwks_when_client_is_unknown_then_404_and_malformed_422(system: System) -> None:
    for client_id, status in ((new_id(), 404), ("x", 422)):
        path = f"{JWKS}?client_id={client_id}"
        answer = await system.call("token", "GET", path, caller=system.admin(access="public"))
        assert answer.status == status
        assert "keys" not in answer.json


async def test_jwks_when_client_signs_with_a_secret_then_the_issuers_keys_only(
    system: System, token: Token
) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    await token.open(tenant)
    answer = await jwks(system, tenant)
    assert {key["kid"] for key in answer.json["keys"]} == await issuer_kids(system)
    assert {key["alg"] for key in answer.json["keys"]} == {"RS256", "ES256", "EdDSA"}
    got = await token.verification.GetKeys(verification_pb2.GetKeysRequest(client_id=str(tenant.id)))
    assert json.loads(got.jwks_json) == {"keys": []}


async def test_keys_when_client_was_created_then_made_before_the_first_login(system: System) -> None:
    tenant = await system.tenant(token_mode="v3_es256")
    deadline = asyncio.get_running_loop().time() + 15
    statement = "SELECT status FROM signing_keys WHERE client_id = $1 ORDER BY status"
    while [row["status"] for row in await system.sql("token", statement, tenant.id)] != ["active", "next"]:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.05)


async def test_keys_when_first_logins_race_over_two_processes_then_one_pair(
    system: System, token: Token, tenant: Tenant
) -> None:
    async def ask(number: int) -> str:
        if number % 2:
            return str(header_of((await token.open(tenant)).access_token)["kid"])
        await token.post(tenant, f"/api/admin/clients/{tenant.id}/none", process=1)
        return ""

    kids = {kid for kid in await asyncio.gather(*(ask(number) for number in range(10))) if kid}
    assert len(kids) == 1
    rows = await system.sql("token", "SELECT status FROM signing_keys WHERE client_id = $1", tenant.id)
    assert sorted(row["status"] for row in rows) == ["active", "next"]


async def test_rotation_when_next_key_is_published_long_enough_then_no_validation_fails(
    system: System, token: Token, tenant: Tenant
) -> None:
    """Three rotations under load: neither the service nor a customer's validator misses a key."""
    held = [await token.open(tenant)]
    fetches = 0

    async def fetch() -> dict[str, Any]:
        nonlocal fetches
        fetches += 1
        document: dict[str, Any] = (await jwks(system, tenant)).json
        return document

    # Looks for no key by itself: it must have seen each before that key signs.
    keys = JwksKeys(fetch, max_age=timedelta(hours=1), cooldown=timedelta(hours=1))
    verifier = TokenVerifier(
        keys, issuer=BASE_URL, client_id=str(tenant.id), clock=lambda: system.clock.now().timestamp()
    )
    await keys.refresh()
    used = {header_of(held[-1].access_token)["kid"]}
    stopped = asyncio.Event()

    async def load() -> None:
        while not stopped.is_set():
            for session in (await token.open(tenant), held[-1]):
                used.add(header_of(session.access_token)["kid"])
                assert (await verifier.verify(session.access_token)).sid == session.session_id
                assert (await token.validate(tenant, session.access_token)).valid

    with contextlib.ExitStack() as later:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(load())
            for _ in range(3):
                later.enter_context(system.clock.advanced(LEAD_TIME - timedelta(seconds=1)))
                assert (await rotate(system, tenant, "rotate-signing-key")).code == "rotation_too_soon"
                later.enter_context(system.clock.advanced(timedelta(seconds=2)))
                held.append(await token.open(tenant))  # signed with the key that retires now
                rotated = (await rotate(system, tenant, "rotate-signing-key")).json
                while rotated["active_kid"] not in used:
                    await asyncio.sleep(0.01)
                # Within the max-age a validator fetches anew, and finds the key that will be next.
                await fresh_keys(system, tenant, used | {rotated["next_kid"]})
                await keys.refresh()
            stopped.set()
    assert len(used) == 4
    assert fetches == 4


async def test_rotation_when_next_key_is_too_fresh_then_409_unless_forced(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    refused = await rotate(system, tenant, "rotate-signing-key")
    assert (refused.status, refused.code) == (409, "rotation_too_soon")
    assert 0 < int(refused.headers["retry-after"]) <= LEAD_TIME.total_seconds() + 1
    forced = await rotate(system, tenant, "rotate-signing-key", "?force=true")
    assert forced.status == 200
    assert forced.json["retiring_kid"] == header_of(opened.access_token)["kid"]
    assert (await token.validate(tenant, opened.access_token)).valid
    event = await system.event("signing_key_rotated", client_id=tenant.id)
    assert event.data == forced.json
    assert event.actor_type == "admin_key"


async def test_rotation_when_old_tokens_are_over_then_key_is_unpublished_and_forgotten(
    system: System, token: Token, tenant: Tenant
) -> None:
    opened = await token.open(tenant)
    rotated = (await rotate(system, tenant, "rotate-signing-key", "?force=true")).json
    retiring = header_of(opened.access_token)["kid"]
    statement = "SELECT sealed FROM signing_keys WHERE kid = $1"
    assert (await system.sql("token", statement, retiring))[0]["sealed"] is None
    await fresh_keys(system, tenant, {retiring, rotated["active_kid"], rotated["next_kid"]})
    with system.clock.advanced(timedelta(minutes=20)):
        await fresh_keys(system, tenant, {rotated["active_kid"], rotated["next_kid"]})


async def test_rotation_when_in_parallel_then_keys_stay_distinct(
    system: System, token: Token, tenant: Tenant
) -> None:
    await token.open(tenant)
    answers = await asyncio.gather(
        *(rotate(system, tenant, "rotate-signing-key", "?force=true") for _ in range(5))
    )
    assert {answer.status for answer in answers} == {200}
    assert len({answer.json["active_kid"] for answer in answers}) == 5
    rows = await system.sql("token", "SELECT status FROM signing_keys WHERE client_id = $1", tenant.id)
    assert sorted(row["status"] for row in rows) == ["active", "next", *["retiring"] * 5]
    assert (await token.validate(tenant, (await token.open(tenant)).access_token)).valid


async def test_rotation_when_client_signs_with_a_secret_then_409(system: System) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    answer = await rotate(system, tenant, "rotate-signing-key")
    assert (answer.status, answer.code) == (409, "no_signing_keys")


@pytest.mark.parametrize("action", ["rotate-secret", "rotate-jwt", "rotate-signing-key"])
async def test_rotation_when_client_is_unknown_then_404(system: System, action: str) -> None:
    path = f"/api/admin/clients/{new_id()}/{action}"
    answer = await system.call("token", "POST", path, caller=system.admin())
    assert (answer.status, answer.code) == (404, "client_not_found")


@pytest.mark.parametrize("action", ["rotate-secret", "rotate-jwt"])
async def test_secret_when_rotated_then_old_tokens_die_at_once_and_new_ones_verify_with_it(
    system: System, token: Token, action: str
) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    old = await token.open(tenant)
    assert (await token.validate(tenant, old.access_token)).valid
    answer = await rotate(system, tenant, action)
    assert answer.status == 200
    assert set(answer.json) == {"jwt_secret"}
    secret = answer.json["jwt_secret"]
    assert (await token.validate(tenant, old.access_token)).error in {"token_revoked", "invalid_token"}
    new = await token.open(tenant)
    assert header_of(new.access_token)["kid"] != header_of(old.access_token)["kid"]
    assert (await token.validate(tenant, new.access_token)).valid
    # A customer's server with the secret in its configuration.
    verifier = TokenVerifier(HmacKey(secret), issuer=BASE_URL, client_id=str(tenant.id))
    assert (await verifier.verify(new.access_token)).sid == new.session_id
    # The session itself lives on: its refresh token gets a token under the new secret.
    refreshed = await token.refresh(tenant, old.refresh_token)
    assert (await token.validate(tenant, refreshed.json["access_token"])).valid
    await system.event("jwt_secret_rotated", client_id=tenant.id)
    stored = await system.sql(
        "token", "SELECT s::text AS row FROM jwt_secrets AS s WHERE client_id = $1", tenant.id
    )
    assert all(secret.encode().hex() not in row["row"] and secret not in row["row"] for row in stored)


async def test_secret_when_rotated_in_parallel_then_one_is_alive(system: System, token: Token) -> None:
    tenant = await system.tenant(token_mode="v1_hs256")
    answers = await asyncio.gather(*(rotate(system, tenant, "rotate-secret") for _ in range(5)))
    secrets = {answer.json["jwt_secret"] for answer in answers}
    assert len(secrets) == 5
    opened = await token.open(tenant)
    good = 0
    for secret in secrets:
        verifier = TokenVerifier(HmacKey(secret), issuer=BASE_URL)
        try:
            await verifier.verify(opened.access_token)
        except Exception:
            continue
        good += 1
    assert good == 1


async def test_secret_service_when_called_by_orgs_then_as_the_routes(
    system: System, token: Token, tenant: Tenant
) -> None:
    await token.open(tenant)
    by_key = origin_pb2.Origin(access="admin")
    request = secrets_pb2.RotateSigningKeyRequest(client_id=str(tenant.id), origin=by_key)
    with pytest.raises(AppError) as refusal:
        await token.secrets.RotateSigningKey(request)
    assert refusal.value.code == "rotation_too_soon"
    assert refusal.value.retry_after
    with system.clock.advanced(timedelta(minutes=7)):
        rotated = await token.secrets.RotateSigningKey(request)
    await fresh_keys(system, tenant, {rotated.active_kid, rotated.next_kid, rotated.retiring_kid})
    wanted = secrets_pb2.RotateSecretRequest(client_id=str(tenant.id), origin=by_key)
    made = await token.secrets.RotateSecret(wanted)
    assert made.jwt_secret.startswith("jwt_")


async def test_private_key_when_stored_then_sealed_for_its_own_row(
    system: System, token: Token, tenant: Tenant
) -> None:
    other = await system.tenant()
    await token.open(tenant)
    await token.open(other)
    # Who can write the database puts one client's sealed key into another's row: nothing is signed with it.
    await system.sql(
        "token",
        "UPDATE signing_keys SET sealed = (SELECT sealed FROM signing_keys "
        "WHERE client_id = $1 AND status = 'next') WHERE client_id = $2",
        other.id,
        tenant.id,
    )
    await rotate(system, tenant, "rotate-signing-key", "?force=true")
    with pytest.raises(AppError) as refusal:
        await token.open(tenant)
    assert refusal.value.code == "internal_error"
    assert await token.open(other)


def serving_alone(system: System, port: int, master_key: str) -> dict[str, str]:
    """The environment of a process of the service beside the running ones."""
    settings = system.settings("token")
    return {
        **os.environ,
        "TOKEN_DATABASE_URL": settings.database_url.get_secret_value(),
        "TOKEN_JOBS_DATABASE_URL": settings.jobs_database_url.get_secret_value(),
        "TOKEN_NATS_URL": settings.nats_url.get_secret_value(),
        "TOKEN_INTERNAL_KEYS": settings.internal_keys.get_secret_value(),
        "TOKEN_PORT": str(port),
        "MASTER_KEY": master_key,
        "LOG_LEVEL": "error",
    }


async def test_start_when_master_key_is_another_then_refuses_with_a_line(
    system: System, token: Token, tenant: Tenant
) -> None:
    await token.open(tenant)
    command = [sys.executable, "-m", "services.token", "serve"]
    environment = serving_alone(system, 0, "77" * 32)
    process = await asyncio.create_subprocess_exec(*command, env=environment, stderr=subprocess.PIPE)
    _, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 2
    lines = errors.decode().strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("token refuses to start: MASTER_KEY does not open")


async def test_start_when_master_key_is_the_same_then_serves(
    system: System, token: Token, tenant: Tenant
) -> None:
    await token.open(tenant)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = serving_alone(system, port, system.root_key)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.token", "serve", env=environment
    )
    try:
        deadline = asyncio.get_running_loop().time() + 30
        async with httpx.AsyncClient() as http:
            while True:
                assert process.returncode is None
                assert asyncio.get_running_loop().time() < deadline
                with contextlib.suppress(httpx.TransportError):
                    if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                await asyncio.sleep(0.05)
    finally:
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 30) == 0
