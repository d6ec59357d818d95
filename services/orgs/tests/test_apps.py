"""Apps: what admins do with them, and what other processes are told of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from chassis.bus import Bus
from chassis.ids import new_id
from contracts.apps import AppDirectory
from tests.harness import System

_SECONDS = 5.0


@contextlib.asynccontextmanager
async def directory(system: System, port: int | None = None) -> AsyncIterator[AppDirectory]:
    """Run a directory in the name of the token service, connected to the bus, for as long as the block."""
    bus = Bus(system.servers.nats_url("token"), process="test")
    async with system.channel("orgs", caller="token", port=port) as channel:
        apps = AppDirectory(channel, bus)
        await bus.start()
        try:
            async with asyncio.timeout(_SECONDS):
                while not bus.client.is_connected:
                    await asyncio.sleep(0.01)
            await bus.client.flush()
            yield apps
        finally:
            await bus.stop()


async def test_directory_when_asked_then_knows_apps_and_tenants(system: System) -> None:
    tenant = await system.tenant(settings={"oidc_redirect_uris": ["https://rp.example/cb"]})
    app_id, secret = await system.app(tenant, name="Shop", scopes=["openid", "email"])
    async with directory(system) as apps:
        app = await apps.find(app_id)
        assert app is not None
        assert (app.id, app.client.id, app.name, app.is_usable) == (app_id, tenant.id, "Shop", True)
        assert (app.scopes, app.auth_method) == (("openid", "email"), "client_secret_basic")
        assert app.allows_redirect("https://app.example.com/callback")
        assert app.live_secret(secret) is not None
        assert app.live_secret(f"{secret}x") is None
        own = await apps.find(str(tenant.id))
        assert own is not None
        assert own.is_tenant
        assert own.is_trusted
        assert own.redirect_uris == ("https://rp.example/cb",)
        for unknown in (str(new_id()), "x", "", app_id.upper(), "https://mcp.example/client"):
            assert await apps.find(unknown) is None
