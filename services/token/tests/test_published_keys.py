"""The key set of the whole installation, and the issuer's own keys in it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from importlib import import_module
from typing import Any
from uuid import uuid4

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from authservice_validator import JwksKeys, TokenInvalid, TokenVerifier
from sqlalchemy import create_engine, text

from chassis.probes import Probes
from chassis.sealing import Sealer, parse_key
from services.token.signing.algorithms import Algorithm, generate, load_signer
from services.token.signing.keyring import ISSUER_ALGORITHMS, row_of
from services.token.signing.models import ISSUER_ID
from services.token.tests.conftest import Token, claims_of, header_of
from tests.harness import BASE_URL, System

JWKS = "/.well-known/jwks.json"


async def test_jwks_of_all_when_there_are_more_clients_than_allowed_then_the_issuers_keys_only(
    system: System, token: Token
) -> None:
    tenants = [await system.tenant() for _ in range(2)]
    kids = {header_of((await token.open(tenant)).access_token)["kid"] for tenant in tenants}
    anybody = system.admin(access="public")
    path = f"{JWKS}?client_id={ISSUER_ID}"
    issuers = (await system.call("token", "GET", path, caller=anybody)).json["keys"]
    assert {key["alg"] for key in issuers} == {str(algorithm) for algorithm in ISSUER_ALGORITHMS}
    assert all(key["kid"].startswith("issuer.") for key in issuers)
    assert not any("." in kid for kid in kids)
    app = system.definitions["token"].build(system.settings("token", jwks_max_clients=1), system.clock)
    async with app.started():
        capped = replace(system, faces={"token": app.make_face(Probes(app.required, app.optional))})
        for _ in range(2):
            answer = await capped.call("token", "GET", JWKS, caller=anybody)
            assert answer.status == 200
            assert answer.json["keys"] == issuers
        named = await capped.call("token", "GET", f"{JWKS}?client_id={tenants[0].id}", caller=anybody)
        by_key = await capped.call("token", "GET", JWKS, caller=tenants[0].caller(access="public"))
        assert (named.status, by_key.status) == (200, 200)
        assert named.body == by_key.body
        assert len(named.json["keys"]) > len(issuers)
    # The control; on a process of its own, as one that gave the set keeps it for a second.
    app = system.definitions["token"].build(system.settings("token"), system.clock)
    async with app.started():
        roomy = replace(system, faces={"token": app.make_face(Probes(app.required, app.optional))})
        everything = (await roomy.call("token", "GET", JWKS, caller=anybody)).json["keys"]
        assert {key["kid"] for key in everything} >= kids | {key["kid"] for key in issuers}


@pytest.mark.parametrize("mode", ["v1_hs256", "v2_jwks", "v3_es256", "v3_eddsa"])
async def test_access_token_when_signed_by_the_issuers_key_then_is_refused(
    system: System, token: Token, mode: str
) -> None:
    """The issuer's keys are in each client's public set, and are no key of its access tokens."""
    tenant = await system.tenant(token_mode=mode)
    session = await token.open(tenant)
    assert (await token.validate(tenant, session.access_token)).valid
    public = await system.call("token", "GET", JWKS, caller=tenant.caller(access="public"))

    async def fetch() -> dict[str, object]:
        document: dict[str, object] = public.json
        return document

    verifier = TokenVerifier(
        JwksKeys(fetch),
        issuer=BASE_URL,
        client_id=str(tenant.id),
        clock=lambda: system.clock.now().timestamp(),
    )
    if mode != "v1_hs256":
        assert (await verifier.verify(session.access_token)).sid == session.session_id
    claims = {**claims_of(session.access_token), "jti": str(uuid4())}
    sealer = Sealer(parse_key(system.root_key))
    for algorithm in ISSUER_ALGORITHMS:
        row = await system.sql(
            "token",
            "SELECT kid, sealed FROM signing_keys WHERE client_id = $1 AND alg = $2 AND status = 'active'",
            ISSUER_ID,
            str(algorithm),
        )
        private = sealer.open(row[0]["sealed"], row_of(algorithm, row[0]["kid"]))
        issuer = load_signer(algorithm, row[0]["kid"], private, is_issuer=True)
        assert row[0]["kid"] in {key["kid"] for key in public.json["keys"]}
        # What the issuer does sign, with the very claims of an access token: its type tells it apart.
        # And were it tricked into the type: the key is not the client's, as its name tells.
        forged = await load_signer(algorithm, row[0]["kid"], private).token(claims)
        for refused in (await issuer.token(claims, "JWT"), forged):
            with pytest.raises(TokenInvalid):
                await verifier.verify(refused)
            assert (await token.validate(tenant, refused)).error == "invalid_token"


async def test_migration_when_issuer_keys_are_named_as_clients_then_published_and_sign_no_more(
    system: System,
) -> None:
    """On the real tables, in a transaction that is taken back; the ES256 keys are the control."""
    path = f"{JWKS}?client_id={ISSUER_ID}"
    assert (await system.call("token", "GET", path, caller=system.admin(access="public"))).status == 200
    revision = import_module("services.token.migrations.versions.0011_names_of_issuer_keys")
    url = system.environment["TOKEN_MIGRATION_DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:", 1)

    def migrated() -> list[tuple[Any, ...]]:
        engine = create_engine(url)
        with engine.connect() as connection:
            connection.execute(
                text(
                    "UPDATE signing_keys SET kid = replace(kid, 'issuer.', 'former-') "
                    "WHERE client_id = :issuer AND alg = 'RS256'"
                ),
                {"issuer": ISSUER_ID},
            )
            with Operations.context(MigrationContext.configure(connection)):
                revision.upgrade()
            rows = connection.execute(
                text(
                    "SELECT DISTINCT alg, status, sealed IS NULL, kid LIKE 'former-%' FROM signing_keys "
                    "WHERE client_id = :issuer AND alg IN ('RS256', 'ES256') AND "
                    "(status <> 'retiring' OR retires_at > now() + interval '90 days')"
                ),
                {"issuer": ISSUER_ID},
            )
            found = [tuple(row) for row in rows]
            connection.rollback()
        engine.dispose()
        return found

    found = await asyncio.to_thread(migrated)
    assert {row for row in found if row[0] == "RS256"} == {("RS256", "retiring", True, True)}
    assert set(found) >= {("ES256", "active", False, False), ("ES256", "next", False, False)}


async def test_signer_when_asked_for_the_other_kind_of_token_then_refuses() -> None:
    pair = generate(Algorithm.EDDSA, of_issuer=False)
    client = load_signer(Algorithm.EDDSA, pair.kid, pair.private)
    issuer = load_signer(Algorithm.EDDSA, pair.kid, pair.private, is_issuer=True)
    assert header_of(await client.token({})) == {"alg": "EdDSA", "typ": "at+jwt", "kid": pair.kid}
    for typ in ("JWT", "logout+jwt", "token-introspection+jwt"):
        assert header_of(await issuer.token({}, typ))["typ"] == typ
        assert claims_of(await issuer.token({"a": "ü"}, typ)) == {"a": "ü"}
        with pytest.raises(ValueError, match="client's key"):
            await client.token({}, typ)
    with pytest.raises(ValueError, match="the issuer's key"):
        await issuer.token({})
