"""The FastAPI dependencies, through HTTP."""

from collections.abc import AsyncIterator
from typing import Annotated

import httpx
import pytest
from fastapi import Depends, FastAPI

from authservice_validator import TokenVerifier, VerifiedClaims
from authservice_validator.fastapi import install_problem_handler, require_scopes, require_user
from authservice_validator.testing import LocalIssuer, ManualClock


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
