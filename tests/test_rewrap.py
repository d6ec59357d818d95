"""`rewrap`: what is sealed under a former MASTER_KEY is sealed anew, in every service; nothing is missed."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import sys
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import Column, LargeBinary, Table

from chassis.context import Access
from chassis.ids import new_id
from chassis.probes import Probes
from chassis.rewrap import DONE, FAILED, KEEP, rewrap
from chassis.sealing import Sealer, parse_key
from chassis.tables import KEYED, SEALED
from contracts.topology import SERVICES
from services.identity.mail.service import row_name
from tests.admins import new_admin
from tests.harness import System, Tenant

PASSWORD = "violet-harbour-27-lanterns"

NOT_SEALED = {
    "outbox.payload",
    "dead_letters.payload",
    "audit.chain_heads.key_id",
    "audit.chain_heads.mac",
    "identity.passkeys.credential_id",
    "identity.passkeys.public_key",
    "token.users.message",
}
"""Columns of bytes that hold nothing that opens under the master key; what is called a hash is one."""

HASHES = ("hash", "_sha256")


def binary_columns(system: System, service: str) -> list[tuple[Table, Column[Any]]]:
    """Every column of bytes of a service."""
    return [
        (table, column)
        for table in system.definitions[service].tables.sorted_tables
        for column in table.columns
        if isinstance(column.type, LargeBinary)
    ]


def test_column_of_bytes_when_declared_then_rewrap_knows_it_or_it_is_named_here(system: System) -> None:
    """Fails for a new column until somebody says what it holds."""
    unknown = []
    for service in SERVICES:
        for table, column in binary_columns(system, service):
            name = f"{table.name}.{column.name}"
            is_declared = bool({SEALED, KEYED} & column.info.keys())
            is_plain = name.endswith(HASHES) or {name, f"{service}.{name}"} & NOT_SEALED
            if not is_declared and not is_plain:
                unknown.append(f"{service}.{name}")
    assert unknown == []


async def sealed_rows(system: System, service: str) -> dict[str, Counter[bytes]]:
    """How many values of each column of bytes look sealed, by key id."""
    found = {}
    for table, column in binary_columns(system, service):
        name = f'"{column.name}"'
        rows = await system.sql(
            service,
            f"SELECT substring({name} FROM 2 FOR 4) AS key_id, count(*) AS n "
            f"FROM \"{table.name}\" WHERE substring({name} FROM 1 FOR 1) = '\\x01'::bytea "
            f"AND length({name}) >= 33 GROUP BY 1",
        )
        found[f"{table.name}.{column.name}"] = Counter({row["key_id"]: row["n"] for row in rows})
    return found


@pytest.fixture(scope="module")
async def tenants(system: System) -> dict[str, Tenant]:
    """Tenants with something of everything that is sealed."""
    by_mode = {mode: await system.tenant(token_mode=mode) for mode in ("v1_hs256", "v2_jwks", "v3_es256")}
    for tenant in by_mode.values():
        caller = tenant.caller(access="public")
        assert (await system.call("token", "GET", "/.well-known/jwks.json", caller=caller)).status == 200
    tenant = by_mode["v3_es256"]
    person = await signed_up(system, tenant)
    await signed_up(system, by_mode["v1_hs256"])
    mine = tenant.user_caller(
        person["user"]["id"], person["session"]["id"], auth_time=int(system.clock.now().timestamp())
    )
    setup = await system.call("identity", "POST", "/api/auth/totp/setup", caller=mine, json={})
    assert setup.status == 200, setup.body
    await (await new_admin(system)).token()
    path = f"/api/admin/clients/{tenant.id}/service-accounts"
    headers = {"idempotency-key": secrets.token_hex(8)}
    made = await system.call(
        "token", "POST", path, caller=system.admin(), json={"name": "x"}, headers=headers
    )
    assert made.status == 201, made.body
    await transient(system, tenant)
    deadline = asyncio.get_running_loop().time() + 15
    while not await system.sql("audit", "SELECT FROM checkpoint_keys"):
        made = await system.call("audit", "GET", "/.well-known/audit-keys.json", caller=system.admin())
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.1)
    return by_mode


async def signed_up(system: System, tenant: Tenant) -> dict[str, Any]:
    """A new user's answer."""
    body = {"email": f"{new_id()}@example.com", "password": PASSWORD, "token_transport": "json"}
    answer = await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)
    assert answer.status == 201, answer.body
    person: dict[str, Any] = answer.json
    return person


async def transient(system: System, tenant: Tenant) -> None:
    """What lives for seconds only, as a process that stopped in between leaves it; due in a long time."""
    sealer, due, now = Sealer(parse_key(system.root_key)), timedelta(days=9), system.clock.now()
    mail, request, code = new_id(), new_id(), secrets.token_bytes(32)
    await system.sql(
        "identity",
        "INSERT INTO mails (id, client_id, kind, sealed, email_hash, status, attempts, due_at, created_at) "
        "VALUES ($1, $2, 'magic_link', $3, '', 'queued', 0, $4, $5)",
        mail,
        tenant.id,
        sealer.seal(b"letter", row_name(mail)),
        now + due,
        now,
    )
    await system.sql(
        "identity",
        "INSERT INTO mail_requests (id, client_id, kind, sealed, due_at, created_at) "
        "VALUES ($1, $2, 'magic_link', $3, $4, $5)",
        request,
        tenant.id,
        sealer.seal(b"request", f"mail_request:{request}"),
        now + due,
        now,
    )
    await system.sql(
        "token",
        "INSERT INTO exchange_codes (code_hash, client_id, sealed, created_at, expires_at) "
        "VALUES ($1, $2, $3, $4, $5)",
        code,
        tenant.id,
        sealer.seal(b"outcome", f"exchange_code:{code.hex()}"),
        now,
        now + due,
    )


async def run(system: System, service: str, sealer: Sealer) -> tuple[int, dict[str, int], str]:
    """Re-wrap a service: the exit code, how many values of each place, and all that was said."""
    definition, out = system.definitions[service], io.StringIO()
    async with system.db(service) as db:
        code = await rewrap(db, sealer, definition.tables, definition.rewraps, out=out)
    lines = [line.partition(": ") for line in out.getvalue().splitlines() if " sealed anew" in line]
    return code, {place: int(text.split()[0]) for place, _, text in lines}, out.getvalue()


async def test_rewrap_when_the_master_key_was_replaced_then_nothing_is_left_under_the_former_one(
    system: System, tenants: dict[str, Tenant]
) -> None:
    old, new = system.root_key, system.spare_key
    before, after = Sealer(parse_key(old)), Sealer(parse_key(new), parse_key(old))
    seeded = await seeded_places(system, before.key_id)
    try:
        # Without the former key nothing opens, nothing changes, and it is said.
        code, counts, said = await run(system, "token", Sealer(parse_key(new)))
        assert (code, sum(counts.values())) == (FAILED, 0)
        assert "NOT OPENED" in said
        assert "Keep every key" in said
        for service in SERVICES:
            if service == "token":
                await let_graces_pass(system)
                assert await by_command(system, new, old) == DONE
            else:
                code = await by_three_at_once(system, service, after, seeded)
                assert code == (KEEP if service == "audit" else DONE), service
            for place, keys in (await sealed_rows(system, service)).items():
                assert not keys[before.key_id], place
            assert sum((await run(system, service, after))[1].values()) == 0
        await works_without_the_former_key(system, new, tenants)
        # The running processes, which have both keys, go on beside it.
        for tenant in tenants.values():
            await signed_up(system, tenant)
    finally:
        for service in SERVICES:
            await run(system, service, Sealer(parse_key(old), parse_key(new)))


async def let_graces_pass(system: System) -> None:
    """Let five minutes pass for what any test has refreshed just now: its seed is needed no more."""
    await system.sql(
        "token",
        "UPDATE refresh_tokens SET used_at = used_at - interval '5 minutes' "
        "WHERE used_at > now() - interval '5 minutes'",
    )


async def seeded_places(system: System, key_id: bytes) -> dict[str, int]:
    """How many values there are in each place; whatever looks sealed is declared, and each kind is there."""
    seeded = {
        f"{service}.{place}": keys[key_id]
        for service in SERVICES
        for place, keys in (await sealed_rows(system, service)).items()
        if keys[key_id]
    }
    declared = {
        f"{service}.{table.name}.{column.name}"
        for service in SERVICES
        for table, column in binary_columns(system, service)
        if SEALED in column.info
    }
    assert set(seeded) <= declared
    of_the_same_kind = {"identity.totp_secrets.active", "identity.admin_users.totp_pending"}
    answers = {f"{service}.idempotency_keys.answer" for service in SERVICES if service != "token"}
    assert declared - set(seeded) <= of_the_same_kind | answers
    return seeded


async def by_three_at_once(system: System, service: str, sealer: Sealer, seeded: dict[str, int]) -> int:
    """Three share the work, and none of it is done twice."""
    runs = await asyncio.gather(*(run(system, service, sealer) for _ in range(3)))
    done = Counter[str]()
    for _, counts, _ in runs:
        done.update(counts)
    for place, count in seeded.items():
        if place.startswith(f"{service}."):
            assert done[place.partition(".")[2]] == count, place
    return runs[0][0]


async def by_command(system: System, new: str, old: str) -> int:
    """The command as operators run it."""
    settings = system.settings("token")
    environment = {
        **os.environ,
        "TOKEN_DATABASE_URL": settings.database_url.get_secret_value(),
        "TOKEN_JOBS_DATABASE_URL": settings.jobs_database_url.get_secret_value(),
        "TOKEN_NATS_URL": settings.nats_url.get_secret_value(),
        "TOKEN_INTERNAL_KEYS": settings.internal_keys.get_secret_value(),
        "MASTER_KEY": new,
        "MASTER_KEY_PREVIOUS": old,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.token", "rewrap"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await asyncio.wait_for(process.communicate(), 60)
    assert b"signing_keys.sealed: " in said, (said, errors)
    assert b"MASTER_KEY_PREVIOUS may go when every process has this MASTER_KEY" in said
    assert process.returncode is not None
    return process.returncode


async def works_without_the_former_key(system: System, new: str, tenants: dict[str, Tenant]) -> None:
    """A process that has the new key alone starts, publishes the same keys and signs with them."""
    settings = system.settings("token", master_key=SecretStr(new), master_key_previous=None)
    app = system.definitions["token"].build(settings, system.clock)
    async with app.started():
        machine = system.admin(access=Access.OAUTH, admin_permissions=(), admin_scopes=())
        alone = replace(system, faces={"token": app.make_face(Probes(app.required, app.optional))})
        for tenant in tenants.values():
            path = f"/api/admin/clients/{tenant.id}/service-accounts"
            made = await system.call("token", "POST", path, caller=system.admin(), json={"name": "n"})
            account = made.json
            body = {
                "grant_type": "client_credentials",
                "client_id": account["service_account"]["id"],
                "client_secret": account["client_secret"],
            }
            answer = await alone.call("token", "POST", "/oauth/token", caller=machine, json=body)
            assert answer.status == 200, answer.body
