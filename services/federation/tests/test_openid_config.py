"""The rules that the OpenID Foundation's config plan checks, as tests of ours: the metadata is what is true.

Each entry is held against what the endpoints do. Sections are of OpenID Connect Discovery 1.0 unless another
document is named.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import jwt
import pytest

from chassis.context import Access
from contracts.brand import LANGUAGES
from contracts.gen.internal.identity.v1 import users_pb2
from services.federation.authorize.models import ACR_VALUES
from services.federation.discovery.document import CAPABILITIES, ENDPOINTS, document
from services.federation.tests.flow import (
    Browser,
    RelyingParty,
    answer_of,
    anybody,
    fields_of,
    open_login,
    user_of,
)
from services.federation.tests.keys import ASSERTION_TYPE, AppKey
from tests.harness import BASE_URL, System, Tenant

CONFIGURATION = "/.well-known/openid-configuration"
METADATA = "/.well-known/oauth-authorization-server"


@pytest.fixture(scope="module")
async def metadata(system: System) -> Mapping[str, Any]:
    """The document as it is served."""
    answer = await system.call("federation", "GET", CONFIGURATION, caller=anybody())
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    document: Mapping[str, Any] = answer.json
    return document


async def test_document_when_asked_in_both_places_then_same_and_cacheable(system: System) -> None:
    """§4.2, RFC 8414 §3.2."""
    first = await system.call("federation", "GET", CONFIGURATION, caller=anybody())
    second = await system.call("federation", "GET", METADATA, caller=anybody())
    assert first.body == second.body
    for answer in (first, second):
        assert answer.headers["cache-control"] == "public, max-age=300"
        headers = {"if-none-match": answer.headers["etag"]}
        again = await system.call("federation", "GET", CONFIGURATION, caller=anybody(), headers=headers)
        assert (again.status, again.body) == (304, b"")


async def test_issuer_when_headers_lie_then_unchanged(system: System, metadata: Mapping[str, Any]) -> None:
    """§4.3, RFC 9207 §2.4; O-34: exact, and every address on its origin."""
    lies = {
        "host": "evil.example",
        "x-forwarded-host": "evil.example",
        "x-forwarded-proto": "http",
        "forwarded": "host=evil.example;proto=http",
    }
    answer = await system.call("federation", "GET", CONFIGURATION, caller=anybody(), headers=lies)
    assert answer.json == metadata
    assert metadata["issuer"] == BASE_URL
    assert {name for name, value in metadata.items() if str(value).startswith("http")} == {
        *ENDPOINTS,
        "issuer",
        "service_documentation",
    }
    for name in ENDPOINTS:
        assert metadata[name].startswith(f"{BASE_URL}/")


def test_document_when_read_then_has_what_the_specifications_demand() -> None:
    """§3, RFC 8414 §2; empty lists are left out."""
    found = document("https://issuer.example")
    for name in (
        *("issuer", "authorization_endpoint", "token_endpoint", "userinfo_endpoint", "jwks_uri"),
        *("scopes_supported", "response_types_supported", "subject_types_supported", "claims_supported"),
    ):
        assert found[name], name
    assert "RS256" in found["id_token_signing_alg_values_supported"]
    assert "openid" in found["scopes_supported"]
    assert not [name for name, value in found.items() if value in ([], (), None, "")]
    for name in ENDPOINTS:
        assert found[name].startswith("https://issuer.example/"), name
    # What is left out here would count as supported.
    assert found["request_uri_parameter_supported"] is False


async def test_jwks_when_fetched_then_keys_of_every_algorithm_and_nothing_secret(
    system: System, metadata: Mapping[str, Any]
) -> None:
    """§3 `jwks_uri`, Core §10.1; J-18."""
    path = metadata["jwks_uri"].removeprefix(BASE_URL)
    keys = (await system.call("token", "GET", path, caller=anybody())).json["keys"]
    assert set(metadata["id_token_signing_alg_values_supported"]) <= {key["alg"] for key in keys}
    assert len({key["kid"] for key in keys}) == len(keys)
    for key in keys:
        assert set(key) <= {"kty", "n", "e", "crv", "x", "y", "kid", "use", "alg"}
        assert key["use"] == "sig"
        assert key["kty"] != "RSA" or (key["e"] == "AQAB" and jwt.PyJWK(key).key.key_size >= 2048)


async def test_response_types_modes_and_prompts_when_listed_then_these_and_no_others(
    metadata: Mapping[str, Any], rp: RelyingParty, browser: Browser
) -> None:
    """§3 `response_types_supported`, `response_modes_supported`; `prompt_values_supported`."""
    for kind in ("code", "token", "id_token", "code token", "code id_token", "id_token token", "none"):
        answer = await browser.get(rp.url(response_type=kind))
        assert ("code" in answer_of(answer)) == (kind in metadata["response_types_supported"]), kind
    for mode in ("query", "fragment", "form_post", "jwt", "query.jwt", "form_post.jwt", "web_message"):
        answer = await browser.get(rp.url(response_mode=mode))
        got = fields_of(answer) if answer.status == 200 else answer_of(answer)
        assert ("code" in got) == (mode in metadata["response_modes_supported"]), mode
    for prompt in ("none", "login", "consent", "select_account", "create", "enroll"):
        answer = await browser.get(rp.url(prompt=prompt))
        location = answer.headers["location"]
        is_refused = "error=invalid_request" in location
        assert is_refused == (prompt not in metadata["prompt_values_supported"]), prompt


async def test_code_challenge_methods_when_listed_then_these_and_no_others(
    metadata: Mapping[str, Any], rp: RelyingParty, browser: Browser
) -> None:
    """RFC 8414 §2 `code_challenge_methods_supported`."""
    for method in ("S256", "plain", "S512"):
        got = answer_of(await browser.get(rp.url(code_challenge_method=method)))
        assert ("code" in got) == (method in metadata["code_challenge_methods_supported"])


async def test_scopes_when_listed_then_granted(
    system: System, metadata: Mapping[str, Any], rp: RelyingParty, browser: Browser
) -> None:
    """§3 `scopes_supported`: what tenants have unless they say otherwise."""
    scope = " ".join(metadata["scopes_supported"])
    code = answer_of(await browser.get(rp.url(scope=scope)))["code"]
    assert (await rp.redeem(code)).json["scope"].split() == scope.split()


async def test_claims_when_listed_then_told_and_no_others(
    system: System, metadata: Mapping[str, Any]
) -> None:
    """§3 `claims_supported`: all of them, of a user about whom all is known."""
    tenant = await system.tenant(
        settings={"oidc_allowed_scopes": ["openid", "profile", "email", "phone", "offline_access"]}
    )
    rp = RelyingParty(system, tenant, *await system.app(tenant, trusted=True))
    known: users_pb2.User = user_of(tenant, locale="de", phone="+4930123456")
    browser = Browser(system)
    await browser.know(await open_login(system, tenant, known))
    asked = dict.fromkeys(metadata["claims_supported"])
    claims = json.dumps({"id_token": asked, "userinfo": asked})
    answer = await rp.redeem(answer_of(await browser.get(rp.url(claims=claims)))["code"])
    identity = jwt.decode(answer.json["id_token"], options={"verify_signature": False})
    userinfo = (await rp.userinfo(answer.json["access_token"])).json
    assert set(identity) - {"jti", "nbf"} == set(metadata["claims_supported"])
    assert set(userinfo) <= set(metadata["claims_supported"])


async def test_acr_values_when_listed_then_what_logins_have(
    system: System, acme: Tenant, metadata: Mapping[str, Any], rp: RelyingParty
) -> None:
    """§3 `acr_values_supported`."""
    assert tuple(metadata["acr_values_supported"]) == ACR_VALUES
    for acr in metadata["acr_values_supported"]:
        browser = Browser(system)
        await browser.know(await open_login(system, acme, acr=acr))
        answer = await rp.redeem(answer_of(await browser.get(rp.url(acr_values=acr)))["code"])
        assert jwt.decode(answer.json["id_token"], options={"verify_signature": False})["acr"] == acr


async def test_grant_types_when_listed_then_known_to_the_token_endpoint_and_no_others(
    metadata: Mapping[str, Any], rp: RelyingParty
) -> None:
    """RFC 8414 §2 `grant_types_supported`."""
    for kind in (*metadata["grant_types_supported"], "password", "implicit", "unheard-of"):
        answer = await rp.post("token", "/token", {"grant_type": kind})
        is_unknown = answer.json.get("error") == "unsupported_grant_type"
        assert is_unknown == (kind not in metadata["grant_types_supported"]), (kind, answer.body)


@pytest.mark.parametrize("algorithm", CAPABILITIES["token_endpoint_auth_signing_alg_values_supported"])
async def test_apps_when_they_sign_then_every_listed_algorithm_is_taken(
    system: System, acme: Tenant, browser: Browser, algorithm: str
) -> None:
    """§3 `token_endpoint_auth_methods_supported` and its algorithms, at every endpoint that lists them."""
    key = AppKey(algorithm)
    members: dict[str, Any] = {"token_endpoint_auth_method": "private_key_jwt", "jwks": key.jwks}
    app_id, _ = await system.app(acme, trusted=True, **members)
    bare = RelyingParty(system, acme, app_id, "")
    code = answer_of(await browser.get(bare.url()))["code"]
    tokens = await bare.redeem(code, **key.assertion(app_id))
    assert tokens.status == 200, tokens.body
    form = {"token": tokens.json["access_token"]}
    known = await bare.post("token", "/introspect", {**form, **key.assertion(app_id)})
    assert known.json["active"] is True
    assert (await bare.push(**key.assertion(app_id))).status == 201
    assert (await bare.post("token", "/revoke", {**form, **key.assertion(app_id)})).status == 200
    # Once, and for this issuer (RFC 7523 §3).
    used = key.assertion(app_id)
    assert (await bare.push(**used)).status == 201
    for wrong in (used, key.assertion(app_id, aud="https://evil.example"), key.assertion(app_id, exp=1)):
        refused = await bare.push(**wrong)
        assert (refused.status, refused.json["error"]) == (401, "invalid_client")


async def test_auth_methods_when_listed_then_taken_at_their_endpoint_and_no_others(
    system: System, acme: Tenant, metadata: Mapping[str, Any], rp: RelyingParty
) -> None:
    """RFC 8414 §2: at each endpoint that lists its own; `client_secret_jwt` is listed nowhere (O-22)."""
    public = await system.app(acme, trusted=True, token_endpoint_auth_method="none")
    nobody, spa = RelyingParty(system, acme, rp.id, ""), RelyingParty(system, acme, *public)
    by_secret = {"client_assertion_type": ASSERTION_TYPE}
    claims = {"iss": rp.id, "sub": rp.id, "aud": BASE_URL, "jti": "1", "exp": int(time.time()) + 60}
    by_secret["client_assertion"] = jwt.encode(claims, rp.secret, algorithm="HS256")
    ways: dict[str, tuple[RelyingParty, dict[str, str]]] = {
        "client_secret_basic": (rp, {}),
        "client_secret_post": (nobody, {"client_secret": rp.secret}),
        "client_secret_jwt": (nobody, by_secret),
        "none": (spa, {}),
    }
    for endpoint in ("introspection", "revocation"):
        listed = metadata[f"{endpoint}_endpoint_auth_methods_supported"]
        path = metadata[f"{endpoint}_endpoint"].removeprefix(BASE_URL)
        for method, (client, proof) in ways.items():
            answer = await client.post("token", path, {"token": "x", **proof})
            assert answer.status == (200 if method in listed else 401), (endpoint, method)


@pytest.mark.parametrize("algorithm", CAPABILITIES["dpop_signing_alg_values_supported"])
async def test_dpop_when_a_request_is_pushed_with_a_proof_then_its_code_is_bound(
    rp: RelyingParty, browser: Browser, algorithm: str
) -> None:
    """RFC 9449 §5.1 `dpop_signing_alg_values_supported`, §10.1: the proof's key and no other."""
    key, other = AppKey(algorithm), AppKey("ES256")
    first = await rp.push(headers={"dpop": key.proof("POST", "/par")})
    assert (first.status, first.json["error"]) == (400, "use_dpop_nonce")
    key.nonce = other.nonce = first.headers["dpop-nonce"]
    for bad in (key.proof("GET", "/par"), key.proof("POST", "/token"), key.proof("POST", "/par", iat=1)):
        refused = await rp.push(headers={"dpop": bad})
        assert (refused.status, refused.json["error"]) == (400, "invalid_dpop_proof")
    conflict = await rp.push(headers={"dpop": key.proof("POST", "/par")}, dpop_jkt=other.jkt)
    assert (conflict.status, conflict.json["error"]) == (400, "invalid_request")
    pushed = await rp.push(headers={"dpop": key.proof("POST", "/par")})
    assert pushed.status == 201, pushed.body
    asked = await browser.get(f"/authorize?client_id={rp.id}&request_uri={pushed.json['request_uri']}")
    code = answer_of(asked)["code"]
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": rp.request()["redirect_uri"]}
    form["code_verifier"] = "v" * 43
    assert (await rp.post("token", "/token", form)).json["error"] == "invalid_grant"
    stolen = await rp.post("token", "/token", form, dpop=other.proof("POST", "/token"))
    assert stolen.json["error"] == "invalid_grant"
    bound = await rp.post("token", "/token", form, dpop=key.proof("POST", "/token"))
    assert (bound.status, bound.json["token_type"]) == (200, "DPoP")


async def test_apps_when_created_then_only_with_what_is_listed(
    system: System, acme: Tenant, metadata: Mapping[str, Any]
) -> None:
    """Dynamic Client Registration §2: methods and algorithms that are not supported cannot be had."""
    path = f"/api/admin/clients/{acme.id}/apps"
    for members, is_listed in (
        ({"token_endpoint_auth_method": "client_secret_jwt"}, False),
        ({"token_endpoint_auth_method": "tls_client_auth"}, False),
        ({"id_token_signed_response_alg": "none"}, False),
        ({"id_token_signed_response_alg": "HS256"}, False),
        ({"id_token_signed_response_alg": "ES256"}, True),
        ({"grant_types": ["implicit"]}, False),
    ):
        body = {"name": "x", "redirect_uris": ["https://app.example.com/callback"], **members}
        answer = await system.call("orgs", "POST", path, caller=system.admin(), json=body)
        assert answer.status == (201 if is_listed else 422), members
    assert "client_secret_jwt" not in metadata["token_endpoint_auth_methods_supported"]


async def test_languages_when_listed_then_pages_speak_them(
    metadata: Mapping[str, Any], rp: RelyingParty, system: System
) -> None:
    """§3 `ui_locales_supported`."""
    assert set(metadata["ui_locales_supported"]) == set(LANGUAGES)
    browser = Browser(system)
    for language in metadata["ui_locales_supported"]:
        page = await browser.follow(await browser.get(rp.url(ui_locales=language)))
        assert f'<html lang="{language}"'.encode() in page.body


async def test_pushed_request_when_used_then_once_by_its_app_and_nothing_beside_it_counts(
    system: System, acme: Tenant, rp: RelyingParty, browser: Browser
) -> None:
    """RFC 9126 §2, §4: `pushed_authorization_request_endpoint`; §6: apps that must push."""
    pushed = await rp.push(state="pushed", scope="openid email")
    assert pushed.status == 201, pushed.body
    assert pushed.json["expires_in"] == 90
    assert pushed.headers["cache-control"] == "no-store"
    uri = pushed.json["request_uri"]
    assert uri.startswith("urn:ietf:params:oauth:request_uri:")
    url = f"/authorize?client_id={rp.id}&request_uri={uri}"
    answer = await browser.get(f"{url}&state=query&scope=openid&redirect_uri=https://evil.example")
    got = answer_of(answer)
    assert got["state"] == "pushed"
    assert (await rp.redeem(got["code"])).json["scope"] == "openid email"
    assert (await browser.get(url)).status == 400, "once"
    raced = f"/authorize?client_id={rp.id}&request_uri={(await rp.push()).json['request_uri']}"
    statuses = [answer.status for answer in await asyncio.gather(*(browser.get(raced) for _ in range(20)))]
    assert sorted(statuses) == [303] + [400] * 19

    other = RelyingParty(system, acme, *await system.app(acme, trusted=True))
    uri = (await rp.push()).json["request_uri"]
    assert (await browser.get(f"/authorize?client_id={other.id}&request_uri={uri}")).status == 400
    # A login of an hour fits in: what was pushed waits with the user.
    fresh = Browser(system)
    uri = (await rp.push()).json["request_uri"]
    asked = await fresh.get(f"/authorize?client_id={rp.id}&request_uri={uri}")
    assert asked.headers["location"].startswith("/login?")

    for refused, error in (
        (await rp.push(request_uri=uri), "invalid_request"),
        (await rp.push(client_id=other.id), "invalid_client"),
        (await rp.push(scope=["openid", "email"]), "invalid_request"),
        (await rp.push(headers={"authorization": "Basic eDp5"}), "invalid_client"),
    ):
        assert refused.json["error"] == error
        assert refused.headers["cache-control"] == "no-store"
    path = f"/par?client_id={rp.id}"
    assert (await rp.post("federation", path, rp.request())).json["error"] == "invalid_request"
    as_json = await system.call("federation", "POST", "/par", caller=anybody(Access.OAUTH), json=rp.request())
    assert as_json.json["error"] == "invalid_client"
    typed = await rp.post("federation", "/par", rp.request(), content_type="application/json")
    assert typed.json["error"] == "invalid_request"

    only = RelyingParty(system, acme, *await system.app(acme, trusted=True, require_par=True))
    assert answer_of(await browser.get(only.url()))["error"] == "invalid_request"
    kept = await browser.post("/authorize", only.request(), is_cross_site=True)
    assert answer_of(await browser.follow(kept))["error"] == "invalid_request", (
        "a form of a browser is no push"
    )
    uri = (await only.push()).json["request_uri"]
    assert answer_of(await browser.get(f"/authorize?client_id={only.id}&request_uri={uri}"))["code"]


async def test_parameters_when_not_listed_then_refused(
    metadata: Mapping[str, Any], rp: RelyingParty, browser: Browser
) -> None:
    """§3 `claims_parameter_supported`, `request_parameter_supported`; RFC 9207 §3."""
    assert metadata["claims_parameter_supported"] is True
    assert metadata["request_parameter_supported"] is False
    assert answer_of(await browser.get(rp.url(request="x")))["error"] == "request_not_supported"
    assert metadata["authorization_response_iss_parameter_supported"] is True
    assert answer_of(await browser.get(rp.url()))["iss"] == metadata["issuer"]
