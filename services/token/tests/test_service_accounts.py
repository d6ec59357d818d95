"""Service accounts: what admins do with them, and what a machine gets with its secret."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from chassis.context import Access, CallerContext
from chassis.ids import new_id
from services.token.tests.conftest import MODES, Token, claims_of, header_of
from tests.harness import BASE_URL, Answer, System, Tenant
from tests.oauth_errors import check_oauth_error

SCOPES = ["invoices:read", "invoices:write"]
FORM = "application/x-www-form-urlencoded"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def machine() -> CallerContext:
    """Anybody at the token endpoint, as the gateway passes it on."""
    return CallerContext(access=Access.OAUTH, request_id="test-machine", ip="203.0.113.20", user_agent="cron")


@dataclass(frozen=True, slots=True)
class Account:
    """A service account of a tenant, and its first secret."""

    system: System
    tenant: Tenant
    document: dict[str, Any]

    @property
    def id(self) -> str:
        """The `client_id` of the token endpoint."""
        return str(self.document["service_account"]["id"])

    @property
    def secret(self) -> str:
        """The `client_secret`."""
        return str(self.document["client_secret"])

    @property
    def key_id(self) -> str:
        """The first secret's id."""
        return str(self.document["key"]["id"])

    async def admin(self, method: str, path: str = "", **options: Any) -> Answer:
        """Call one of the account's routes as an admin."""
        base = f"/api/admin/clients/{self.tenant.id}/service-accounts/{self.id}"
        return await self.system.call("token", method, base + path, caller=self.system.admin(), **options)

    async def token(self, secret: str | None = None, **parameters: str) -> Answer:
        """Ask for a token with HTTP Basic."""
        form = {"grant_type": "client_credentials", **parameters}
        return await post(self.system, "/oauth/token", form, basic=(self.id, secret or self.secret))

    async def introspect(self, access_token: str) -> dict[str, Any]:
        """Ask about a token."""
        answer = await post(
            self.system, "/oauth/introspect", {"token": access_token}, basic=(self.id, self.secret)
        )
        assert answer.status == 200, answer.body
        document: dict[str, Any] = answer.json
        return document


async def post(
    system: System,
    path: str,
    form: Any,
    *,
    basic: tuple[str, str] | None = None,
    content_type: str = FORM,
    content: bytes | None = None,
) -> Answer:
    """Send a form, or JSON."""
    headers = {"content-type": content_type}
    if basic is not None:
        pair = ":".join(quote(part, safe="") for part in basic)
        headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    body = json.dumps(form) if content_type == "application/json" else urlencode(form)
    sent = body.encode() if content is None else content
    answer = await system.call("token", "POST", path, caller=machine(), headers=headers, content=sent)
    check_oauth_error(answer)
    return answer


async def create(system: System, tenant: Tenant, **members: Any) -> Account:
    """Create an account as an admin."""
    body = {"name": "Billing worker", "scopes": SCOPES, **members}
    path = f"/api/admin/clients/{tenant.id}/service-accounts"
    answer = await system.call("token", "POST", path, caller=system.admin(), json=body)
    assert answer.status == 201, answer.body
    return Account(system, tenant, answer.json)


@pytest.fixture
async def account(system: System, tenant: Tenant) -> Account:
    """An account of the test's tenant."""
    return await create(system, tenant)


@pytest.mark.parametrize("mode", MODES)
async def test_token_when_credentials_are_right_then_of_the_client_and_scopes(
    system: System, token: Token, mode: str
) -> None:
    account = await create(system, await system.tenant(mode))
    answer = await account.token(scope="invoices:read")

    assert answer.status == 200, answer.body
    assert answer.headers["cache-control"] == "no-store"
    assert {name: answer.json[name] for name in ("token_type", "expires_in", "scope")} == {
        "token_type": "Bearer",
        "expires_in": 900,
        "scope": "invoices:read",
    }
    access_token = answer.json["access_token"]
    assert header_of(access_token)["typ"] == "at+jwt"
    claims = claims_of(access_token)
    expected = {
        "iss": BASE_URL,
        "sub": account.id,
        "aud": str(account.tenant.id),
        "client_id": str(account.tenant.id),
        "token_use": "client_credentials",
        "scope": "invoices:read",
        "scopes": ["invoices:read"],
        "service_account_id": account.id,
        "service_account_name": "Billing worker",
        "sid": account.key_id,
    }
    assert {name: claims[name] for name in expected} == expected
    assert not {"email", "role"} & claims.keys()
    verdict = await token.validate(account.tenant, access_token)
    assert (verdict.valid, verdict.service_account_id, list(verdict.scopes)) == (
        True,
        account.id,
        ["invoices:read"],
    )
    event = await system.event("machine_token_issued", client_id=account.tenant.id)
    assert (event.actor_type, event.actor_id, event.data["key_id"]) == (
        "service_account",
        account.id,
        account.key_id,
    )
    assert access_token not in str(event)


async def test_token_when_asked_in_each_way_then_the_same(account: Account) -> None:
    form = {"grant_type": "client_credentials"}
    pair = {"client_id": account.id, "client_secret": account.secret}
    ways = [
        await post(account.system, "/oauth/token", form, basic=(account.id, account.secret)),
        await post(account.system, "/oauth/token", {**form, **pair}),
        await post(account.system, "/oauth/token", {**form, **pair}, content_type="application/json"),
    ]
    assert [answer.status for answer in ways] == [200] * 3
    assert {answer.json["scope"] for answer in ways} == {"invoices:read invoices:write"}


async def test_token_when_client_is_not_proven_then_invalid_client(
    system: System, account: Account, tenant: Tenant
) -> None:
    """O-21."""
    form = {"grant_type": "client_credentials"}
    right = (account.id, account.secret)
    in_body = {"client_id": account.id, "client_secret": account.secret}
    other = await create(system, tenant)
    refused = [
        await post(system, "/oauth/token", form),
        await post(system, "/oauth/token", form, basic=(account.id, "sas_wrong")),
        await post(system, "/oauth/token", form, basic=(account.id, "")),
        await post(system, "/oauth/token", form, basic=(account.id, other.secret)),
        await post(system, "/oauth/token", form, basic=(account.id.upper(), account.secret)),
        await post(system, "/oauth/token", form, basic=(str(new_id()), account.secret)),
        await post(system, "/oauth/token", form, basic=("x' OR 1=1", account.secret)),
        await post(system, "/oauth/token", {**form, **in_body}, basic=right),
        await post(system, "/oauth/token", {**form, "client_id": other.id}, basic=right),
        await post(system, "/oauth/token", {**form, "client_id": account.id}),
        await post(system, "/oauth/token", form, basic=(str(tenant.id), tenant.publishable_key)),
    ]
    for answer in refused:
        assert (answer.status, answer.json["error"]) == (401, "invalid_client"), answer.body
        assert answer.headers["www-authenticate"].startswith("Basic")
        assert answer.headers["cache-control"] == "no-store"
    assert len({answer.body for answer in refused}) == 1, "the reason is never said"
    assert (await post(system, "/oauth/token", form, basic=right)).status == 200


async def test_token_when_request_is_malformed_then_oauth_error(system: System, account: Account) -> None:
    right = (account.id, account.secret)
    form = {"grant_type": "client_credentials"}
    json_type = "application/json"

    async def ask(parameters: Any = form, path: str = "/oauth/token", **options: Any) -> tuple[int, str]:
        answer = await post(system, path, parameters, basic=right, **options)
        return answer.status, answer.json.get("error", "")

    assert await ask() == (200, "")
    assert await ask({}) == (400, "unsupported_grant_type")
    assert await ask({"grant_type": "password"}) == (400, "unsupported_grant_type")
    for scope in ("*", "invoices:read admin", "invoices:read  invoices:write", "invoices:read\u00a0x", " "):
        assert await ask({**form, "scope": scope}) == (400, "invalid_scope"), scope
    assert await ask({**form, "scope": "invoices:read invoices:read"}) == (200, ""), "twice is once"
    resource = "https://api.example.com"
    assert await ask({**form, "resource": resource}) == (400, "invalid_target"), "RFC 8707 §2"
    assert await ask({**form, "resource": resource}, content_type=json_type) == (400, "invalid_target")
    twice = [("grant_type", "client_credentials"), ("scope", "invoices:read"), ("scope", "invoices:write")]
    assert await ask(twice) == (400, "invalid_request")
    for content in (b"[]", b"{", b'{"grant_type": 1}', b'{"a":"b","a":"c"}', b"[" * 5000):
        assert await ask(content=content, content_type=json_type) == (400, "invalid_request"), content
    assert await ask(content=b"grant_type=%ff", content_type=FORM) == (400, "invalid_request")
    assert await ask(content_type="text/plain") == (400, "invalid_request")
    in_query = f"/oauth/token?client_id={account.id}&client_secret={account.secret}"
    assert await ask(path=in_query) == (400, "invalid_request")


async def test_secret_when_revoked_or_account_disabled_then_it_and_its_tokens_are_dead(
    system: System, token: Token, account: Account
) -> None:
    """O-23."""
    asking = await create(system, account.tenant)
    made = await account.admin("POST", "/keys", json={"name": "second"})
    assert made.status == 201, made.body
    second = made.json["client_secret"]
    first_token = (await account.token()).json["access_token"]
    second_token = (await account.token(second)).json["access_token"]
    assert (await asking.introspect(first_token))["active"] is True

    assert (await account.admin("DELETE", f"/keys/{account.key_id}")).status == 204

    assert (await account.token()).status == 401
    assert await asking.introspect(first_token) == {"active": False}
    assert (await token.validate(account.tenant, first_token)).error == "token_revoked"
    assert (await asking.introspect(second_token))["active"] is True
    again = await account.admin("DELETE", f"/keys/{account.key_id}")
    assert (again.status, again.code) == (404, "service_account_key_not_found")

    assert (await account.admin("PATCH", json={"status": "disabled"})).status == 200

    assert (await account.token(second)).status == 401
    assert await asking.introspect(second_token) == {"active": False}
    assert not (await token.validate(account.tenant, second_token)).valid
    assert (await account.admin("PATCH", json={"status": "active"})).status == 200
    assert (await account.token(second)).status == 200
    assert (await account.admin("DELETE")).status == 204
    assert (await account.token(second)).status == 401
    assert (await account.admin("GET")).code == "service_account_not_found"
    for event_type in ("service_account_key_revoked", "service_account_updated", "service_account_deleted"):
        event = await system.event(event_type, client_id=account.tenant.id)
        assert (event.actor_type, event.target_id) == ("admin_key", account.id)


async def test_rotate_when_grace_is_given_then_both_secrets_work_until_its_end(
    system: System, account: Account
) -> None:
    old_token = (await account.token()).json["access_token"]
    rotated = await account.admin("POST", f"/keys/{account.key_id}/rotate", json={"grace_seconds": 600})
    assert rotated.status == 200, rotated.body
    new = rotated.json["client_secret"]
    assert new.startswith("sas_")
    assert new != account.secret

    assert [(await account.token(secret)).status for secret in (account.secret, new)] == [200, 200]
    with system.clock.advanced(timedelta(seconds=601)):
        assert (await account.token()).status == 401
        assert (await account.token(new)).status == 200
    at_once = await account.admin("POST", f"/keys/{rotated.json['key']['id']}/rotate")
    assert at_once.status == 200
    assert (await account.token(new)).status == 401
    assert await create_and_introspect(account, old_token) is True, "a grace leaves its tokens their life"
    listed = (await account.admin("GET", "/keys")).json
    assert [key["status"] for key in listed["items"]] == ["active", "revoked", "active"]
    assert "secret" not in json.dumps(listed).replace("client_secret", "")


async def create_and_introspect(account: Account, access_token: str) -> bool:
    """Ask by another account of the tenant."""
    other = await create(account.system, account.tenant)
    return bool((await other.introspect(access_token))["active"])


async def test_rotate_when_twenty_at_once_then_one_new_secret(account: Account) -> None:
    answers = await asyncio.gather(
        *(account.admin("POST", f"/keys/{account.key_id}/rotate") for _ in range(20))
    )
    assert sorted(answer.status for answer in answers) == [200] + [404] * 19


async def test_introspect_when_token_is_another_tenants_then_as_garbage(
    system: System, token: Token, account: Account
) -> None:
    """O-24, O-25, J-13."""
    stranger = await create(system, await system.tenant())
    opened = await token.open(account.tenant)
    active = await account.introspect(opened.access_token)
    assert (active["active"], active["sub"], active["token_type"]) == (True, opened.user.id, "Bearer")

    for inactive in (
        (await stranger.token()).json["access_token"],
        (await token.open(stranger.tenant)).access_token,
        opened.refresh_token,
        opened.access_token[:-4],
        "garbage",
        "a" * 20_000,
    ):
        assert await account.introspect(inactive) == {"active": False}
    without = await post(system, "/oauth/introspect", {"token": opened.access_token})
    assert (without.status, without.json["error"]) == (401, "invalid_client")
    missing = await post(system, "/oauth/introspect", {}, basic=(account.id, account.secret))
    assert (missing.status, missing.json["error"]) == (400, "invalid_request")
    user = account.tenant.user_caller(opened.user.id, opened.session_id)
    as_user = await system.call(
        "token", "POST", "/oauth/introspect", caller=user, content=b"token=x", headers={"content-type": FORM}
    )
    assert as_user.status == 403, "a user is no client of OAuth"


def key_pair() -> tuple[ec.EllipticCurvePrivateKey, dict[str, Any]]:
    """A key and its public JWK."""
    private = ec.generate_private_key(ec.SECP256R1())
    jwk = json.loads(ECAlgorithm.to_jwk(private.public_key()))
    return private, {**jwk, "kid": "k1", "alg": "ES256", "use": "sig"}


def by_public_key(payload: dict[str, Any], jwk: dict[str, Any]) -> str:
    """An assertion whose HMAC secret is what everybody knows (CVE-2017-11424); PyJWT refuses to make one."""
    header = {"alg": "HS256", "kid": "k1", "typ": "JWT"}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (header, payload)]
    signed = b".".join(parts)
    mac = hmac.digest(json.dumps(jwk).encode(), signed, "sha256")
    return (signed + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


async def test_assertion_when_signed_by_the_accounts_key_then_good_once(
    system: System, tenant: Tenant
) -> None:
    """O-22, RFC 7523 §3."""
    private, jwk = key_pair()
    account = await create(system, tenant, jwks={"keys": [jwk]})
    now = int(time.time())
    good = {"iss": account.id, "sub": account.id, "aud": BASE_URL, "exp": now + 60, "jti": "1"}

    async def ask(
        payload: dict[str, Any], key: Any = private, algorithm: str = "ES256", **header: Any
    ) -> int:
        if algorithm == "HS256":
            assertion = by_public_key(payload, jwk)
        else:
            signing: Any = None if algorithm == "none" else key
            assertion = jwt.encode(payload, signing, algorithm, headers={"kid": "k1", **header})
        form = {
            "grant_type": "client_credentials",
            "client_id": account.id,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        return (await post(system, "/oauth/token", form)).status

    assert await ask(good) == 200
    assert await ask(good) == 401, "used before"
    assert await ask({**good, "aud": f"{BASE_URL}/oauth/token", "jti": "2"}) == 200
    stranger, _ = key_pair()
    other = await create(system, tenant)
    forged: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {"key": stranger}),
        ({}, {"kid": "k2"}),
        ({}, {"algorithm": "none"}),
        ({}, {"algorithm": "HS256"}),
        ({}, {"typ": "at+jwt"}),
        ({}, {"jku": "https://evil.example"}),
        ({"iss": other.id}, {}),
        ({"sub": other.id}, {}),
        ({"aud": "https://evil.example"}, {}),
        ({"aud": [BASE_URL, "https://evil.example"]}, {}),
        ({"exp": now - 120}, {}),
        ({"exp": now + 86400}, {}),
        ({"exp": str(now + 60)}, {}),
        ({"nbf": now + 3600}, {}),
        ({"jti": ""}, {}),
        ({"jti": 7}, {}),
    ]
    for number, (claims, options) in enumerate(forged):
        assert await ask({**good, "jti": f"f{number}", **claims}, **options) == 401, (claims, options)
    answers = await asyncio.gather(*(ask({**good, "jti": "race"}) for _ in range(20)))
    assert sorted(answers) == [200] + [401] * 19


async def test_accounts_when_of_another_client_then_not_found(system: System, account: Account) -> None:
    other = await system.tenant()
    base = f"/api/admin/clients/{other.id}/service-accounts/{account.id}"
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("GET", "/keys", None),
        ("POST", "/keys", {}),
        ("DELETE", f"/keys/{account.key_id}", None),
        ("POST", f"/keys/{account.key_id}/rotate", {}),
    ]
    for method, path, body in calls:
        answer = await system.call("token", method, base + path, caller=system.admin(), json=body)
        assert answer.status == 404, (method, path)
    assert (await account.token()).status == 200


@pytest.mark.parametrize(
    "members",
    [
        {"name": ""},
        {"name": "x\u202ey"},
        {"scopes": ["two words"]},
        {"scopes": [""]},
        {"scopes": "invoices:read"},
        {"scopes": [f"s{number}" for number in range(101)]},
        {"jwks": {"keys": []}},
        {"jwks": {"keys": [{"kty": "oct", "k": "AAAA", "kid": "1", "alg": "HS256"}]}},
        {"jwks": {"keys": [{**key_pair()[1], "d": "AAAA"}]}},
        {"jwks": {"keys": [key_pair()[1], key_pair()[1]]}},
    ],
)
async def test_create_when_a_field_breaks_its_rule_then_422_and_nothing_made(
    system: System, tenant: Tenant, members: dict[str, Any]
) -> None:
    path = f"/api/admin/clients/{tenant.id}/service-accounts"
    body = {"name": "Worker", "scopes": SCOPES, **members}
    answer = await system.call("token", "POST", path, caller=system.admin(), json=body)
    assert (answer.status, answer.code) == (422, "validation_failed")
    listed = await system.call("token", "GET", path, caller=system.admin())
    assert listed.json == {"items": [], "next_cursor": None}
