"""The rules that the OpenID Foundation's basic plan checks, as tests of ours: one for each, by its section.

Sections are of OpenID Connect Core 1.0 unless another document is named.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

import jwt
import pytest

from chassis.context import Access
from services.federation.authorize.models import ACR_VALUES, TWO_FACTORS
from services.federation.tests.flow import (
    FORM,
    PASSWORD,
    Browser,
    Person,
    RelyingParty,
    answer_of,
    anybody,
    fields_of,
    open_login,
    sign_up,
    user_of,
)
from tests.harness import BASE_URL, Answer, System, Tenant

_MOVED = timedelta(seconds=10)  # by how much a test may have moved the clock


@pytest.fixture(scope="module")
async def person(system: System, acme: Tenant) -> Person:
    """A user who signed up; no test changes anything about it."""
    return await sign_up(system, acme)


@pytest.fixture
async def fresh(system: System) -> Browser:
    """A browser in which nobody is logged in."""
    return Browser(system)


async def keys_of(system: System) -> dict[str, Any]:
    """The published keys, by name."""
    answer = await system.call("token", "GET", "/.well-known/jwks.json", caller=anybody())
    return {key["kid"]: jwt.PyJWK(key) for key in answer.json["keys"]}


async def tokens_of(rp: RelyingParty, answer: Answer, **changes: Any) -> dict[str, Any]:
    """Redeem the code of an answer."""
    redeemed = await rp.redeem(answer_of(answer)["code"], **changes)
    assert redeemed.status == 200, redeemed.body
    document: dict[str, Any] = redeemed.json
    return document


async def id_token_of(rp: RelyingParty, answer: Answer) -> dict[str, Any]:
    """The claims of the ID token behind an answer's code, verified as §3.1.3.7 says."""
    token = (await tokens_of(rp, answer))["id_token"]
    key = (await keys_of(rp.system))[jwt.get_unverified_header(token)["kid"]]
    claims: dict[str, Any] = jwt.decode(
        token, key, algorithms=["RS256"], audience=rp.id, issuer=BASE_URL, leeway=_MOVED
    )
    return claims


async def test_id_token_when_issued_then_verifiable_and_complete(
    system: System, rp: RelyingParty, person: Person, fresh: Browser
) -> None:
    """§2, §3.1.3.7: signature, `iss`, `aud`, `exp`, `iat`, `auth_time`, `nonce`, `sub`; §10.1: `kid`."""
    before = int(system.clock.now().timestamp())
    claims = await id_token_of(rp, await fresh.log_in(await fresh.get(rp.url(nonce="n-0S6")), person))
    assert (claims["sub"], claims["nonce"], claims["azp"]) == (person.id, "n-0S6", rp.id)
    assert before <= claims["auth_time"] <= claims["iat"] < claims["exp"]
    assert (claims["amr"], claims["acr"]) == (["pwd"], ACR_VALUES[0])
    # §5.4: claims about the user come from userinfo, unless they are asked for.
    assert len(claims["sub"]) <= 255


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_id_token_when_app_wants_another_algorithm_then_signed_so(
    system: System, acme: Tenant, browser: Browser, algorithm: str
) -> None:
    """Dynamic Client Registration §2: `id_token_signed_response_alg`."""
    app = await system.app(acme, trusted=True, id_token_signed_response_alg=algorithm)
    rp = RelyingParty(system, acme, *app)
    tokens = await tokens_of(rp, await browser.get(rp.url()))
    token = tokens["id_token"]
    header = jwt.get_unverified_header(token)
    assert header["alg"] == algorithm
    key = (await keys_of(system))[header["kid"]]
    jwt.decode(token, key, algorithms=[algorithm], audience=rp.id, issuer=BASE_URL, leeway=_MOVED)
    # And RFC 9701 §6: what the issuer says of a token is signed in the same way.
    asked, accept = {"token": tokens["access_token"]}, "application/token-introspection+jwt"
    told = (await rp.post("token", "/introspect", asked, accept=accept)).body.decode()
    jwt.decode(told, key, algorithms=[algorithm], audience=rp.id, issuer=BASE_URL, leeway=_MOVED)


async def test_response_type_when_missing_then_invalid_request(rp: RelyingParty, browser: Browser) -> None:
    """§3.1.2.1, RFC 6749 §4.1.2.1."""
    assert answer_of(await browser.get(rp.url(response_type=None)))["error"] == "invalid_request"


async def test_nonce_when_not_sent_then_none_in_the_id_token(rp: RelyingParty, browser: Browser) -> None:
    """§3.1.2.1: optional with the code flow."""
    assert "nonce" not in await id_token_of(rp, await browser.get(rp.url(nonce=None)))


async def test_userinfo_when_asked_in_each_way_then_same_sub(rp: RelyingParty, browser: Browser) -> None:
    """§5.3.1, RFC 6750 §2: by GET, by POST with the header, by POST with the body."""
    document = await tokens_of(rp, await browser.get(rp.url()))
    token, caller = document["access_token"], anybody(Access.OAUTH)
    sub = jwt.decode(document["id_token"], options={"verify_signature": False})["sub"]
    bearer = {"authorization": f"Bearer {token}"}
    form = {"content-type": FORM}
    body = urlencode({"access_token": token}).encode()
    answers = [
        await rp.userinfo(token),
        await rp.system.call("federation", "POST", "/userinfo", caller=caller, headers=bearer),
        await rp.system.call("federation", "POST", "/userinfo", caller=caller, headers=form, content=body),
    ]
    assert [(answer.status, answer.json["sub"]) for answer in answers] == [(200, sub)] * 3


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        ("openid", set()),
        ("openid profile", {"name", "updated_at"}),
        ("openid email", {"email", "email_verified"}),
        ("email openid profile", {"name", "updated_at", "email", "email_verified"}),
        ("openid address", set()),
        ("openid phone", set()),
        ("openid profile email address phone unheard-of", {"name", "updated_at", "email", "email_verified"}),
    ],
)
async def test_scope_when_granted_then_its_claims_and_no_others(
    rp: RelyingParty, browser: Browser, scope: str, names: set[str]
) -> None:
    """§5.4; §3.1.2.1: scopes that are not understood are ignored, their order means nothing."""
    document = await tokens_of(rp, await browser.get(rp.url(scope=scope)))
    claims = (await rp.userinfo(document["access_token"])).json
    assert set(claims) - {"sub", "locale"} == names
    known = [word for word in scope.split() if word not in ("address", "phone", "unheard-of")]
    assert document["scope"].split() == known


@pytest.mark.parametrize(
    "more",
    [
        {"display": "page"},
        {"display": "popup"},
        {"display": "unheard-of"},
        {"ui_locales": "se de"},
        {"claims_locales": "se"},
        {"extra": "foobar"},
        {"acr_values": "1 2"},
        {"acr_values": " ".join(ACR_VALUES)},
        {"login_hint": "buffy@example.com"},
        {"max_age": "10000"},
    ],
)
async def test_parameter_when_tolerated_then_code(
    rp: RelyingParty, browser: Browser, more: dict[str, str]
) -> None:
    """§3.1.2.1: parameters that are not understood, or ask for nothing that is not so already, do no harm."""
    assert answer_of(await browser.get(rp.url(prompt="none", **more)))["code"]


async def test_ui_locales_when_sent_then_page_in_that_language(rp: RelyingParty, fresh: Browser) -> None:
    """§3.1.2.1."""
    page = await fresh.follow(await fresh.get(rp.url(ui_locales="xx fr")))
    assert b'<html lang="fr"' in page.body


async def test_login_hint_when_sent_then_filled_in(rp: RelyingParty, fresh: Browser) -> None:
    """§3.1.2.1."""
    page = await fresh.follow(await fresh.get(rp.url(login_hint="buffy@example.com")))
    assert b'value="buffy@example.com"' in page.body


async def test_prompt_none_when_nobody_is_logged_in_then_login_required(
    rp: RelyingParty, fresh: Browser
) -> None:
    """§3.1.2.1, §3.1.2.6; O-28."""
    got = answer_of(await fresh.get(rp.url(prompt="none")))
    assert got["error"] == "login_required"
    assert "code" not in got
    for other in ("none login", "none consent", "none select_account"):
        assert answer_of(await fresh.get(rp.url(prompt=other)))["error"] == "invalid_request"


async def test_prompt_none_when_logged_in_then_same_login(
    rp: RelyingParty, person: Person, fresh: Browser
) -> None:
    """§3.1.2.1: no page, and the same `auth_time` and `sub`."""
    first = await id_token_of(rp, await fresh.log_in(await fresh.get(rp.url()), person))
    second = await id_token_of(rp, await fresh.get(rp.url(prompt="none")))
    assert [second[name] for name in ("sub", "auth_time", "sid")] == [
        first[name] for name in ("sub", "auth_time", "sid")
    ]


@pytest.mark.parametrize("demand", [{"prompt": "login"}, {"max_age": "0"}, {"max_age": "1"}])
async def test_login_when_demanded_anew_then_auth_time_moves(
    system: System, rp: RelyingParty, person: Person, fresh: Browser, demand: dict[str, str]
) -> None:
    """§3.1.2.1 `prompt=login`, `max_age`; §2: `auth_time`. O-28: the second leg cannot drop it."""
    first = await id_token_of(rp, await fresh.log_in(await fresh.get(rp.url()), person))
    with system.clock.advanced(timedelta(seconds=3)):
        asked = await fresh.get(rp.url(**demand))
        page = await fresh.follow(asked)
        assert b'value="continue"' not in page.body
        handle = fields_of(page)["request"]
        # Neither the resumption nor the button of another page gets past it.
        resumed = await fresh.get(f"/authorize/resume?request={handle}")
        assert resumed.headers["location"].startswith("/login?")
        assert (await fresh.post("/login", {**fields_of(page), "action": "continue"})).status == 403
        second = await id_token_of(rp, await fresh.log_in(asked, person))
    assert second["auth_time"] > first["auth_time"]
    assert second["sub"] == first["sub"]
    same = await id_token_of(rp, await fresh.get(rp.url(prompt="none", max_age="10000")))
    assert same["auth_time"] == second["auth_time"]


async def test_prompt_select_account_when_logged_in_then_the_user_chooses(
    system: System, rp: RelyingParty, acme: Tenant, person: Person, fresh: Browser
) -> None:
    """§3.1.2.1."""
    await fresh.log_in(await fresh.get(rp.url()), person)
    asked = await fresh.get(rp.url(prompt="select_account"))
    page = await fresh.follow(asked)
    assert person.email.encode() in page.body
    went_on = await fresh.post("/login", {**fields_of(page), "action": "continue"})
    assert (await id_token_of(rp, await fresh.follow(went_on)))["sub"] == person.id

    another = await sign_up(system, acme)
    chosen = await fresh.log_in(await fresh.get(rp.url(prompt="select_account")), another)
    assert (await id_token_of(rp, chosen))["sub"] == another.id


async def test_id_token_hint_when_its_user_or_another_is_logged_in_then_as_it_says(
    system: System, acme: Tenant, rp: RelyingParty, person: Person, fresh: Browser
) -> None:
    """§3.1.2.1: expired is fine; another user is `login_required`; what we did not sign is no hint. J-13."""
    hint = (await tokens_of(rp, await fresh.log_in(await fresh.get(rp.url()), person)))["id_token"]
    assert answer_of(await fresh.get(rp.url(prompt="none", id_token_hint=hint)))["code"]
    with system.clock.advanced(timedelta(hours=2)):
        assert answer_of(await fresh.get(rp.url(prompt="none", id_token_hint=hint)))["code"]

    other = Browser(system)
    await other.know(await open_login(system, acme))
    silent = answer_of(await other.get(rp.url(prompt="none", id_token_hint=hint)))
    assert silent["error"] == "login_required"
    stranger = await sign_up(system, acme)
    wrong = await other.log_in(await other.get(rp.url(id_token_hint=hint)), stranger)
    assert answer_of(wrong)["error"] == "login_required"
    right = await other.log_in(await other.get(rp.url(id_token_hint=hint)), person)
    assert (await id_token_of(rp, right))["sub"] == person.id

    access = (await tokens_of(rp, await fresh.get(rp.url())))["access_token"]
    head, payload, signature = hint.split(".")
    forged = jwt.encode({"sub": person.id, "iss": BASE_URL}, "k" * 32, algorithm="HS256")
    for bad in (access, forged, f"{head}.{payload}.", f"{head}.{payload}.{signature[:-2]}AA", "x"):
        assert answer_of(await fresh.get(rp.url(id_token_hint=bad)))["error"] == "invalid_request"


async def test_claims_when_one_user_is_asked_for_then_nobody_else(
    rp: RelyingParty, person: Person, fresh: Browser, browser: Browser
) -> None:
    """§5.5.1: `sub` with a value."""
    claims = json.dumps({"id_token": {"sub": {"value": person.id}}})
    await fresh.log_in(await fresh.get(rp.url()), person)
    assert answer_of(await fresh.get(rp.url(prompt="none", claims=claims)))["code"]
    assert answer_of(await browser.get(rp.url(prompt="none", claims=claims)))["error"] == "login_required"


async def test_claims_when_asked_by_name_then_given_where_asked(rp: RelyingParty, browser: Browser) -> None:
    """§5.5: essential and voluntary, in the ID token and at userinfo; unknown ones are ignored."""
    claims = {
        "id_token": {"email": {"essential": True}, "auth_time": {"essential": True}, "unheard_of": None},
        "userinfo": {"name": {"essential": True}, "http://example.info/claims": None},
    }
    document = await tokens_of(rp, await browser.get(rp.url(claims=json.dumps(claims))))
    identity = jwt.decode(document["id_token"], options={"verify_signature": False})
    assert identity["email"].endswith("@example.com")
    assert {"name", "unheard_of"}.isdisjoint(identity)
    assert set((await rp.userinfo(document["access_token"])).json) == {"sub", "name"}


async def test_claims_when_the_app_may_not_have_them_then_neither_by_name(
    system: System, acme: Tenant, browser: Browser
) -> None:
    """§5.5: asking by name gives no more than the scope, which user and tenant must allow."""
    claims = json.dumps({"userinfo": {"email": None, "phone_number": None, "name": None}})
    narrow = RelyingParty(system, acme, *await system.app(acme, trusted=True, scopes=["openid", "profile"]))
    document = await tokens_of(narrow, await browser.get(narrow.url(claims=claims)))
    assert set((await narrow.userinfo(document["access_token"])).json) == {"sub", "name"}
    asked = RelyingParty(system, acme, *await system.app(acme))
    page = await browser.follow(await browser.get(asked.url(claims=claims)))
    assert b"email address" in page.body


async def test_acr_when_a_second_factor_is_demanded_then_only_such_a_login(
    system: System, acme: Tenant, rp: RelyingParty, person: Person, browser: Browser, fresh: Browser
) -> None:
    """§5.5.1.1, RFC 9470 §5: a login of one factor does not do, and who has no second gets no code."""
    strong = Browser(system)
    user = user_of(acme)
    await strong.know(await open_login(system, acme, user, acr=TWO_FACTORS))
    essential = json.dumps({"id_token": {"acr": {"essential": True, "values": [TWO_FACTORS]}}})
    for demand in ({"acr_values": TWO_FACTORS}, {"claims": essential}):
        assert (await id_token_of(rp, await strong.get(rp.url(**demand))))["acr"] == TWO_FACTORS
        silent = answer_of(await browser.get(rp.url(prompt="none", **demand)))
        assert silent["error"] == "login_required"
    impossible = json.dumps({"id_token": {"acr": {"essential": True, "value": "unheard-of"}}})
    refused = answer_of(await strong.get(rp.url(claims=impossible)))
    assert refused["error"] == "unmet_authentication_requirements"


async def test_consent_when_posted_past_the_judgement_of_the_login_then_no_code(
    rp: RelyingParty, person: Person, fresh: Browser, browser: Browser
) -> None:
    """RFC 9470 §5, O-28: a browser that does not go where it is led gets no more than one that does."""
    demands = {"acr_values": TWO_FACTORS}, {"login_hint": person.email}
    for demand, answer in zip(demands, ("unmet_authentication_requirements", None), strict=True):
        page = await fresh.follow(await fresh.get(rp.url(**demand)))
        fields = fields_of(page)
        entered = await fresh.post("/login", {**fields, "email": person.email, "password": PASSWORD})
        assert entered.headers["location"].startswith("/authorize/resume"), "and is not followed"
        got = answer_of(await fresh.post("/consent", {**fields, "decision": "approve"}))
        assert got.get("error") == answer
        assert ("code" in got) == (answer is None)
        fresh.cookies = {name: value for name, value in fresh.cookies.items() if "issuer" not in name}
    fields = fields_of(await browser.follow(await browser.get(rp.url(prompt="login"))))
    shown = await browser.post("/consent", {**fields, "decision": "approve"})
    assert shown.headers["location"].startswith("/login"), "a login of before is none for this request"


async def test_request_object_when_sent_then_not_supported(rp: RelyingParty, browser: Browser) -> None:
    """§6.1, §3.1.2.6; `request_uri` stands for pushed requests alone (RFC 9126)."""
    claims = {"client_id": rp.id, "redirect_uri": "https://evil.example/callback", "state": "another"}
    unsigned = jwt.encode(claims, "", algorithm="none")
    assert answer_of(await browser.get(rp.url(request=unsigned)))["error"] == "request_not_supported"
    answer = await browser.get(rp.url(request_uri="https://app.example.com/request.jwt"))
    assert (answer.status, answer.headers.get("location")) == (400, None)


async def test_post_when_used_for_the_request_then_as_get(rp: RelyingParty, browser: Browser) -> None:
    """§3.1.2.1: both methods."""
    kept = await browser.post("/authorize", rp.request(), is_cross_site=True)
    assert answer_of(await browser.follow(kept))["code"]
    twice = await browser.post("/authorize", rp.request(prompt=["none", "login"]), is_cross_site=True)
    assert answer_of(await browser.follow(twice))["error"] == "invalid_request"


@pytest.mark.parametrize("seconds", [0, 30])
async def test_code_when_used_twice_then_refused_and_its_tokens_end(
    system: System, rp: RelyingParty, browser: Browser, seconds: int
) -> None:
    """§3.1.3.2, RFC 6749 §4.1.2; O-04."""
    code = answer_of(await browser.get(rp.url()))["code"]
    first = await rp.redeem(code)
    assert (await rp.userinfo(first.json["access_token"])).status == 200
    with system.clock.advanced(timedelta(seconds=seconds)):
        again = await rp.redeem(code)
    assert (again.status, again.json["error"]) == (400, "invalid_grant")
    assert (await rp.userinfo(first.json["access_token"])).status == 401


async def test_code_when_old_or_another_apps_then_refused(
    system: System, acme: Tenant, rp: RelyingParty, browser: Browser
) -> None:
    """§3.1.3.2; O-05, O-06."""
    other = RelyingParty(system, acme, *await system.app(acme, trusted=True))
    code = answer_of(await browser.get(rp.url()))["code"]
    assert (await other.redeem(code)).json["error"] == "invalid_grant"
    with system.clock.advanced(timedelta(seconds=61)):
        assert (await rp.redeem(code)).json["error"] == "invalid_grant"


async def test_client_when_it_proves_itself_in_each_way_then_tokens(
    system: System, acme: Tenant, rp: RelyingParty, browser: Browser
) -> None:
    """§9, RFC 6749 §2.3.1; O-21: by header, by body, as a public app; two ways or a wrong one are refused."""
    assert (await rp.redeem(answer_of(await browser.get(rp.url()))["code"])).status == 200
    body = {"client_id": rp.id, "client_secret": rp.secret}
    bare = RelyingParty(system, acme, rp.id, "")
    code = answer_of(await browser.get(rp.url()))["code"]
    for wrong in (
        {**body, "client_secret": "acs_x"},
        {"client_id": rp.id},
        {**body, "client_id": str(acme.id)},
    ):
        refused = await bare.redeem(code, **wrong)
        assert (refused.status, refused.json["error"]) == (401, "invalid_client"), wrong
    both = await rp.redeem(code, **body)
    assert both.json["error"] in ("invalid_client", "invalid_request")
    assert (await bare.redeem(code, **body)).status == 200

    public = await system.app(acme, trusted=True, token_endpoint_auth_method="none")
    assert public[1] == ""
    spa = RelyingParty(system, acme, *public)
    assert (await spa.redeem(answer_of(await browser.get(spa.url()))["code"])).status == 200
    # The tenant itself is an app, with its API key for a secret.
    own = RelyingParty(system, acme, str(acme.id), acme.api_key)
    assert (await own.redeem(answer_of(await browser.get(own.url()))["code"])).status == 200


async def test_offline_access_when_granted_then_refreshed_beyond_the_login(
    rp: RelyingParty, browser: Browser, asking: RelyingParty
) -> None:
    """§11, §12: a refresh token only with `offline_access`, for which an app that is not trusted must ask."""
    assert "refresh_token" not in await tokens_of(rp, await browser.get(rp.url()))
    document = await tokens_of(rp, await browser.get(rp.url(scope="openid offline_access")))
    form = {"grant_type": "refresh_token", "refresh_token": document["refresh_token"]}
    renewed = await rp.post("token", "/token", form)
    assert renewed.status == 200, renewed.body
    assert renewed.json["refresh_token"] != document["refresh_token"]
    first, second = [
        jwt.decode(answer["id_token"], options={"verify_signature": False})
        for answer in (document, renewed.json)
    ]
    # §12.2: the same user, app and login; `nonce` is of the request that is over.
    same = ("iss", "sub", "aud", "azp", "auth_time", "sid", "acr", "amr")
    assert [second[name] for name in same] == [first[name] for name in same]
    assert (first["nonce"], "nonce" in second) == ("n-1", False)
    assert second["iat"] >= first["iat"]
    assert second["at_hash"] != first["at_hash"]
    silent = answer_of(await browser.get(asking.url(scope="openid offline_access", prompt="none")))
    assert silent["error"] == "consent_required"


async def test_scope_when_not_openid_then_plain_oauth(rp: RelyingParty, browser: Browser) -> None:
    """RFC 6749 §3.3: no ID token without `openid`; without `scope` the app's own."""
    document = await tokens_of(rp, await browser.get(rp.url(scope="notes:write")))
    assert (document["scope"], "id_token" in document) == ("notes:write", False)
    assert (await rp.userinfo(document["access_token"])).status == 403
    default = await tokens_of(rp, await browser.get(rp.url(scope=None)))
    assert set(default["scope"].split()) == {"profile", "email", "org", "notes:write"}
    assert "refresh_token" not in default
