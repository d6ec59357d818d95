"""The FastAPI dependencies, through HTTP."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from authservice_validator import ProtectedResource, TokenVerifier, VerifiedClaims
from authservice_validator.fastapi import (
    install_problem_handler,
    metadata_router,
    require,
    require_scopes,
    require_user,
)
from authservice_validator.testing import LocalIssuer, ManualClock, ProofKey


def build(verifier: TokenVerifier) -> FastAPI:
    app = FastAPI()
    user, reader = require_user(verifier), require_scopes(verifier, "orders:read", "orders:list")

    @app.get("/me")
    async def me(claims: Annotated[VerifiedClaims, Depends(user)]) -> str:
        return claims.sub

    @app.get("/orders")
    async def orders(claims: Annotated[VerifiedClaims, Depends(reader)]) -> list[str]:
        return list(claims.scopes)

    return app


@pytest.fixture
async def http(verifier: TokenVerifier) -> AsyncIterator[httpx.AsyncClient]:
    app = build(verifier)
    install_problem_handler(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_require_user_when_the_token_is_good_then_gives_its_claims(
    http: httpx.AsyncClient, issuer: LocalIssuer
) -> None:
    for scheme in ("Bearer", "bearer", "BEARER"):
        answer = await http.get("/me", headers={"Authorization": f"{scheme} {issuer.token('k1')}"})
        assert (answer.status_code, answer.json()) == (200, "u1")


async def test_require_user_when_nothing_is_sent_then_names_the_scheme_only(http: httpx.AsyncClient) -> None:
    answer = await http.get("/me")
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Unauthorized",
        "status": 401,
        "detail": "An access token is needed.",
        "code": "missing_token",
    }


@pytest.mark.parametrize(
    "value", ["Bearer", "Bearer ", "Bearer  x.y.z", "Basic dTpw", "Token x.y.z", "x.y.z", "Bearer x.y.z"]
)
async def test_require_user_when_the_header_is_bad_then_answers_401(
    value: str, http: httpx.AsyncClient
) -> None:
    answer = await http.get("/me", headers={"Authorization": value})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")
    assert answer.headers["WWW-Authenticate"].startswith('Bearer error="invalid_token"')
    assert answer.headers["Cache-Control"] == "no-store"


async def test_require_user_when_sent_two_tokens_then_answers_401(
    http: httpx.AsyncClient, issuer: LocalIssuer
) -> None:
    good = ("Authorization", f"Bearer {issuer.token('k1')}")
    answer = await http.get("/me", headers=[good, good])
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


async def test_require_user_when_expired_or_revoked_then_the_code_says_so(
    http: httpx.AsyncClient, issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    now = int(clock())
    expired = await http.get("/me", headers=bearer(issuer.token("k1", exp=now - 31, iat=now - 900)))
    assert (expired.status_code, expired.json()["code"]) == (401, "token_expired")
    token = issuer.token("k1")
    assert (await http.get("/me", headers=bearer(token))).status_code == 200
    verifier.revocations.add("session", "s1", now, now + 900)
    revoked = await http.get("/me", headers=bearer(token))
    assert (revoked.status_code, revoked.json()["code"]) == (401, "token_revoked")
    assert revoked.headers["WWW-Authenticate"] == expired.headers["WWW-Authenticate"]


async def test_require_user_when_the_token_is_bound_to_a_key_then_it_is_no_bearer_token(
    http: httpx.AsyncClient, issuer: LocalIssuer
) -> None:
    token = issuer.token("k1", cnf={"jkt": "x"})
    for _ in range(2):  # the second from the cache
        answer = await http.get("/me", headers=bearer(token))
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_token")


async def test_require_user_when_keys_are_unavailable_then_answers_503(
    http: httpx.AsyncClient, issuer: LocalIssuer
) -> None:
    issuer.is_away = True
    answer = await http.get("/me", headers=bearer(issuer.token("k1")))
    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")
    assert answer.headers["Retry-After"] == "2"
    assert "WWW-Authenticate" not in answer.headers


async def test_require_scopes_when_one_is_lacking_then_answers_403(
    http: httpx.AsyncClient, issuer: LocalIssuer
) -> None:
    both = await http.get("/orders", headers=bearer(issuer.token("k1", scope="orders:list orders:read")))
    assert (both.status_code, both.json()) == (200, ["orders:list", "orders:read"])
    one = await http.get("/orders", headers=bearer(issuer.token("k1", scope="orders:read", jti="t2")))
    assert (one.status_code, one.json()["code"]) == (403, "insufficient_scope")
    challenge = 'Bearer error="insufficient_scope", scope="orders:read orders:list"'
    assert one.headers["WWW-Authenticate"] == challenge
    assert (await http.get("/orders")).status_code == 401


async def test_require_user_without_the_problem_handler_then_refuses_all_the_same(
    verifier: TokenVerifier,
) -> None:
    transport = httpx.ASGITransport(build(verifier))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/me")
    assert (answer.status_code, answer.json()) == (401, {"detail": "An access token is needed."})
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_openapi_when_generated_then_names_the_scheme(verifier: TokenVerifier) -> None:
    document = build(verifier).openapi()
    assert document["paths"]["/me"]["get"]["security"] == [{"HTTPBearer": []}]


def test_require_scopes_when_none_is_named_then_is_refused(verifier: TokenVerifier) -> None:
    with pytest.raises(ValueError, match="scope"):
        require_scopes(verifier)


RESOURCE = "https://api.example.com"
METADATA = f'resource_metadata="{RESOURCE}/.well-known/oauth-protected-resource"'


@pytest.fixture
async def guarded(verifier: TokenVerifier) -> AsyncIterator[httpx.AsyncClient]:
    """A resource that takes bound tokens, asks for a fresh login, and tells of itself."""
    resource = ProtectedResource(
        verifier, resource=RESOURCE, authorization_servers=["https://auth.test"], dpop="accepted"
    )
    nonced = ProtectedResource(verifier, resource=RESOURCE, dpop="required", nonce=lambda: "n-1")
    app, mounted = FastAPI(), FastAPI()
    strong = require(resource, acr_values=["urn:authservice:acr:2fa"], max_age=timedelta(minutes=5))

    @mounted.get("/orders")
    async def orders(claims: Annotated[VerifiedClaims, Depends(require_user(resource))]) -> str:
        return claims.sub

    @app.post("/transfers")
    async def transfer(claims: Annotated[VerifiedClaims, Depends(strong)]) -> str:
        return claims.sub

    @app.get("/nonced")
    async def with_nonce(claims: Annotated[VerifiedClaims, Depends(require_user(nonced))]) -> str:
        return claims.sub

    app.include_router(metadata_router(resource))
    app.mount("/shop", mounted)
    install_problem_handler(app)
    install_problem_handler(mounted)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        yield client


async def test_require_when_the_login_is_weak_or_old_then_asks_for_another(
    guarded: httpx.AsyncClient, issuer: LocalIssuer, clock: ManualClock
) -> None:
    now = int(clock())
    good = issuer.token("k1", acr="urn:authservice:acr:2fa", auth_time=now - 300)
    assert (await guarded.post("/transfers", headers=bearer(good))).status_code == 200
    clock.advance(1)
    old = await guarded.post("/transfers", headers=bearer(good))
    assert (old.status_code, old.json()["code"]) == (401, "insufficient_user_authentication")
    wanted = f'acr_values="urn:authservice:acr:2fa", max_age="300", {METADATA}'
    assert old.headers["WWW-Authenticate"].startswith('Bearer error="insufficient_user_authentication"')
    assert old.headers["WWW-Authenticate"].endswith(wanted)


async def test_require_when_a_bound_token_has_its_proof_then_it_comes_in_once(
    guarded: httpx.AsyncClient, issuer: LocalIssuer, clock: ManualClock
) -> None:
    key, url = ProofKey(clock), f"{RESOURCE}/shop/orders"
    token = issuer.token("k1", cnf={"jkt": key.jkt})
    proof = key.proof("GET", url, token)
    headers = {"Authorization": f"DPoP {token}", "DPoP": proof}
    answers = await asyncio.gather(*(guarded.get("/shop/orders?page=2", headers=headers) for _ in range(20)))
    assert sorted(answer.status_code for answer in answers) == [200] + [401] * 19
    assert {answer.json()["code"] for answer in answers if answer.status_code == 401} == {
        "invalid_dpop_proof"
    }
    stolen = {**headers, "DPoP": ProofKey(clock).proof("GET", url, token)}
    elsewhere = {**headers, "DPoP": key.proof("GET", f"{RESOURCE}/orders", token)}
    for wrong in (stolen, elsewhere, bearer(token)):
        assert (await guarded.get("/shop/orders", headers=wrong)).status_code == 401


async def test_require_when_a_nonce_is_due_then_asks_for_it_and_takes_it(
    guarded: httpx.AsyncClient, issuer: LocalIssuer, clock: ManualClock
) -> None:
    key, url = ProofKey(clock), f"{RESOURCE}/nonced"
    token = issuer.token("k1", cnf={"jkt": key.jkt})
    headers = {"Authorization": f"DPoP {token}", "DPoP": key.proof("GET", url, token)}
    asked = await guarded.get("/nonced", headers=headers)
    assert (asked.status_code, asked.json()["code"], asked.headers["DPoP-Nonce"]) == (
        401,
        "use_dpop_nonce",
        "n-1",
    )
    headers["DPoP"] = key.proof("GET", url, token, nonce="n-1")
    assert (await guarded.get("/nonced", headers=headers)).status_code == 200


async def test_metadata_when_asked_then_says_what_the_resource_takes(guarded: httpx.AsyncClient) -> None:
    answer = await guarded.get("/.well-known/oauth-protected-resource")
    assert answer.json() == {
        "resource": RESOURCE,
        "authorization_servers": ["https://auth.test"],
        "bearer_methods_supported": ["header"],
        "dpop_signing_alg_values_supported": ["ES256", "EdDSA", "RS256"],
    }
    assert (
        (await guarded.post("/transfers")).headers["WWW-Authenticate"].startswith(f"Bearer {METADATA}, DPoP")
    )


@pytest.mark.parametrize(
    ("scopes", "acr_values", "max_age"),
    [(['a" error="x'], [], None), ([], ["a\r\nb"], None), ([], [], timedelta(seconds=0.5))],
)
def test_require_when_a_need_would_break_a_challenge_then_is_refused(
    scopes: list[str], acr_values: list[str], max_age: timedelta | None, verifier: TokenVerifier
) -> None:
    with pytest.raises(ValueError, match=r"words|seconds"):
        require(verifier, scopes=scopes, acr_values=acr_values, max_age=max_age)
    with pytest.raises(ValueError, match="resource"):
        ProtectedResource(verifier, dpop="required")
