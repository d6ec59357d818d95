"""Login, userinfo, refresh and logout with relying parties that are not ours, from discovery alone."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant
from tests.interop.apache import Apache, is_installed
from tests.interop.browser import Browser, Page
from tests.interop.conftest import PYTHON, Start, free_port, lacks, needs, new_app

FOLDER = "tests/interop/relying_parties"
GRANTS = ["authorization_code", "refresh_token"]


async def registered(stack: Stack, tenant: Tenant, port: int, **members: Any) -> dict[str, str]:
    """Register the app behind a relying party on a port; what its process is told."""
    own = f"http://127.0.0.1:{port}"
    fields = {
        "redirect_uris": [f"{own}/callback"],
        "post_logout_redirect_uris": [f"{own}/bye"],
        "grant_types": GRANTS,
        **members,
    }
    app_id, secret = await new_app(stack, tenant, **fields)
    return {"CLIENT_ID": app_id, "CLIENT_SECRET": secret}


def check_login(page: Page, user: Login) -> dict[str, Any]:
    """The relying party shows who the user is, by the ID token and by userinfo."""
    assert page.answer.status_code == 200, page.answer.text
    shown: dict[str, Any] = page.answer.json()
    for said in (shown["claims"], shown["userinfo"]):
        assert said["sub"] == user.user_id
    assert shown["userinfo"]["email"] == user.email
    return shown


@pytest.mark.parametrize("token_mode", ["v2_jwks", "v3_es256"])
async def test_openid_client(
    stack: Stack, node: str, start: Start, browser: Browser, token_mode: str
) -> None:
    tenant = await stack.tenant(token_mode=token_mode)
    user = await stack.sign_up(tenant)
    port = free_port()
    env = await registered(stack, tenant, port)
    party = await start("openid-client", [node, f"{FOLDER}/openid_client.mjs"], port, env)

    page = await browser.log_in(await browser.open(f"{party}/login"), user.email, PASSWORD)

    assert check_login(page, user)["claims"]["aud"] == env["CLIENT_ID"]
    refreshed = (await browser.open(f"{party}/refresh")).answer.json()
    assert (refreshed["userinfo"]["sub"], refreshed["rotated"]) == (user.user_id, True)
    assert (await browser.open(f"{party}/introspect")).answer.json()["active"] is True
    assert (await browser.open(f"{party}/revoke")).answer.json() == {"active": False}
    await check_logout(browser, party)
    assert all(PASSWORD not in url for url in browser.seen)


async def test_oauth4webapi(stack: Stack, node: str, start: Start, browser: Browser) -> None:
    """A public app that pushes its requests and proves its key with every call."""
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    port = free_port()
    env = await registered(
        stack,
        tenant,
        port,
        token_endpoint_auth_method="none",
        require_par=True,
        dpop_bound_access_tokens=True,
    )
    party = await start("oauth4webapi", [node, f"{FOLDER}/oauth4webapi.mjs"], port, env)

    page = await browser.log_in(await browser.open(f"{party}/login"), user.email, PASSWORD)
    page = await browser.submit(page)  # the page that posts the answer to the app

    assert check_login(page, user)["token_type"].lower() == "dpop"
    assert all("code=" not in url for url in browser.seen)
    refreshed = (await browser.open(f"{party}/refresh")).answer.json()
    assert (refreshed["userinfo"]["sub"], refreshed["rotated"]) == (user.user_id, True)
    assert (await browser.open(f"{party}/stolen")).answer.json() == {"bearer": 401, "proven": 401}


async def test_authlib(stack: Stack, start: Start, browser: Browser) -> None:
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    port = free_port()
    env = await registered(stack, tenant, port)
    party = await start("authlib", [PYTHON, "examples/server_app/main.py"], port, env)

    page = await browser.log_in(await browser.open(f"{party}/login"), user.email, PASSWORD)

    check_login(page, user)
    refreshed = (await browser.open(f"{party}/refresh")).answer.json()
    assert (refreshed["userinfo"]["sub"], refreshed["rotated"]) == (user.user_id, True)
    await check_logout(browser, party)


async def test_mod_auth_openidc(stack: Stack, start: Start, browser: Browser) -> None:
    """Apache lets nobody in without a login, refreshes, and logs out."""
    needs("apache2")
    if not is_installed():
        lacks("mod_auth_openidc")
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    port = free_port()
    own = f"http://127.0.0.1:{port}"
    env = await registered(
        stack,
        tenant,
        port,
        redirect_uris=[f"{own}/secure/redirect"],
        post_logout_redirect_uris=[f"{own}/bye"],
    )
    apache = Apache(stack.system.folder / f"apache-{port}", port)
    command = apache.configured(stack.base_url, env["CLIENT_ID"], env["CLIENT_SECRET"])
    party = await start("apache", command, port, {})

    page = await browser.log_in(await browser.open(f"{party}/secure/"), user.email, PASSWORD)

    assert page.answer.status_code == 200, page.answer.text
    assert page.answer.headers["x-seen-sub"] == user.user_id
    assert page.answer.headers["x-seen-email"] == user.email
    info = await browser.open(f"{party}/secure/redirect?info=json")
    first = info.answer.json()
    assert first["userinfo"]["sub"] == first["id_token"]["sub"] == user.user_id
    refresh = f"{party}/secure/redirect?refresh={own}/secure/&access_token={first['access_token']}"
    await browser.open(refresh)
    second = (await browser.open(f"{party}/secure/redirect?info=json")).answer.json()
    assert second["access_token"] != first["access_token"]
    out = await browser.open(f"{party}/secure/redirect?logout={own}/bye")
    assert out.url.split("?")[0].rstrip("/") == f"{own}/bye", out.url
    again = await browser.open(f"{party}/secure/")
    assert "password" in again.forms[0].fields


async def check_logout(browser: Browser, party: str) -> None:
    """After a logout the provider knows nobody."""
    page = await browser.open(f"{party}/logout")
    assert page.answer.json() == {"bye": "done"}
    assert "password" in (await browser.open(f"{party}/login")).forms[0].fields
