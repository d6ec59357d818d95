"""Apps that describe themselves at a URL: found by the resource, fetched with care, believed little."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from chassis.errors import AppError, Kind
from contracts.apps import App, decode_app
from contracts.gen.internal.orgs.v1 import apps_pb2
from contracts.gen.internal.orgs.v1.apps_pb2_grpc import AppServiceStub
from services.orgs.apps.id_documents import MAX_BYTES, TIMEOUT_SECONDS, fresh_for
from services.orgs.tests.directories import app_directory, process
from tests.fake_http import FakeHttp, certified, fake_http
from tests.harness import System, Tenant

CALLBACK = "https://mcp.example/callback"


@dataclass(slots=True)
class Site:
    """A site with documents over TLS, and the process that trusts its certificate."""

    system: System
    port: int
    base: str = ""
    fake: FakeHttp = field(default_factory=FakeHttp)

    def publish(self, path: str = "", **members: Any) -> str:
        """Let it answer a document of a URL, by default a new one; return the URL."""
        url = f"{self.base}{path or f'/{secrets.token_hex(8)}.json'}"
        document = {"client_id": url, "client_name": "Helper", "redirect_uris": [CALLBACK], **members}
        self.fake.answer = {name: value for name, value in document.items() if value is not None}
        self.fake.status, self.fake.headers = 200, {"content-type": "application/json"}
        return url

    async def find(self, url: str, tenant: Tenant | None = None, *resources: str) -> App | None:
        """Look a document up, in a tenant that is known or by resources; nothing is remembered here."""
        client_id = str(tenant.id) if tenant else ""
        request = apps_pb2.FindDocumentRequest(url=url, client_id=client_id, resources=resources)
        async with self.system.channel("orgs", caller="token", port=self.port) as channel:
            try:
                return decode_app(await AppServiceStub(channel.for_stubs).FindDocument(request))
            except AppError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
                return None


@pytest.fixture(scope="module")
async def site(system: System, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """One for the whole file."""
    serving, file = certified("localhost", tmp_path_factory.mktemp("tls"))
    async with process(system, client_id_document_ca_file=str(file)) as port:
        site = Site(system, port)
        server = await asyncio.start_server(site.fake.serve, "127.0.0.1", 0, ssl=serving)
        site.base = f"https://localhost:{server.sockets[0].getsockname()[1]}"
        yield site
        server.close()


def resource() -> str:
    """A resource that nobody has yet."""
    return f"https://api.example/{secrets.token_hex(8)}"


async def tenant_with(system: System, *resources: str, **settings: Any) -> Tenant:
    """A tenant that takes documents for its resources."""
    taking = {"oidc_client_id_metadata_documents": True, "oidc_audiences": list(resources)}
    return await system.tenant(settings={**taking, **settings})


async def test_document_when_a_resource_names_the_tenant_then_is_a_public_untrusted_app(
    system: System, site: Site
) -> None:
    mine, other = resource(), resource()
    tenant = await tenant_with(system, mine, oidc_allowed_scopes=["openid", "tools"])
    url = site.publish(
        scope="tools admin openid",
        grant_types=["authorization_code", "refresh_token", "client_credentials", "password"],
        redirect_uris=[
            CALLBACK,
            "http://127.0.0.1/cb",
            "http://localhost/cb",
            "cursor://cb",
            "javascript:alert(1)",
        ],
        logo_uri="https://mcp.example/logo.png",
        policy_uri="http://169.254.169.254/",
        jwks={"keys": []},
    )
    app = await site.find(url, None, mine)
    assert app is not None
    assert (app.id, app.client.id, app.name, app.host) == (url, tenant.id, "Helper", "localhost")
    assert (app.is_public, app.is_trusted, app.requires_consent, app.requires_pkce) == (
        True,
        False,
        True,
        True,
    )
    assert (app.scopes, app.audiences, app.secrets) == (("tools", "openid"), (mine,), ())
    assert app.grant_types == {"authorization_code", "refresh_token"}
    assert app.redirect_uris == (CALLBACK, "http://127.0.0.1/cb", "http://localhost/cb")
    assert (app.logo_uri, app.policy_uri) == ("https://mcp.example/logo.png", "")
    for given in (CALLBACK, "http://127.0.0.1:5000/cb", "http://localhost:5000/cb"):
        assert app.allows_redirect(given)
    for given in ("cursor://cb", "http://localhost:5000/x", "http://evil.example/cb", "javascript:alert(1)"):
        assert not app.allows_redirect(given)
    # Also with a resource that nobody has, and by the tenant itself; without either there is no such app.
    for found in (await site.find(url, None, mine, other), await site.find(url, tenant)):
        assert found is not None
        assert found.client.id == tenant.id
    assert await site.find(url) is None
    assert await site.find(url, None, other) is None
    assert len(site.fake.asked) == 1
    assert "cookie" not in site.fake.asked[0].headers


async def test_document_when_no_one_tenant_takes_it_then_is_not_even_fetched(
    system: System, site: Site
) -> None:
    """A-01: documents are an entry to a tenant that says so, and to no other."""
    mine = resource()
    tenant = await tenant_with(system, mine)
    closed = await system.tenant(settings={"oidc_audiences": [resource()]})
    before = len(site.fake.asked)
    url = site.publish()
    assert await site.find(url, closed) is None
    assert await site.find(url, None, closed.document["settings"]["oidc_audiences"][0]) is None
    # Of two that have had a resource before that was refused, none is meant.
    twin = await tenant_with(system)
    had = "UPDATE clients SET settings = jsonb_set(settings, '{oidc_audiences}', $2::jsonb) WHERE id = $1"
    await system.sql("orgs", had, twin.id, f'["{mine}"]')
    assert await site.find(url, None, mine) is None
    assert len(site.fake.asked) == before
    await change(system, twin, {"status": "suspended"})
    found = await site.find(url, None, mine)
    assert found is not None
    assert found.client.id == tenant.id
    async with app_directory(system, site.port) as apps:
        assert await apps.find(url, resources=[mine]) is not None
        await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": False}})
        async with asyncio.timeout(5):
            while await apps.find(url, resources=[mine]) is not None:
                await asyncio.sleep(0.01)


async def change(system: System, tenant: Tenant, body: dict[str, Any]) -> None:
    """Change a tenant."""
    answer = await system.call(
        "orgs", "PATCH", f"/api/admin/clients/{tenant.id}", caller=system.admin(), json=body
    )
    assert answer.status == 200, answer.body


@pytest.mark.parametrize(
    ("reason", "members"),
    [
        ("client_id_differs", {"client_id": "https://mcp.example/client.json"}),
        ("metadata_invalid", {"client_id": None}),
        ("metadata_invalid", {"redirect_uris": None}),
        ("metadata_invalid", {"redirect_uris": CALLBACK}),
        ("metadata_invalid", {"client_name": "Bank\u202e"}),
        ("redirect_uris_invalid", {"redirect_uris": ["http://mcp.example/cb", "https://*.mcp.example/cb"]}),
        ("grant_types_invalid", {"grant_types": ["client_credentials"]}),
        ("auth_method_not_none", {"token_endpoint_auth_method": "client_secret_basic"}),
        ("auth_method_not_none", {"token_endpoint_auth_method": "private_key_jwt"}),
        ("holds_a_secret", {"client_secret": "x"}),
        ("holds_a_secret", {"client_secret_expires_at": 0}),
        ("holds_a_secret", {"jwks": {"keys": [{"kty": "EC", "d": "x"}]}}),
        ("not_reached", {"padding": "x" * MAX_BYTES}),
    ],
)
async def test_document_when_its_content_is_not_acceptable_then_is_refused_and_not_kept(
    system: System, site: Site, tenant: Tenant, reason: str, members: dict[str, Any]
) -> None:
    url = site.publish(**members)
    await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": True}})
    assert await site.find(url, tenant) is None
    refused = await system.event("client_id_document_refused", client_id=tenant.id)
    assert (refused.data["reason"], refused.data["host"]) == (reason, "localhost")
    # Positive control, and nothing of the refusal was kept: the same URL with an acceptable document.
    site.publish(url.removeprefix(site.base))
    assert await site.find(url, tenant) is not None


async def test_document_when_the_answer_is_not_one_then_is_refused(
    system: System, site: Site, tenant: Tenant
) -> None:
    """H-01, H-02: a redirect, an error, another type of content and what is no JSON are all no document."""
    await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": True}})
    async with fake_http() as inside:
        for number, (status, headers, answer) in enumerate(
            [
                (302, {"location": inside.url}, None),
                (404, {"content-type": "application/json"}, None),
                (201, {"content-type": "application/json"}, None),
                (200, {"content-type": "text/html"}, None),
                (200, {}, None),
                (200, {"content-type": "application/json"}, b"{"),
                (200, {"content-type": "application/json"}, b"[" * 9000),
                (200, {"content-type": "application/json"}, b"[]"),
            ]
        ):
            url = site.publish()
            site.fake.status, site.fake.headers = status, headers
            site.fake.answer = site.fake.answer if answer is None else answer
            assert await site.find(url, tenant) is None, number
            await system.event("client_id_document_refused", client_id=tenant.id, after=number)
        assert inside.asked == []
    url = site.publish()
    site.fake.headers = {"content-type": "application/oauth-client+json; charset=utf-8"}
    assert await site.find(url, tenant) is not None


async def test_document_when_its_url_is_not_one_or_leads_inside_then_nothing_is_sent(
    system: System, site: Site, tenant: Tenant
) -> None:
    """H-01, H-03: without the setting for development no private address is asked."""
    await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": True}})
    before, good = len(site.fake.asked), site.publish()
    bad = (
        good.replace("https", "http"),
        good.replace("https://", "https://user@"),
        f"{good}#x",
        site.base,
        f"{site.base}/../client.json",
        f"{site.base}/%2e%2e/client.json",
        good.replace("localhost", "LOCALHOST"),
        f"{good} ",
        "https://",
        "https://[::1",
        "https://mcp.example/" + "x" * 3000,
    )
    async with system.channel("orgs", caller="token", port=site.port) as channel:
        stub = AppServiceStub(channel.for_stubs)
        for url in bad:
            with pytest.raises(AppError) as refused:
                await stub.FindDocument(apps_pb2.FindDocumentRequest(url=url, client_id=str(tenant.id)))
            assert refused.value.code == "app_not_found", url
    # Nor does what could be no URI get as far as that.
    async with app_directory(system, site.port) as apps:
        for url, named in ((f"{good}\x00", []), (f"{good}\ud800", []), (good, ["\x00"]), (good, ["\ud800"])):
            assert await apps.find(url, resources=named or [resource()]) is None
    async with process(system, oidc_allow_private=False) as port, fake_http() as inside:
        strict = Site(system, port)
        for url in (
            good,
            "https://127.0.0.1/x",
            "https://169.254.169.254/x",
            inside.url.replace("http", "https") + "/x",
        ):
            assert await strict.find(url, tenant) is None
        assert inside.asked == []
    assert len(site.fake.asked) == before
    assert await site.find(good, tenant) is not None


async def test_document_when_twenty_ask_at_once_then_is_fetched_once(
    system: System, site: Site, tenant: Tenant
) -> None:
    await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": True}})
    url, before = site.publish(), len(site.fake.asked)
    async with system.channel("orgs", caller="token", port=site.port) as channel:
        stub = AppServiceStub(channel.for_stubs)
        request = apps_pb2.FindDocumentRequest(url=url, client_id=str(tenant.id))
        await asyncio.gather(*(stub.FindDocument(request) for _ in range(20)))
        await stub.FindDocument(request)
    assert len(site.fake.asked) == before + 1


async def test_document_when_more_are_asked_for_than_may_wait_then_all_are_answered_in_time(
    system: System, site: Site, tenant: Tenant
) -> None:
    """H-06: silent servers hold nobody longer than one fetch may take. Positive control: one that answers."""
    await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": True}})
    urls = [site.publish() for _ in range(70)]
    site.fake.is_silent = True
    async with asyncio.timeout(2 * TIMEOUT_SECONDS):
        assert set(await asyncio.gather(*(site.find(url, tenant) for url in urls))) == {None}
    refused = await system.event(
        "client_id_document_refused", client_id=tenant.id, after=5, reason="too_many_fetches"
    )
    assert refused.data["host"] == "localhost"
    site.fake.is_silent = False
    assert await site.find(site.publish(), tenant) is not None


async def test_document_when_its_server_is_away_then_stays_good_for_a_day_and_no_longer(
    system: System, site: Site, tenant: Tenant
) -> None:
    await change(system, tenant, {"settings": {"oidc_client_id_metadata_documents": True}})
    url = site.publish()
    site.fake.headers["cache-control"] = "max-age=600"
    assert await site.find(url, tenant) is not None
    site.publish(url.removeprefix(site.base), client_name="Renamed")
    for minutes, name in ((9, "Helper"), (11, "Renamed")):
        with system.clock.advanced(timedelta(minutes=minutes)):
            found = await site.find(url, tenant)
            assert found is not None
            assert found.name == name
    site.fake.status = 503
    with system.clock.advanced(timedelta(hours=20)):
        assert await site.find(url, tenant) is not None
    with system.clock.advanced(timedelta(hours=25)):
        assert await site.find(url, tenant) is None
    # What is taken back is gone as soon as it is asked for again.
    site.fake.status = 404
    with system.clock.advanced(timedelta(hours=21)):
        assert await site.find(url, tenant) is None
    site.fake.status = 503
    assert await site.find(url, tenant) is None


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", 900),
        ("max-age=600", 600),
        ("public, max-age=600, must-revalidate", 600),
        ("max-age=1", 60),
        ("max-age=0", 60),
        ("no-store", 60),
        ("no-cache, max-age=600", 60),
        ("s-maxage=5", 900),
        ("max-age=99999999", 86400),
        ("max-age=99999999999999999999", 900),
        ("max-age=-1", 900),
    ],
)
def test_document_is_kept_as_long_as_its_server_says_within_bounds(cache_control: str, seconds: int) -> None:
    assert fresh_for(cache_control) == timedelta(seconds=seconds)
