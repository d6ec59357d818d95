"""Apps whose id is a URL (client id metadata documents), at the authorization endpoint: MCP clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from chassis.probes import Probes
from services.federation.tests.flow import Browser, RelyingParty, fields_of, open_login, query_of
from tests.fake_http import FakeHttp, certified
from tests.harness import System

RESOURCE = "https://mcp.example.com/documents"
CALLBACK = "http://localhost:49152/callback"


@pytest.fixture(scope="module")
async def document_url(system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """A document on the web, and processes of orgs and federation that trust its certificate."""
    serving, file = certified("localhost", tmp_path_factory.mktemp("tls"))
    fake = FakeHttp()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=serving)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}/client.json"
    fake.answer = {"client_id": url, "client_name": "Helper", "redirect_uris": ["http://localhost/callback"]}
    fake.headers = {"content-type": "application/json"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    settings: dict[str, Any] = {"client_id_document_ca_file": str(file)}
    orgs = system.definitions["orgs"].build(system.settings("orgs", **settings), system.clock)
    changed = system.settings("federation", orgs_grpc=f"127.0.0.1:{port}")
    federation = system.definitions["federation"].build(changed, system.clock)
    face = system.faces["federation"]
    async with orgs.started(), federation.started():
        assert orgs.make_rpc is not None
        rpc = orgs.make_rpc()
        await rpc.start(f"127.0.0.1:{port}")
        system.faces["federation"] = federation.make_face(Probes(federation.required, federation.optional))
        yield url
        system.faces["federation"] = face
        await rpc.stop(0)
    server.close()


async def test_document_when_it_names_a_resource_of_a_tenant_then_asks_that_tenants_user(
    system: System, document_url: str
) -> None:
    tenant = await system.tenant(
        settings={"oidc_client_id_metadata_documents": True, "oidc_audiences": [RESOURCE]}
    )
    mcp = RelyingParty(system, tenant, document_url, "")
    browser = Browser(system)
    await browser.know(await open_login(system, tenant))
    asked: dict[str, Any] = {"redirect_uri": CALLBACK, "resource": RESOURCE, "scope": "profile"}

    consent = await browser.get(mcp.url(**asked))
    page = await browser.follow(consent)
    # Whose document it is, for its name is only what it says.
    assert b"Helper (localhost)" in page.body
    approved = await browser.post("/consent", {**fields_of(page), "decision": "approve"})
    assert approved.headers["location"].startswith(f"{CALLBACK}?code=")

    # Nobody's: without a resource, with an unknown one; and as ever, at no other address.
    for changes in ({"resource": None}, {"resource": "https://mcp.example.com/other"}):
        assert (await browser.get(mcp.url(**{**asked, **changes}))).status == 400
    for uri in ("http://localhost.evil.example/callback", "https://localhost/callback"):
        assert (await browser.get(mcp.url(**{**asked, "redirect_uri": uri}))).status == 400
    # What comes as a form is found again without its resource beside it.
    kept = await browser.post("/authorize", mcp.request(**asked), is_cross_site=True)
    assert set(query_of(kept.headers["location"])) == {"client_id", "request_uri"}
    assert (await browser.follow(kept)).headers["location"].startswith("/consent?")
    # Public, always: no code without PKCE.
    bare = await browser.get(mcp.url(**asked, code_challenge=None, code_challenge_method=None))
    assert "error=invalid_request" in bare.headers["location"]
