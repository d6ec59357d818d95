"""A CAPTCHA on the login page, where password logins need one solved."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from pydantic import SecretStr

from chassis.probes import Probes
from services.federation.tests.browser import CALLBACK, Browser, authorization
from services.federation.tests.people import PASSWORD, Person
from tests.fake_http import fake_http
from tests.harness import System


@contextlib.asynccontextmanager
async def demanding(system: System, **identity: Any) -> AsyncIterator[None]:
    """Run an identity with other settings, and a provider whose page logs in there."""
    first = system.faces["federation"]
    logins = system.definitions["identity"].build(system.settings("identity", **identity), system.clock)
    async with logins.started():
        assert logins.make_rpc is not None
        server = logins.make_rpc()
        port = await server.start("127.0.0.1:0")
        settings = system.settings("federation", identity_grpc=f"127.0.0.1:{port}")
        provider = system.definitions["federation"].build(settings, system.clock)
        async with provider.started():
            system.faces["federation"] = provider.make_face(Probes(provider.required, provider.optional))
            try:
                yield
            finally:
                system.faces["federation"] = first
        await server.stop(0)


async def test_page_shows_the_widget_and_passes_on_what_it_gave(system: System) -> None:
    tenant = await system.tenant(settings={"oidc_redirect_uris": [CALLBACK]})
    person, browser = await Person.new(system, tenant), Browser(system)
    async with fake_http() as verifier:
        rules = {
            "captcha_provider": "turnstile",
            "captcha_site_key": "site-key-1",
            "captcha_secret": SecretStr("secret-of-the-verifier"),
            "captcha_login_required": True,
            "captcha_verify_url": verifier.url,
            "captcha_timeout": timedelta(seconds=2),
        }
        async with demanding(system, **rules):
            page = await browser.get(authorization(tenant))
            [widget] = [item for item in page.document.all("div") if "data-sitekey" in item]
            assert (widget["class"], widget["data-sitekey"]) == ("captcha cf-turnstile", "site-key-1")
            policy = page.answer.headers["content-security-policy"]
            assert "; frame-src https://challenges.cloudflare.com" in policy
            login = {"email": person.email, "password": PASSWORD}

            missing = await browser.submit(page, **login)
            verifier.answer = {"success": False, "error-codes": ["invalid-input-response"]}
            forged = await browser.submit(page, **login, **{"cf-turnstile-response": "forged"})
            verifier.answer = {"success": True, "hostname": "localhost"}
            solved = await browser.submit(page, **login, **{"cf-turnstile-response": "solved"})

    for refused in (missing, forged):
        assert refused.answer.status == 422
        assert "Confirm that you are not a robot." in refused.text
    assert solved.answered["code"]
    assert [asked.form["response"] for asked in verifier.asked] == ["forged", "solved"]
