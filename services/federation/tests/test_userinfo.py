"""Userinfo under attack; each attack beside the request that succeeds."""

from __future__ import annotations

import asyncio
import base64
import json
import secrets
from typing import Any

import pytest
from authservice_validator.dpop import access_token_hash
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt import encode
from jwt.algorithms import ECAlgorithm

from chassis.context import Access
from contracts.gen.internal.token.v1 import grants_pb2, sessions_pb2
from contracts.gen.internal.token.v1.grants_pb2_grpc import GrantServiceStub
from contracts.gen.internal.token.v1.sessions_pb2_grpc import SessionServiceStub
from services.federation.tests.flow import (
    FORM,
    Browser,
    RelyingParty,
    answer_of,
    anybody,
    open_login,
    user_of,
)
from tests.harness import BASE_URL, Answer, System, Tenant

ALL = "openid profile email"


class Key:
    """A key of an app, and its proofs (RFC 9449)."""

    def __init__(self) -> None:
        self._private = generate_private_key(SECP256R1())
        self._jwk = json.loads(ECAlgorithm.to_jwk(self._private.public_key()))

    def proof(self, system: System, method: str, path: str, **claims: Any) -> str:
        """A proof for one request; `claims` replace some, None leaves one out."""
        members = {
            "jti": secrets.token_urlsafe(12),
            "htm": method,
            "htu": f"{BASE_URL}{path}",
            "iat": int(system.clock.now().timestamp()),
            **claims,
        }
        given = {name: value for name, value in members.items() if value is not None}
        headers = {"typ": "dpop+jwt", "jwk": self._jwk}
        return encode(given, self._private, algorithm="ES256", headers=headers)


async def tokens_of(rp: RelyingParty, browser: Browser, scope: str = ALL, **changes: Any) -> dict[str, Any]:
    """What an app gets for a user."""
    headers = changes.pop("headers", {})
    code = answer_of(await browser.get(rp.url(scope=scope, **changes)))["code"]
    answer = await rp.redeem(code) if not headers else await redeem_with(rp, code, headers)
    assert answer.status == 200, answer.body
    found: dict[str, Any] = answer.json
    return found


async def redeem_with(rp: RelyingParty, code: str, headers: dict[str, str]) -> Answer:
    """Redeem a code with headers of one's own."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": "https://app.example.com/callback",
        "code_verifier": "v" * 43,
    }
    return await rp.post("token", "/token", form, **headers)


async def ask(system: System, token: str | None = None, scheme: str = "Bearer", **options: Any) -> Answer:
    """Ask for userinfo."""
    headers = dict(options.pop("headers", {}))
    if token is not None:
        headers["authorization"] = f"{scheme} {token}"
    method, path = options.pop("method", "GET"), options.pop("path", "/userinfo")
    return await system.call(
        "federation", method, path, caller=anybody(Access.OAUTH), headers=headers, **options
    )


async def test_userinfo_tells_by_scope_and_by_claims_parameter(
    system: System, acme: Tenant, rp: RelyingParty
) -> None:
    """OpenID Connect Core §5.3, §5.4, §5.5; O-33: the `sub` of the ID token."""
    user = user_of(acme, locale="de", phone="+4930123456")
    browser = Browser(system)
    await browser.know(await open_login(system, acme, user))
    tokens = await tokens_of(rp, browser)

    everything = {
        "sub": user.id,
        "name": "Ada Lovelace",
        "locale": "de",
        "updated_at": 1_700_000_000,
        "email": user.email,
        "email_verified": True,
    }
    answer = await ask(system, tokens["access_token"])
    assert (answer.status, answer.json) == (200, everything)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    id_token = json.loads(base64.urlsafe_b64decode(tokens["id_token"].split(".")[1] + "=="))
    assert id_token["sub"] == answer.json["sub"]

    form = {"content-type": FORM}
    body = f"access_token={tokens['access_token']}".encode()
    for posted in (
        await ask(system, tokens["access_token"], method="POST"),
        await ask(system, method="POST", headers=form, content=body),
    ):
        assert (posted.status, posted.json) == (200, everything)

    for scope, names in {
        "openid": {"sub"},
        "openid email": {"sub", "email", "email_verified"},
        "openid profile": {"sub", "name", "locale", "updated_at"},
    }.items():
        narrow = await tokens_of(rp, browser, scope)
        assert set((await ask(system, narrow["access_token"])).json) == names
    claims = json.dumps({"userinfo": {"email": {"essential": True}, "name": None}})
    by_name = await tokens_of(rp, browser, "openid", claims=claims)
    named = (await ask(system, by_name["access_token"])).json
    assert named == {"sub": user.id, "name": "Ada Lovelace", "email": user.email}


async def test_userinfo_tells_the_phone_number_where_the_tenant_lets_apps_ask(system: System) -> None:
    tenant = await system.tenant(settings={"oidc_allowed_scopes": ["openid", "phone"]})
    app = RelyingParty(system, tenant, *await system.app(tenant, trusted=True))
    browser = Browser(system)
    await browser.know(await open_login(system, tenant, user_of(tenant, phone="+4930123456")))
    told = await ask(system, (await tokens_of(app, browser, "openid phone"))["access_token"])
    assert told.json["phone_number"] == "+4930123456"
    silent = await ask(system, (await tokens_of(app, browser, "openid"))["access_token"])
    assert "phone_number" not in silent.json


async def test_userinfo_when_token_is_of_another_kind_then_401(
    system: System, acme: Tenant, rp: RelyingParty, browser: Browser
) -> None:
    """J-10, J-13, J-14: only what an app got for a user, for the tenant itself, opens userinfo."""
    tokens = await tokens_of(rp, browser, f"{ALL} offline_access")
    good = tokens["access_token"]
    assert (await ask(system, good)).status == 200
    first_party = await open_login(system, acme)
    resource = await tokens_of(rp, browser, resource="https://api.example.com/v1")
    head, payload, signature = good.split(".")
    unsigned = base64.urlsafe_b64encode(b'{"alg":"none","typ":"at+jwt"}').rstrip(b"=").decode()
    presented = {
        "ID token": tokens["id_token"],
        "refresh token": tokens["refresh_token"],
        "first party": first_party.access_token,
        "for a resource": resource["access_token"],
        "unsigned": f"{unsigned}.{payload}.",
        "another's signature": f"{head}.{payload}.{resource['access_token'].split('.')[2]}",
        "tail": f"{head}.{payload}.{signature}=",
        "one part": head,
        "dots": "." * 1_000,
        "large": "a" * 20_000,
        "words": "a b",
    }
    for kind, token in presented.items():
        answer = await ask(system, token)
        assert (answer.status, answer.json["error"]) == (401, "invalid_token"), kind
        bearer, dpop = answer.headers.get_list("www-authenticate")
        metadata = f'resource_metadata="{BASE_URL}/.well-known/oauth-protected-resource/userinfo"'
        assert bearer == f'Bearer error="invalid_token", {metadata}', kind
        assert dpop.startswith('DPoP algs="ES256 EdDSA RS256", error="invalid_token"'), kind


async def test_userinfo_when_asked_wrongly_then_as_rfc_6750(
    system: System, rp: RelyingParty, browser: Browser
) -> None:
    """RFC 6750 §2.3, §3.1; O-33: without `openid` the token is for less."""
    token = (await tokens_of(rp, browser))["access_token"]
    narrow = (await tokens_of(rp, browser, "profile"))["access_token"]
    answer = await ask(system, narrow)
    assert (answer.status, answer.json["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="openid"' in answer.headers.get_list("www-authenticate")[0]

    nothing = await ask(system)
    assert nothing.status == 401
    assert "error=" not in nothing.headers.get_list("www-authenticate")[0]
    basic = await ask(system, token, "Basic")
    assert basic.status == 401
    form, body = {"content-type": FORM}, f"access_token={token}".encode()
    refused = [
        await ask(system, path=f"/userinfo?access_token={token}"),
        await ask(system, token, path=f"/userinfo?access_token={token}"),
        await ask(system, token, method="POST", headers=form, content=body),
        await ask(system, method="POST", headers=form, content=body + b"&" + body),
    ]
    assert [(one.status, one.json["error"]) for one in refused] == [(400, "invalid_request")] * 4
    unread = await ask(system, method="POST", headers={"content-type": "application/json"}, content=b"{}")
    assert (unread.status, unread.json["error"]) == (400, "invalid_request")


async def test_userinfo_when_the_grant_is_over_then_401_at_once(
    system: System, acme: Tenant, rp: RelyingParty
) -> None:
    """A token whose user is suspended, whose login or grant ended, or whose app's tenant is suspended."""
    tenant = await system.tenant()
    other = RelyingParty(system, tenant, *await system.app(tenant, trusted=True))
    tokens: dict[str, str] = {}
    logins = {}
    for name in ("suspended", "logged out", "revoked", "tenant"):
        party = other if name == "tenant" else rp
        browser = Browser(system)
        logins[name] = await open_login(system, party.tenant)
        await browser.know(logins[name])
        tokens[name] = (await tokens_of(party, browser))["access_token"]
    assert {(await ask(system, token)).status for token in tokens.values()} == {200}

    async with system.channel("token", caller="identity") as channel:
        stub = SessionServiceStub(channel.for_stubs)
        user = logins["suspended"].user
        user.status, user.version = "suspended", user.version + 1
        await stub.PutUser(sessions_pb2.PutUserRequest(user=user))
        await stub.EndSession(
            sessions_pb2.EndSessionRequest(
                client_id=str(acme.id),
                user_id=logins["logged out"].user.id,
                session_id=logins["logged out"].session_id,
                reason="user_revoked",
            )
        )
    async with system.channel("token", caller="federation") as channel:
        user_id = logins["revoked"].user.id
        await GrantServiceStub(channel.for_stubs).EndGrants(
            grants_pb2.EndGrantsRequest(client_id=str(acme.id), user_id=user_id, app_id=rp.id)
        )
    suspended = await system.call(
        "orgs",
        "PATCH",
        f"/api/admin/clients/{tenant.id}",
        caller=system.admin(),
        json={"status": "suspended"},
    )
    assert suspended.status == 200
    for name, token in tokens.items():
        assert (await ask(system, token)).status == 401, name


async def test_bound_token_needs_its_proof_once_and_no_other_scheme(
    system: System, rp: RelyingParty, browser: Browser
) -> None:
    """RFC 9449 §7: each fault of the proof beside the proof that is good."""
    key, other = Key(), Key()
    nonce = (await ask_nonce(rp, browser, key))[1]
    headers = {"DPoP": key.proof(system, "POST", "/token", nonce=nonce)}
    tokens = await tokens_of(rp, browser, headers=headers)
    token = tokens["access_token"]
    assert tokens["token_type"] == "DPoP"

    async def proven(proof: str | None, scheme: str = "DPoP") -> Answer:
        sent = {} if proof is None else {"DPoP": proof}
        return await ask(system, token, scheme, headers=sent)

    ath = access_token_hash(token)
    first = await proven(key.proof(system, "GET", "/userinfo", ath=ath))
    assert (first.status, first.json["error"]) == (401, "use_dpop_nonce")
    nonce = first.headers["dpop-nonce"]
    good = {"ath": ath, "nonce": nonce}

    proof = key.proof(system, "GET", "/userinfo", **good)
    told = await proven(proof)
    assert told.status == 200, told.body
    assert told.headers["dpop-nonce"]
    at_once = key.proof(system, "GET", "/userinfo", **good)
    race = await asyncio.gather(*[proven(at_once) for _ in range(20)])
    assert sorted(answer.status for answer in race) == [200] + [401] * 19

    faults = {
        "replayed": proof,
        "another key": other.proof(system, "GET", "/userinfo", **good),
        "another method": key.proof(system, "POST", "/userinfo", **good),
        "another path": key.proof(system, "GET", "/token", **good),
        "another host": key.proof(system, "GET", "/userinfo", **good, htu="https://evil.example/userinfo"),
        "another token": key.proof(system, "GET", "/userinfo", nonce=nonce, ath=access_token_hash("x")),
        "no token": key.proof(system, "GET", "/userinfo", nonce=nonce),
        "too old": key.proof(system, "GET", "/userinfo", **good, iat=1),
        "none": None,
        "several": f"{key.proof(system, 'GET', '/userinfo', **good)}, x",
        "no proof": "a.b.c",
    }
    for fault, bad in faults.items():
        answer = await proven(bad)
        assert (answer.status, answer.json["error"]) == (401, "invalid_dpop_proof"), fault
        assert answer.headers["www-authenticate"].startswith("DPoP "), fault
    for invented in ("x", nonce[:-2] + "AA", "A" * 32):
        answer = await proven(key.proof(system, "GET", "/userinfo", ath=ath, nonce=invented))
        assert answer.json["error"] == "use_dpop_nonce"
    as_bearer = await proven(key.proof(system, "GET", "/userinfo", **good), "Bearer")
    assert (as_bearer.status, as_bearer.json["error"]) == (401, "invalid_token")
    bearer = (await tokens_of(rp, browser))["access_token"]
    unbound = await ask(system, bearer, "DPoP", headers={"DPoP": key.proof(system, "GET", "/userinfo")})
    assert (unbound.status, unbound.json["error"]) == (401, "invalid_token")


async def ask_nonce(rp: RelyingParty, browser: Browser, key: Key) -> tuple[Answer, str]:
    """Redeem nothing, to be told the token endpoint's nonce."""
    proof = key.proof(rp.system, "POST", "/token")
    answer = await redeem_with(rp, "ac_none", {"DPoP": proof})
    return answer, answer.headers["dpop-nonce"]


@pytest.mark.parametrize("path", ["", "/userinfo"])
async def test_metadata_names_the_resource_it_is_of(system: System, path: str) -> None:
    """RFC 9728 §3.3: the `resource` is letter for letter what was asked for; no header changes it (O-34)."""
    answer = await system.call(
        "federation",
        "GET",
        f"/.well-known/oauth-protected-resource{path}",
        caller=anybody(),
        headers={"x-forwarded-host": "evil.example", "forwarded": "host=evil.example"},
    )
    assert answer.status == 200
    assert answer.json["resource"] == f"{BASE_URL}{path}"
    assert answer.json["authorization_servers"] == [BASE_URL]
    assert b"evil" not in answer.body
