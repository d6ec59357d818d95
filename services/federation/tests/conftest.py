"""What the tests of federation share: a tenant with an app, and a browser whose user is logged in."""

from __future__ import annotations

import pytest

from services.federation.tests.flow import Browser, RelyingParty, open_login
from tests.harness import System, Tenant


@pytest.fixture(scope="session")
async def acme(system: System) -> Tenant:
    """A tenant that the tests of a file may share: none of them changes it."""
    return await system.tenant(
        settings={
            "oidc_redirect_uris": ["https://app.example.com/callback"],
            "oidc_audiences": ["https://api.example.com/v1", "https://mcp.example.com"],
            "oidc_allowed_scopes": ["openid", "profile", "email", "offline_access", "org", "notes:write"],
        }
    )


@pytest.fixture
async def rp(system: System, acme: Tenant) -> RelyingParty:
    """A server app that its tenant trusts: its users are not asked for consent."""
    return RelyingParty(system, acme, *await system.app(acme, name="Shop", trusted=True))


@pytest.fixture
async def asking(system: System, acme: Tenant) -> RelyingParty:
    """A server app whose users are asked."""
    return RelyingParty(system, acme, *await system.app(acme, name="Notes <b>"))


@pytest.fixture
async def browser(system: System, acme: Tenant) -> Browser:
    """A browser whose user is logged in."""
    made = Browser(system)
    await made.know(await open_login(system, acme))
    return made
