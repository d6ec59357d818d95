"""DPoP at the token endpoint (RFC 9449): O-15 to O-18 of bound tokens, and each check of §4.3."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import timedelta
from typing import Any

import pytest

from services.token.tests.conftest import claims_of
from services.token.tests.oauth_flow import Apps, DpopKey, TestApp
from tests.harness import BASE_URL, Answer, Tenant


@pytest.fixture
async def app(apps: Apps, tenant: Tenant) -> TestApp:
    """A public app, which is bound by its key alone."""
    return await apps.public(tenant)


async def knowing_a_nonce(app: TestApp) -> DpopKey:
    """A key whose client has been told a nonce."""
    key = DpopKey()
    answer = await app.redeem("x", headers=key.proof())
    assert (answer.status, answer.json["error"]) == (400, "use_dpop_nonce"), answer.body
    key.learn(answer)
    return key


async def test_code_when_shown_with_a_proof_then_tokens_of_its_key(app: TestApp) -> None:
    key, other = await knowing_a_nonce(app), DpopKey()
    login = await app.login()
    code = await app.code(login, dpop_jkt=key.jkt)
    other.nonce = key.nonce
    assert (await app.redeem(code)).json["error"] == "invalid_grant", "the code is bound to a key"
    assert (await app.redeem(code, headers=other.proof())).json["error"] == "invalid_grant"

    answer = await app.redeem(code, headers=key.proof())

    assert answer.status == 200, answer.body
    assert answer.json["token_type"] == "DPoP"
    assert claims_of(answer.json["access_token"])["cnf"] == {"jkt": key.jkt}
    validated = await app.token.validate(app.tenant, answer.json["access_token"])
    assert (validated.valid, validated.cnf_jkt) == (True, key.jkt)
    key.learn(answer)
    refresh = answer.json["refresh_token"]
    assert (await app.refresh(refresh)).json["error"] == "invalid_grant", "a public app's key is all it has"
    assert (await app.refresh(refresh, headers=other.proof())).json["error"] == "invalid_grant"
    renewed = await app.refresh(refresh, headers=key.proof())
    assert renewed.status == 200, renewed.body
    assert claims_of(renewed.json["access_token"])["cnf"] == {"jkt": key.jkt}


async def test_confidential_app_when_it_refreshes_then_with_any_key_but_never_without(
    apps: Apps, tenant: Tenant
) -> None:
    """RFC 9449 §5: its own credentials bind the token, its key may change; it cannot be made a bearer's."""
    app = await apps.create(tenant, dpop_bound_access_tokens=True)
    key, other = await knowing_a_nonce(app), DpopKey()
    other.nonce = key.nonce
    code = await app.code(await app.login())
    assert (await app.redeem(code)).json["error"] == "invalid_dpop_proof", "it said that it always shows one"
    answer = await app.redeem(code, headers=key.proof())
    assert answer.status == 200, answer.body
    refresh = answer.json["refresh_token"]
    assert (await app.refresh(refresh)).json["error"] == "invalid_dpop_proof"
    renewed = await app.refresh(refresh, headers=other.proof())
    assert claims_of(renewed.json["access_token"])["cnf"] == {"jkt": other.jkt}


async def test_proof_when_any_check_fails_then_refused_and_the_code_not_used(app: TestApp) -> None:
    key, stranger = await knowing_a_nonce(app), DpopKey()
    code, now = await app.code(await app.login()), int(time.time())

    async def ask(headers: dict[str, str]) -> str:
        answer = await app.redeem(code, headers=headers)
        assert answer.status == 400, answer.body
        assert answer.headers["cache-control"] == "no-store"
        return str(answer.json["error"])

    good = key.proof()["dpop"]
    header, payload, signature = good.split(".")
    symmetric = {"kty": "oct", "k": "AAAA"}
    forged: dict[str, dict[str, str]] = {
        "typ": key.proof({"typ": "JWT"}),
        "no jwk": key.proof({"jwk": None}),
        "another's key": key.proof({"jwk": stranger.jwk}),
        "private key": key.proof({"jwk": {**key.jwk, "d": "AAAA"}}),
        "symmetric key": key.proof({"jwk": symmetric}),
        "crit": key.proof({"crit": ["x"]}),
        "htm": key.proof(htm="GET"),
        "no htm": key.proof(htm=None),
        "htu": key.proof(htu="https://evil.example/token"),
        "htu of another endpoint": key.proof(htu=f"{BASE_URL}/revoke"),
        "htu with a user": key.proof(htu=BASE_URL.replace("://", "://x@") + "/token"),
        "iat too old": key.proof(iat=now - 61),
        "iat ahead": key.proof(iat=now + 120),
        "iat larger than any float": key.proof(iat=10**400),
        "iat smaller than any float": key.proof(iat=-(10**400)),
        "no iat": key.proof(iat=None),
        "iat as text": key.proof(iat=str(now)),
        "no jti": key.proof(jti=None),
        "empty jti": key.proof(jti=""),
        "jti too long": key.proof(jti="x" * 600),
        "unsigned": {"dpop": f"{header}.{payload}."},
        "alg none": {"dpop": f"{_part({'typ': 'dpop+jwt', 'alg': 'none', 'jwk': key.jwk})}.{payload}."},
        "other signature": {"dpop": f"{header}.{payload}.{signature[::-1]}"},
        "two": {"dpop": f"{good}, {key.proof()['dpop']}"},
        "garbage": {"dpop": "x"},
        "too long": {"dpop": "x" * 20_000},
    }
    for name, headers in forged.items():
        assert await ask(headers) == "invalid_dpop_proof", name
    for nonce in (None, "x", key.nonce[:-1] + ("A" if key.nonce[-1] != "A" else "B")):
        assert await ask(key.proof(nonce=nonce)) == "use_dpop_nonce"
    with app.system.clock.advanced(timedelta(minutes=11)):
        assert await ask(key.proof(iat=now + 660)) == "use_dpop_nonce", "an old nonce"
    assert (await app.redeem(code, headers={"dpop": good})).status == 200


async def test_proof_when_shown_twice_then_good_once_at_any_process(app: TestApp) -> None:
    key = await knowing_a_nonce(app)
    proof = key.proof()
    codes = [await app.code(await app.login()) for _ in range(4)]

    async def show(number: int) -> Answer:
        return await app.redeem(codes[number % 4], headers=proof, process=number % 2)

    answers = await asyncio.gather(*(show(number) for number in range(20)))
    assert sum(answer.status == 200 for answer in answers) == 1
    assert {a.json["error"] for a in answers if a.status != 200} == {"invalid_dpop_proof"}


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()
