"""A-07: an identity provider's word about an admin, forged, replayed, meant for others; and taken once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from services.identity.tests.conftest import another_identity
from tests.admins import TestAdmin, call_anonymously, new_admin
from tests.fake_http import FakeHttp, fake_http
from tests.harness import Answer, System

CONSOLE = "console"
RSA_KEY = rsa.generate_private_key(65537, 2048)
EC_KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = rsa.generate_private_key(65537, 2048)


def jwk(key: Any, algorithm: Any, kid: str) -> dict[str, Any]:
    return {**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}


@dataclass(frozen=True)
class Provider:
    """An identity provider that says what the test wants."""

    system: System
    fake: FakeHttp
    admin: TestAdmin

    def claims(self, **changes: Any) -> dict[str, Any]:
        now = int(self.system.clock.now().timestamp())
        claims = {
            "iss": self.fake.url,
            "sub": self.admin.document["sso_identity"]["subject"],
            "aud": CONSOLE,
            "iat": now,
            "exp": now + 300,
        }
        return {name: value for name, value in {**claims, **changes}.items() if value is not None}

    def assertion(self, key: Any = RSA_KEY, alg: str = "RS256", kid: str = "rsa", **changes: Any) -> str:
        headers = {"kid": kid, **changes.pop("headers", {})}
        return jwt.encode(self.claims(**changes), key, alg, headers)

    async def hand_over(self, assertion: str) -> Answer:
        return await call_anonymously(self.system, "sso", {"assertion": assertion})


@pytest.fixture
async def provider(system: System) -> AsyncIterator[Provider]:
    async with fake_http() as fake:
        keys = [
            jwk(RSA_KEY, jwt.algorithms.RSAAlgorithm, "rsa"),
            jwk(EC_KEY, jwt.algorithms.ECAlgorithm, "ec"),
        ]
        fake.answer = {"issuer": fake.url, "jwks_uri": f"{fake.url}/keys", "keys": keys}
        identity = {"issuer": fake.url, "subject": "ada@company"}
        admin = await new_admin(system, password=None, mfa_required=False, sso_identity=identity)
        async with another_identity(system, admin_sso_issuer=fake.url, admin_sso_client_id=CONSOLE):
            yield Provider(system, fake, admin)


async def test_an_assertion_opens_once(provider: Provider) -> None:
    assertion = provider.assertion()
    answers = await asyncio.gather(*(provider.hand_over(assertion) for _ in range(20)))
    assert sorted(answer.status for answer in answers) == [200] + [401] * 19
    event = await provider.system.event("admin_login_succeeded", client_id=None, amr=["sso"])
    assert str(event.target_id) == provider.admin.id

    again = await provider.hand_over(assertion)
    assert (again.status, again.code) == (401, "invalid_assertion")
    older = await provider.hand_over(provider.assertion(iat=provider.claims()["iat"] - 60))
    assert (older.status, older.code) == (401, "invalid_assertion")
    newer = provider.claims()["iat"] + 1
    assert (await provider.hand_over(provider.assertion(EC_KEY, "ES256", "ec", iat=newer))).status == 200


def tampered(assertion: str, **changes: Any) -> str:
    """The assertion with other claims and the old signature."""
    header, payload, signature = assertion.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    other = base64.urlsafe_b64encode(json.dumps({**claims, **changes}).encode()).rstrip(b"=").decode()
    return f"{header}.{other}.{signature}"


async def test_what_is_not_the_providers_word_opens_nothing(provider: Provider) -> None:
    now = provider.claims()["iat"]
    public = RSA_KEY.public_key().public_numbers().n.to_bytes(256, "big")
    unsigned = jwt.encode(provider.claims(), "", "none", {"kid": "rsa"})
    forged = {
        "unsigned": unsigned,
        "unsigned, with a signature's look": unsigned + "AAAA",
        "another's signature": provider.assertion(STRANGER),
        "a public key as a secret": provider.assertion(public, "HS256"),
        "a key of another algorithm": provider.assertion(EC_KEY, "ES256", "rsa"),
        "an unknown key": provider.assertion(kid="none-such"),
        "an access token": provider.assertion(headers={"typ": "at+jwt"}),
        "a key of its own": provider.assertion(headers={"jwk": {"kty": "RSA"}}),
        "changed": tampered(provider.assertion(), sub="another@company"),
        "another issuer": provider.assertion(iss="https://idp.example.com"),
        "another audience": provider.assertion(aud="shop"),
        "also another audience": provider.assertion(aud=[CONSOLE, "shop"]),
        "no audience": provider.assertion(aud=None),
        "another party": provider.assertion(azp="shop"),
        "nobody": provider.assertion(sub=None),
        "a stranger": provider.assertion(sub="eve@company"),
        "expired": provider.assertion(exp=now - 3600),
        "without end": provider.assertion(exp=None),
        "old": provider.assertion(iat=now - 3600),
        "of the future": provider.assertion(iat=now + 3600),
        "of no time": provider.assertion(iat=None),
        "no token": "x",
    }
    for what, assertion in forged.items():
        answer = await provider.hand_over(assertion)
        assert (answer.status, answer.code) == (401, "invalid_assertion"), what
    failed = await provider.system.event("admin_login_failed", client_id=None, reason="unknown_identity")
    assert failed.target_id is None
    assert (await provider.hand_over(provider.assertion())).status == 200


async def test_second_factor_is_the_providers_or_ours(provider: Provider) -> None:
    change = {"mfa_required": True}
    path = f"/api/admin/users/{provider.admin.id}"
    await provider.system.call("identity", "PATCH", path, caller=provider.system.admin(), json=change)
    now = provider.claims()["iat"]

    waiting = await provider.hand_over(provider.assertion(iat=now))
    assert (waiting.status, waiting.json.get("mfa_enrollment_required")) == (200, True)
    assert "access_token" not in waiting.json
    vouched = await provider.hand_over(provider.assertion(iat=now + 1, amr=["pwd", "mfa"]))
    assert "access_token" in vouched.json

    suspended = {"status": "suspended"}
    await provider.system.call("identity", "PATCH", path, caller=provider.system.admin(), json=suspended)
    refused = await provider.hand_over(provider.assertion(iat=now + 2, amr=["mfa"]))
    assert (refused.status, refused.code) == (401, "invalid_assertion")


async def test_without_a_provider_nobody_comes_by_one(system: System, provider: Provider) -> None:
    async with another_identity(system):
        answer = await provider.hand_over(provider.assertion())
    assert (answer.status, answer.code) == (503, "feature_unavailable")
    provider.fake.answer = {"issuer": "https://idp.example.com", "keys": []}
    away = {"admin_sso_issuer": provider.fake.url, "admin_sso_client_id": CONSOLE}
    async with another_identity(system, **away):
        answer = await provider.hand_over(provider.assertion())
    assert (answer.status, answer.code) == (503, "feature_unavailable")
