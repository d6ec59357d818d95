"""The authorization endpoint under attack; each attack beside the request that succeeds."""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import urlencode

import pytest

from chassis.probes import Probes
from services.federation.tests.flow import (
    CHALLENGE,
    REDIRECT,
    VERIFIER,
    Browser,
    RelyingParty,
    answer_of,
    fields_of,
    open_login,
)
from tests.harness import BASE_URL, System, Tenant
from tests.oauth_errors import DESCRIPTION


async def test_authorize_when_good_then_code_with_state_and_iss(rp: RelyingParty, browser: Browser) -> None:
    """The positive control of what follows, and O-09: the answer says whose it is (RFC 9207)."""
    request = rp.request(state="a b&c=ü")
    answer = await browser.get(f"/authorize?{urlencode(request)}")

    got = answer_of(answer)
    assert set(got) == {"code", "state", "iss"}
    assert (got["state"], got["iss"]) == ("a b&c=ü", BASE_URL)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    tokens = await rp.redeem(got["code"])
    assert tokens.status == 200, tokens.body
    event = await rp.system.event("authorization_granted", client_id=rp.tenant.id)
    assert event.data["scopes"] == ["openid"]


@pytest.mark.parametrize(
    "redirect_uri",
    [
        f"{REDIRECT}/../evil",
        f"{REDIRECT}/%2e%2e/evil",
        f"{REDIRECT}?x",
        f"{REDIRECT}#f",
        f"{REDIRECT}/",
        "https://app.example.com/Callback",
        "https://app.example.com@evil.example/callback",
        "https://evil.example\\@app.example.com/callback",
        "https://app.example.com.evil.example/callback",
        "http://app.example.com/callback",
        "https://app.example.com:444/callback",
        "//evil.example/callback",
        "https://app.example.com/callback\t",
        "https://app.example.com/callback\r\nx: y",
        "https://аpp.example.com/callback",
        "javascript:alert(1)",
        "data:text/html,x",
        "/callback",
        "",
        None,
    ],
)
async def test_redirect_uri_when_not_registered_then_page_and_no_redirect(
    rp: RelyingParty, browser: Browser, redirect_uri: str | None
) -> None:
    """O-01; also when everything else is wrong, and when the request is pushed."""
    for faults in ({}, {"response_type": "token"}, {"prompt": "none"}, {"response_mode": "form_post"}):
        answer = await browser.get(rp.url(redirect_uri=redirect_uri, **faults))
        assert answer.status == 400
        assert "location" not in answer.headers
        assert b"evil" not in answer.body
        assert fields_of(answer) == {}
    pushed = await rp.push(redirect_uri=redirect_uri)
    assert (pushed.status, pushed.json["error"]) == (400, "invalid_request")


async def test_app_when_not_usable_then_page_and_no_redirect(
    system: System, rp: RelyingParty, browser: Browser
) -> None:
    """Nothing that an unknown or disabled app says is followed; unknown, malformed, twice."""
    for client_id in ("00000000-0000-7000-8000-000000000000", "x", "<script>", None, rp.id.upper()):
        answer = await browser.get(rp.url(client_id=client_id))
        assert (answer.status, answer.headers.get("location")) == (400, None)
        assert b"<script>" not in answer.body
    for name, other in (("client_id", "x"), ("redirect_uri", "https://evil.example")):
        answer = await browser.get(f"{rp.url()}&{urlencode({name: other})}")
        assert (answer.status, answer.headers.get("location")) == (400, None)

    assert answer_of(await browser.get(rp.url()))["code"]
    path = f"/api/admin/clients/{rp.tenant.id}/apps/{rp.id}"
    changed = await system.call("orgs", "PATCH", path, caller=system.admin(), json={"status": "disabled"})
    assert changed.status == 200, changed.body
    async with asyncio.timeout(5):
        while (answer := await browser.get(rp.url())).status != 400:
            await asyncio.sleep(0.02)
    assert "location" not in answer.headers


async def test_loopback_when_native_then_any_port_and_nothing_else(
    system: System, acme: Tenant, browser: Browser
) -> None:
    """O-02 (RFC 8252 §7.3)."""
    app = await system.app(
        acme,
        application_type="native",
        token_endpoint_auth_method="none",
        redirect_uris=["http://127.0.0.1/cb", "com.example.app:/cb"],
        trusted=True,
    )
    rp = RelyingParty(system, acme, *app)
    for good in ("http://127.0.0.1/cb", "http://127.0.0.1:49152/cb", "com.example.app:/cb"):
        answer = await browser.get(rp.url(redirect_uri=good))
        assert answer.status == 303, answer.body
        assert answer.headers["location"].startswith(f"{good}?code=")
    for bad in (
        *("http://localhost:49152/cb", "http://0.0.0.0/cb", "http://[::]/cb", "http://[::1]/cb"),
        *("https://127.0.0.1/cb", "http://127.0.0.1:99999/cb", "http://127.0.0.1:1@evil.example/cb"),
        *(
            "http://127.0.0.1:80/cb/x",
            "http://127.1/cb",
            "com.example.app:/other",
            "com.example.application:/cb",
        ),
    ):
        answer = await browser.get(rp.url(redirect_uri=bad))
        assert (answer.status, answer.headers.get("location")) == (400, None), bad


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        # O-30: no token ever comes by the URL.
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": "id_token"}, "unsupported_response_type"),
        ({"response_type": "code id_token"}, "unsupported_response_type"),
        ({"response_type": "none"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "form_post.jwt"}, "invalid_request"),
        ({"response_mode": "query.jwt"}, "invalid_request"),
        ({"response_mode": "web_message"}, "invalid_request"),
        # O-08 and O-07: S256 and nothing else.
        ({"code_challenge_method": "s256"}, "invalid_request"),
        ({"code_challenge_method": "S512"}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": ["S256", "plain"]}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge": None, "code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": CHALLENGE[:-1]}, "invalid_request"),
        ({"code_challenge": f"{CHALLENGE[:-1]}="}, "invalid_request"),
        ({"code_challenge": "a" * 129}, "invalid_request"),
        # OpenID Connect Core §6, §7.2.1.
        ({"request": "eyJhbGciOiJub25lIn0.e30."}, "request_not_supported"),
        ({"registration": "{}"}, "registration_not_supported"),
        # Parameters once (RFC 6749 §3.1).
        ({"scope": ["openid", "email"]}, "invalid_request"),
        ({"nonce": ["a", "b"]}, "invalid_request"),
        ({"x_unknown": ["a", "b"]}, "invalid_request"),
        ({"scope": 'op"en'}, "invalid_scope"),
        ({"scope": "admin"}, "invalid_scope"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "none create"}, "invalid_request"),
        ({"prompt": "enroll"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"max_age": "1e3"}, "invalid_request"),
        ({"claims": "[]"}, "invalid_request"),
        ({"claims": '{"id_token":1}'}, "invalid_request"),
        ({"claims": '{"id_token":{"a":NaN}}'}, "invalid_request"),
        ({"claims": "[" * 3000}, "invalid_request"),
        ({"claims": '{"id_token":' + '{"a":' * 700}, "invalid_request"),
        ({"nonce": "n" * 1025}, "invalid_request"),
        ({"state": "s" * 4097}, "invalid_request"),
        ({"id_token_hint": "x.y.z"}, "invalid_request"),
        ({"dpop_jkt": "short"}, "invalid_request"),
        # RFC 8707.
        ({"resource": "https://evil.example"}, "invalid_target"),
        ({"resource": "https://api.example.com/v1#x"}, "invalid_target"),
        ({"resource": "v1"}, "invalid_target"),
        ({"resource": ["https://api.example.com/v1", "https://evil.example"]}, "invalid_target"),
    ],
)
async def test_request_when_not_acceptable_then_app_is_told_with_state_and_iss(
    rp: RelyingParty, browser: Browser, changes: dict[str, Any], error: str
) -> None:
    request = rp.request(**changes)
    got = answer_of(await browser.get(f"/authorize?{urlencode(request, doseq=True)}"))
    assert set(got) <= {"error", "error_description", "state", "iss"}
    assert (got["error"], got["iss"]) == (error, BASE_URL)
    assert got["state"] == request["state"]
    assert DESCRIPTION.fullmatch(got["error_description"])
    assert "<" not in got["error_description"]
    if isinstance(changes.get("code_challenge_method"), str | None):
        pushed = await rp.push(**changes)
        assert (pushed.status, pushed.json["error"]) == (400, error)


async def test_state_when_sent_twice_or_not_then_never_invented(rp: RelyingParty, browser: Browser) -> None:
    assert "state" not in answer_of(await browser.get(rp.url(state=None)))
    got = answer_of(await browser.get(rp.url(state=["a", "b"])))
    assert (got["error"], "state" in got) == ("invalid_request", False)


async def test_response_mode_when_each_then_answer_travels_so(rp: RelyingParty, browser: Browser) -> None:
    """OAuth 2.0 Multiple Response Types §2.1; Form Post Response Mode §2."""
    query = await browser.get(rp.url(response_mode="query"))
    assert "?code=" in query.headers["location"]
    fragment = await browser.get(rp.url(response_mode="fragment"))
    assert "?" not in fragment.headers["location"]
    assert answer_of(fragment)["code"]

    form = await browser.get(rp.url(response_mode="form_post", state='"><script>x</script>'))
    assert form.status == 200
    assert f'action="{REDIRECT}"'.encode() in form.body
    assert b"<script>x" not in form.body
    fields = fields_of(form)
    assert (fields["state"], fields["iss"]) == ('"><script>x</script>', BASE_URL)
    assert (await rp.redeem(fields["code"])).status == 200
    refused = await browser.get(rp.url(response_mode="form_post", scope="admin"))
    assert fields_of(refused)["error"] == "invalid_scope"
    policy = form.headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-inline" not in policy


async def test_redirect_uri_when_registered_with_query_then_kept(
    system: System, acme: Tenant, browser: Browser
) -> None:
    """RFC 6749 §3.1.2: the query component is retained."""
    uri = "https://app.example.com/callback?tenant=1"
    rp = RelyingParty(system, acme, *await system.app(acme, redirect_uris=[uri], trusted=True))
    answer = await browser.get(rp.url(redirect_uri=uri))
    assert answer.headers["location"].startswith(f"{uri}&code=")


async def test_public_app_when_no_challenge_then_refused_though_pkce_is_optional(
    system: System, acme: Tenant, browser: Browser
) -> None:
    """O-07: only an app that keeps a secret may do without PKCE."""
    no_pkce = {"code_challenge": None, "code_challenge_method": None}
    members: dict[str, Any] = {"require_pkce": False, "trusted": True}
    confidential = RelyingParty(system, acme, *await system.app(acme, **members))
    code = answer_of(await browser.get(confidential.url(**no_pkce)))["code"]
    # A verifier without a challenge: the challenge was taken out on the way (RFC 9700 §4.8.2).
    assert (await confidential.redeem(code)).json["error"] == "invalid_grant"
    code = answer_of(await browser.get(confidential.url(**no_pkce)))["code"]
    assert (await confidential.redeem(code, code_verifier=None)).status == 200

    public = RelyingParty(
        system, acme, *await system.app(acme, token_endpoint_auth_method="none", trusted=True)
    )
    assert answer_of(await browser.get(public.url(**no_pkce)))["error"] == "invalid_request"
    assert answer_of(await browser.get(public.url()))["code"]


async def test_code_when_redeemed_otherwise_then_refused(rp: RelyingParty, browser: Browser) -> None:
    """O-03, O-07 through /token, with O-04's positive control at the end."""
    for changes in (
        {"redirect_uri": None},
        {"redirect_uri": f"{REDIRECT}/"},
        {"code_verifier": None},
        {"code_verifier": "w" * 43},
        {"code_verifier": VERIFIER[:-1]},
        {"code_verifier": "v" * 129},
    ):
        code = answer_of(await browser.get(rp.url()))["code"]
        answer = await rp.redeem(code, **changes)
        assert answer.status == 400, changes
        assert answer.json["error"] in ("invalid_grant", "invalid_request")
        assert answer.headers["cache-control"] == "no-store"
        assert (await rp.redeem(code)).status == 200


async def test_form_when_another_site_sends_it_then_comes_back_with_cookies(
    rp: RelyingParty, browser: Browser
) -> None:
    """POST /authorize (OpenID Connect Core §3.1.2.1): cookies are `Lax`, so the form is fetched again."""
    kept = await browser.post("/authorize", rp.request(), is_cross_site=True)
    again = await browser.follow(kept)
    assert answer_of(again)["code"]
    # Once: what came by a form is not good for a second time.
    assert (await browser.follow(kept)).status == 400
    wrong = await browser.post("/authorize", rp.request(redirect_uri="https://evil.example"))
    assert (wrong.status, wrong.headers.get("location")) == (400, None)
    assert (await browser.post("/authorize", rp.request(), content_type="text/plain")).status == 400


async def test_login_of_another_tenant_when_shown_then_no_login_here(
    system: System, rp: RelyingParty, browser: Browser
) -> None:
    other = await system.tenant()
    login = await open_login(system, other)
    foreign = Browser(system)
    await foreign.know(login)
    stolen = foreign.cookies[f"auth_issuer_{other.id.hex[:16]}"]
    foreign.cookies[f"auth_issuer_{rp.tenant.id.hex[:16]}"] = stolen
    assert answer_of(await foreign.get(rp.url(prompt="none")))["error"] == "login_required"
    assert answer_of(await browser.get(rp.url(prompt="none")))["code"]


async def test_prefetch_when_browser_fetches_ahead_then_no_code(rp: RelyingParty, browser: Browser) -> None:
    assert (await browser.get(rp.url(), sec_purpose="prefetch")).status == 503
    assert answer_of(await browser.get(rp.url()))["code"]


async def test_error_page_when_shown_then_cannot_be_framed_or_kept(
    rp: RelyingParty, browser: Browser
) -> None:
    """O-35, O-32."""
    answer = await browser.get(rp.url(client_id="<b>x", ui_locales="de"))
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert b"<b>x" not in answer.body


async def test_redis_when_away_then_app_is_told(
    system: System, rp: RelyingParty, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is logged in needs no Redis; who must log in is told to come back."""
    app = system.definitions["federation"].build(system.settings("federation", redis_url=None), system.clock)
    async with app.started():
        monkeypatch.setitem(system.faces, "federation", app.make_face(Probes(app.required, app.optional)))
        assert answer_of(await browser.get(rp.url()))["code"]
        got = answer_of(await Browser(system).get(rp.url()))
        assert got["error"] == "temporarily_unavailable"
