"""Forged, changed and misused access tokens at every place that accepts one (group J)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from jwt import PyJWK

from tests.e2e.stack import TOKEN_MODES, Login, Stack, Tenant, eventually

Json = dict[str, Any]
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def b64(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(token: str, index: int) -> Json:
    """One JSON part of a token."""
    text = token.split(".")[index]
    return dict(json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))))


def signed(header: Json | str, claims: Json | str, sign: Callable[[bytes], bytes]) -> str:
    """Build a token; text stands for itself."""
    parts = [value if isinstance(value, str) else json.dumps(value) for value in (header, claims)]
    text = ".".join(b64(value.encode()) for value in parts)
    return f"{text}.{b64(sign(text.encode()))}"


def hs(secret: bytes, algorithm: hashes.HashAlgorithm | None = None) -> Callable[[bytes], bytes]:
    """Sign with HMAC."""

    def sign(text: bytes) -> bytes:
        mac = hmac.HMAC(secret, algorithm or hashes.SHA256())
        mac.update(text)
        return mac.finalize()

    return sign


def unsigned(_text: bytes) -> bytes:
    """Sign with nothing."""
    return b""


async def assert_refused(stack: Stack, tenant: Tenant, token: str, why: str) -> None:
    """Neither gateway, nor `ValidateToken` or introspection in either process, takes the token."""
    headers = {**tenant.headers, "authorization": f"Bearer {token}"}
    for gateway in (0, 1):
        answer = await stack.call("GET", "/api/auth/me", headers=headers, gateway=gateway)
        assert answer.status_code in (401, 431), (why, answer.text)
        validated = await stack.validate(token, tenant.api_key, gateway=gateway)
        assert (validated.valid, validated.user_id) == (False, ""), why
    assert (await introspect(stack, tenant, token)).content == b'{"active":false}', why


async def introspect(stack: Stack, tenant: Tenant, token: str) -> httpx.Response:
    """Ask what a token of the client's is worth."""
    credentials = (tenant.id, tenant.api_key)
    return await stack.call("POST", "/introspect", data={"token": token}, auth=credentials, gateway=1)


async def assert_accepted(stack: Stack, user: Login) -> None:
    """The unchanged token is good."""
    assert (await stack.call("GET", "/api/auth/me", user)).status_code == 200
    assert (await stack.validate(user.access_token, user.tenant.api_key)).valid
    assert (await introspect(stack, user.tenant, user.access_token)).json()["active"] is True


class Evil:
    """A server that a token may name, and that nobody must call."""

    def __init__(self) -> None:
        self.hits = 0
        self.url = ""

    async def hear(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count a call, and answer nothing."""
        self.hits += 1
        writer.close()


@pytest.fixture
async def evil() -> AsyncIterator[Evil]:
    """Somebody's server; after the test nobody has called it, and it would have heard."""
    listening = Evil()
    async with await asyncio.start_server(listening.hear, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        listening.url = f"http://127.0.0.1:{port}/evil"
        yield listening
        assert listening.hits == 0
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        async with asyncio.timeout(5):
            while listening.hits == 0:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("mode", TOKEN_MODES)
async def test_token_when_unsigned_then_is_refused(stack: Stack, mode: str) -> None:
    """J-01."""
    user = await stack.sign_up(await stack.tenant(token_mode=mode))
    await assert_accepted(stack, user)
    header, claims = part(user.access_token, 0), part(user.access_token, 1)
    signature = user.access_token.rpartition(".")[2]
    for alg in ("none", "None", "NONE", "nOnE", "", None):
        bare = signed({**header, "alg": alg}, claims, unsigned)
        await assert_refused(stack, user.tenant, bare, f"alg {alg}")
        await assert_refused(stack, user.tenant, bare + signature, f"alg {alg}, old signature")
        await assert_refused(stack, user.tenant, bare.rstrip("."), f"alg {alg}, two parts")
    empty = user.access_token.rpartition(".")[0]
    await assert_refused(stack, user.tenant, f"{empty}.", "no signature")


@pytest.mark.parametrize("mode", [mode for mode in TOKEN_MODES if mode != "v1_hs256"])
async def test_token_when_hmac_is_keyed_by_the_public_key_then_is_refused(stack: Stack, mode: str) -> None:
    """J-02."""
    user = await stack.sign_up(await stack.tenant(token_mode=mode))
    await assert_accepted(stack, user)
    header, claims = part(user.access_token, 0), part(user.access_token, 1)
    answer = await stack.call("GET", "/.well-known/jwks.json", params={"client_id": user.tenant.id})
    jwk = next(key for key in answer.json()["keys"] if key["kid"] == header["kid"])
    public = PyJWK(jwk).key
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    pem = public.public_bytes(serialization.Encoding.PEM, spki)
    secrets = (
        pem,
        pem.strip(),
        public.public_bytes(serialization.Encoding.DER, spki),
        json.dumps(jwk).encode(),
        json.dumps(jwk, separators=(",", ":")).encode(),
        b"",
        b"\0",
        b"secret",
        user.tenant.id.encode(),
        user.tenant.api_key.encode(),
    )
    for secret in secrets:
        forged = signed({**header, "alg": "HS256"}, claims, hs(secret))
        await assert_refused(stack, user.tenant, forged, f"HMAC keyed by {secret[:20]!r}")
    for alg, digest in (("HS384", hashes.SHA384()), ("HS512", hashes.SHA512())):
        forged = signed({**header, "alg": alg}, claims, hs(pem, digest))
        await assert_refused(stack, user.tenant, forged, alg)


@dataclass(frozen=True)
class Forger:
    """A tenant in `v1_hs256` whose operators know its secret: they can sign whatever they like."""

    user: Login
    secret: bytes
    header: Json
    claims: Json

    def sign(self, header: Json | None = None, **claims: Any) -> str:
        """Sign the genuine claims with changes; None removes a claim."""
        changed = {name: value for name, value in {**self.claims, **claims}.items() if value is not None}
        return signed({**self.header, **(header or {})}, changed, hs(self.secret))


@pytest.fixture
async def forger(stack: Stack) -> Forger:
    """Someone with a genuine HS256 secret."""
    user = await stack.sign_up(await stack.tenant(token_mode="v1_hs256"))
    path = f"/api/admin/clients/{user.tenant.id}/rotate-secret"
    rotated = await stack.call("POST", path, stack.admin)
    assert rotated.status_code == 200, rotated.text
    await assert_refused(stack, user.tenant, user.access_token, "signed by the old secret")

    user = await stack.log_in(user)
    header, claims = part(user.access_token, 0), part(user.access_token, 1)
    text = rotated.json()["jwt_secret"]
    forger = Forger(user, text.encode(), header, claims)
    again = Login(user.tenant, user.email, user.user_id, user.session_id, forger.sign(), "")
    await assert_accepted(stack, again)
    return forger


async def test_token_of_an_hs256_client_when_it_claims_another_then_is_refused(
    stack: Stack, shop: Tenant, forger: Forger
) -> None:
    """J-04: knowing one's own secret opens nobody else's door."""
    victim = await stack.sign_up(shop)
    kid = part(victim.access_token, 0)["kid"]
    stolen = {**part(victim.access_token, 1)}
    for header in ({}, {"kid": kid}):
        forged = forger.sign(header, **stolen)
        await assert_refused(stack, shop, forged, "claims of a JWKS client")
    other = await stack.sign_up(await stack.tenant(token_mode="v1_hs256"))
    forged = forger.sign(**part(other.access_token, 1))
    await assert_refused(stack, other.tenant, forged, "claims of another HS256 client")
    await assert_refused(stack, forger.user.tenant, forged, "another client's claims at home")
    kid = part(other.access_token, 0)["kid"]
    await assert_refused(
        stack, other.tenant, forger.sign({"kid": kid}, **part(other.access_token, 1)), "its kid"
    )
    await assert_refused(stack, forger.user.tenant, victim.access_token, "a JWKS token at an HS256 client")


def wrong_claims(forger: Forger, now: int, issuer: str) -> list[Json]:
    """Changes of claims, each of which makes a token not one of now and here; None removes a claim."""
    good_until = now + 900
    values: dict[str, list[Any]] = {
        "exp": [now - 120, None, str(good_until), -1, True, [good_until]],
        "nbf": [now + 3600, "0"],
        "iat": [now + 3600],
        "aud": [None, [], ["other"], "other", [forger.user.tenant.id, "other"], {}],
        "iss": [None, "https://evil.example", f"{issuer}/"],
        "sub": [None, "", 7, ["x"]],
        "token_use": [None, "refresh", "id", "admin"],
        "client_id": [None, "other"],
    }
    return [{name: value} for name, wrong in values.items() for value in wrong]


def wrong_headers(evil: Evil) -> list[Json]:
    """Changes of the header, each of which asks for another key or another reading."""
    values: dict[str, list[Any]] = {
        "typ": ["JWT", "logout+jwt", None],
        "alg": ["HS384", "HS512", "RS256"],
        "kid": [None, 7, "../../../../dev/null", "x' UNION SELECT 'k", evil.url, "\0", "k" * 4000],
        "crit": [["x"]],
        "b64": [False],
        "zip": ["DEF"],
        "jwk": [{"kty": "oct", "k": "AAAA"}],
        "jku": [evil.url],
        "x5u": [evil.url],
        "x5c": [["AAAA"]],
    }
    return [{name: value} for name, wrong in values.items() for value in wrong]


async def test_token_when_its_claims_are_wrong_then_is_refused(stack: Stack, forger: Forger) -> None:
    """J-10 to J-14: signed well, and still not an access token of now and here."""
    for changes in wrong_claims(forger, int(time.time()), stack.base_url):
        await assert_refused(stack, forger.user.tenant, forger.sign(**changes), str(changes))


async def test_token_when_its_header_is_wrong_then_is_refused(
    stack: Stack, forger: Forger, evil: Evil
) -> None:
    """J-06 to J-08, J-14."""
    for header in wrong_headers(evil):
        await assert_refused(stack, forger.user.tenant, forger.sign(header), str(header)[:60])


async def test_token_when_its_json_is_read_in_two_ways_then_is_refused(stack: Stack, forger: Forger) -> None:
    """J-08, J-11."""
    raw, until = json.dumps(forger.claims), forger.claims["exp"]
    for text in (
        f'{raw[:-1]}, "exp": {until}}}',
        f'{raw[:-1]}, "sub": "someone-else"}}',
        raw.replace(f'"exp": {until}', '"exp": 1e400'),
        raw.replace(f'"exp": {until}', '"exp": NaN'),
        "[]",
        "null",
        "",
    ):
        token = signed(forger.header, text, hs(forger.secret))
        await assert_refused(stack, forger.user.tenant, token, text[-40:])
    doubled = json.dumps(forger.header)[:-1] + ', "alg": "none"}'
    token = signed(doubled, forger.claims, hs(forger.secret))
    await assert_refused(stack, forger.user.tenant, token, "two algs")


async def test_token_when_signed_by_a_weak_secret_then_is_refused(stack: Stack, forger: Forger) -> None:
    """J-03."""
    for secret in (b"", b"\0", b"secret", stack.admin.key.encode(), forger.user.tenant.api_key.encode()):
        token = signed(forger.header, forger.claims, hs(secret))
        await assert_refused(stack, forger.user.tenant, token, f"signed by {secret[:6]!r}")


async def test_token_when_signed_by_a_key_of_its_own_then_is_refused(
    stack: Stack, shop: Tenant, evil: Evil
) -> None:
    """J-07, J-17: the key comes from us and never from the token."""
    user = await stack.sign_up(shop)
    header, claims = part(user.access_token, 0), part(user.access_token, 1)
    assert header["alg"] == "ES256"
    own = ec.generate_private_key(ec.SECP256R1())
    numbers = own.public_key().public_numbers()
    jwk = {"kty": "EC", "crv": "P-256", "x": b64(numbers.x.to_bytes(32)), "y": b64(numbers.y.to_bytes(32))}

    def es256(text: bytes) -> bytes:
        r, s = decode_dss_signature(own.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    rsa_key = rsa.generate_private_key(65537, 2048)

    def rs256(text: bytes) -> bytes:
        return rsa_key.sign(text, padding.PKCS1v15(), hashes.SHA256())

    carried: list[Json] = [
        {},
        {"jwk": jwk},
        {"jwk": {**jwk, "kid": header["kid"]}},
        {"kid": "own", "jwk": jwk},
    ]
    carried += [{"jku": evil.url}, {"x5u": evil.url}, {"kid": evil.url}]
    for extra in carried:
        await assert_refused(stack, shop, signed({**header, **extra}, claims, es256), str(extra)[:40])
    await assert_refused(stack, shop, signed({**header, "alg": "RS256"}, claims, rs256), "another algorithm")
    text = user.access_token.rpartition(".")[0]
    for forged in (bytes(64), bytes(63), bytes(65), b"\x00" * 31 + b"\x01" + bytes(32), b"\xff" * 64):
        await assert_refused(stack, shop, f"{text}.{b64(forged)}", "a psychic signature")


async def test_credential_of_another_kind_when_sent_as_bearer_then_is_refused(
    stack: Stack, shop: Tenant
) -> None:
    """J-05, J-13."""
    user = await stack.sign_up(shop)
    for token in (user.refresh_token, shop.api_key, shop.publishable_key, stack.admin.key, "null", "a b"):
        await assert_refused(stack, shop, token, token[:6])
    for scheme in ("Basic", "Token", "DPoP", "bearerx"):
        headers = {**shop.headers, "authorization": f"{scheme} {user.access_token}"}
        assert (await stack.call("GET", "/api/auth/me", headers=headers)).status_code == 401
    query = await stack.call("GET", "/api/auth/me", shop, params={"access_token": user.access_token})
    assert query.status_code == 401
    cookie = {"cookie": f"access_token={user.access_token}"}
    assert (await stack.call("GET", "/api/auth/me", shop, headers=cookie)).status_code == 401
    for path in ("/api/admin/clients", "/api/admin/audit-events", f"/api/admin/clients/{shop.id}"):
        assert (await stack.call("GET", path, user)).status_code in (401, 403)
    for bearer in (stack.admin.key, user.access_token):
        answer = await stack.call("GET", "/api/admin/clients", headers={"authorization": f"Bearer {bearer}"})
        assert answer.status_code == 401


async def test_token_when_oversized_then_costs_nothing(stack: Stack, shop: Tenant) -> None:
    """J-15."""
    user = await stack.sign_up(shop)
    text, _, signature = user.access_token.rpartition(".")
    nested = b64(b'{"alg":' + b"[" * 3000 + b"]" * 3000 + b"}")
    endless = f"{text}.{signature}{'A' * 8000}"
    for token in ("." * 20_000, "a" * 20_000, endless, f"{nested}.e30.AAAA", f"{text}.{text}.{signature}"):
        await assert_refused(stack, shop, token, token[:10])
    processes = [*stack.processes("gateway"), *stack.processes("token")]
    before = [memory_of(process.pid) for process in processes]
    for token in ("." * 1_000_000, "a." * 500_000, b64(b"[" * 500_000)):
        huge = await stack.validate(token, shop.api_key)
        assert (huge.valid, huge.error) == (False, "invalid_token")
        headers = {**shop.headers, "authorization": f"Bearer {token}"}
        assert (await stack.call("GET", "/api/auth/me", headers=headers)).status_code == 431
        assert (await introspect(stack, shop, token)).status_code == 413
    grown = [memory_of(process.pid) - was for process, was in zip(processes, before, strict=True)]
    assert max(grown) < 50 * 2**20
    await assert_accepted(stack, user)


def memory_of(pid: int) -> int:
    """How many bytes of memory a process has."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.parametrize("mode", TOKEN_MODES)
async def test_token_when_revoked_and_respelled_then_stays_revoked(stack: Stack, mode: str) -> None:
    """J-20: one token has one spelling, so a revocation cannot be walked around."""
    user = await stack.sign_up(await stack.tenant(token_mode=mode))
    await assert_accepted(stack, user)
    text, last = user.access_token[:-1], user.access_token[-1]
    position = ALPHABET.index(last)
    # The last character of a signature carries bits that decode to nothing; these have the same value.
    spare = {0: 0, 2: 4, 3: 2}[len(user.access_token.rpartition(".")[2]) % 4]
    twins = [text + ALPHABET[position ^ bits] for bits in range(1, 2**spare)]
    respelled = [*twins, f"{user.access_token}=", f"{user.access_token}==", f"{user.access_token}%0a", text]
    for token in respelled:
        await assert_refused(stack, user.tenant, token, "respelled before the end of the session")
    assert (await stack.call("DELETE", "/api/auth/sessions", user)).status_code == 204

    async def refused() -> bool:
        answers = [await stack.call("GET", "/api/auth/me", user, gateway=gateway) for gateway in (0, 1)]
        return all(answer.status_code == 401 for answer in answers)

    await eventually(refused, within=1, what="the session's end is known")
    for token in (user.access_token, *respelled):
        await assert_refused(stack, user.tenant, token, "respelled after the end of the session")


async def whole_key_set(stack: Stack, tenant: Tenant, size: int) -> httpx.Response:
    """The client's set once its next key is in it, too, which may be made after the first signature."""

    async def whole() -> httpx.Response | None:
        found = await stack.call("GET", "/.well-known/jwks.json", params={"client_id": tenant.id})
        return found if len(found.json()["keys"]) == size else None

    return await eventually(whole, within=10, what="the active and the next key are published")


async def test_jwks_when_fetched_then_shows_public_keys_of_one_client_only(stack: Stack) -> None:
    """J-18, J-19."""
    kids: set[str] = set()
    for mode, alg in (("v2_jwks", "RS256"), ("v3_es256", "ES256"), ("v3_eddsa", "EdDSA")):
        tenant = await stack.tenant(token_mode=mode)
        user = await stack.sign_up(tenant)
        of_issuer = await stack.issuer_keys()
        assert all(key["kid"].startswith("issuer.") for key in of_issuer)
        answer = await whole_key_set(stack, tenant, len(of_issuer) + 2)
        assert answer.status_code == 200
        assert "max-age" in answer.headers["cache-control"]
        keys = [key for key in answer.json()["keys"] if key not in of_issuer]
        assert len(keys) == 2
        assert not any("." in key["kid"] for key in keys), "named as the issuer's own"
        assert part(user.access_token, 0)["kid"] in {key["kid"] for key in keys}
        for key in keys:
            assert set(key) <= {"kty", "n", "e", "crv", "x", "y", "kid", "use", "alg"}
            assert (key["use"], key["alg"]) == ("sig", alg)
            if alg == "RS256":
                assert PyJWK(key).key.key_size >= 2048
                assert key["e"] == "AQAB"
        assert not kids & {key["kid"] for key in keys}, "a key of another client"
        kids |= {key["kid"] for key in keys}
        same = await stack.call("GET", "/.well-known/jwks.json", tenant)
        assert same.json() == answer.json()
        known = {"if-none-match": answer.headers["etag"]}
        fresh = await stack.call("GET", "/.well-known/jwks.json", tenant, headers=known)
        assert (fresh.status_code, fresh.content) == (304, b"")
    unknown = {"client_id": "01890000-0000-7000-8000-000000000000"}
    assert (await stack.call("GET", "/.well-known/jwks.json", params=unknown)).status_code == 404
