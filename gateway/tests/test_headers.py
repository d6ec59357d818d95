"""What a service is told beside the signed caller, and what an answer carries."""

from __future__ import annotations

import re

import pytest

from gateway.inbound import FORWARDED
from gateway.tests.echo import Echo
from gateway.tests.running import RunningGateway, running_gateway
from tests.harness import System, Tenant

_OURS = {"host", "x-auth-context", "x-request-timeout-ms"}


async def test_internal_and_identity_headers_of_a_client_are_dropped(
    echo_gateway: RunningGateway, echo: Echo, tenant: Tenant
) -> None:
    forged = {
        "X-Auth-Context": "forged",
        "X-Auth-User-Id": "1",
        "X-User-Id": "1",
        "x_user_id": "1",
        "X-Client-Id": "1",
        "X-Org-Role": "owner",
        "X-Admin-Id": "1",
        "X-Caller": "gateway",
        "X-Caller-Proof": "1",
        "X-Internal-Auth": "1",
        "X-Real-IP": "6.6.6.6",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "X-Request-Timeout-Ms": "999999",
        "True-Client-IP": "6.6.6.6",
        "Authorization": "Bearer x",
        "Proxy-Authorization": "Basic x",
        "Accept-Encoding": "gzip",
        "Referer": "https://evil.example/?token=1",
        "Forwarded": "for=6.6.6.6;host=evil.example",
    }

    answer = await echo_gateway.client.get("/echo/key", headers={"X-API-Key": tenant.api_key, **forged})

    assert answer.status_code == 200
    arrived = {name for name, _ in echo.last().headers}
    assert arrived <= _OURS | {name.decode() for name in FORWARDED}
    assert echo.last().header("x-auth-context") != "forged"
    assert echo.last().header("host") == echo.url.removeprefix("http://")
    assert int(echo.last().header("x-request-timeout-ms") or 0) <= 15_000


async def test_useful_headers_of_a_client_arrive(echo_gateway: RunningGateway, echo: Echo) -> None:
    sent = {
        "accept": "application/json",
        "accept-language": "fr",
        "content-type": "application/json",
        "cookie": "auth_refresh=rt_x",
        "idempotency-key": "k1",
        "if-match": '"1"',
        "if-none-match": '"2"',
        "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "x-step-up-token": "st",
    }

    await echo_gateway.client.post("/echo/public", headers=sent, content=b"{}")

    assert {name: echo.last().header(name) for name in sent} == sent


@pytest.mark.parametrize(
    "nominated", ["X-Api-Key, X-Auth-Context", "content-type, authorization", "close, x-api-key"]
)
async def test_connection_header_takes_nothing_away(
    echo_gateway: RunningGateway, echo: Echo, tenant: Tenant, nominated: str
) -> None:
    head = (
        f"POST /echo/key HTTP/1.1\r\nhost: x\r\nx-api-key: {tenant.api_key}\r\ncontent-type: text/x\r\n"
        f"content-length: 2\r\nconnection: {nominated}\r\n\r\nok"
    )

    answer = await echo_gateway.raw(head.encode(), seconds=1)

    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert echo.last().header("x-auth-context")
    assert echo.last().header("content-type") == "text/x"


@pytest.mark.parametrize(
    "name", ["X-API-Key", "Authorization", "X-Admin-Key", "Origin", "Host", "Content-Type", "Idempotency-Key"]
)
async def test_second_copy_of_a_deciding_header_is_400(
    echo_gateway: RunningGateway, echo: Echo, name: str
) -> None:
    before = len(echo.arrived)
    head = "GET /echo/public HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    twice = f"{name}: a\r\n" if name == "Host" else f"{name}: a\r\n{name.lower()}: b\r\n"

    answer = await echo_gateway.raw(f"{head}{twice}\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert len(echo.arrived) == before
    assert (await echo_gateway.raw(f"{head}\r\n".encode())).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("sent", ["abc-1.2_3", "A" * 64])
async def test_good_request_id_is_kept(echo_gateway: RunningGateway, sent: str) -> None:
    answer = await echo_gateway.client.get("/echo/public", headers={"X-Request-Id": sent})

    assert answer.headers["x-request-id"] == sent


@pytest.mark.parametrize("sent", ["", "A" * 65, "a b", "a\x1b[31m", "a{}", "id,id"])
async def test_bad_request_id_is_replaced(echo_gateway: RunningGateway, sent: str) -> None:
    answer = await echo_gateway.raw(
        f"GET /nowhere HTTP/1.1\r\nhost: x\r\nx-request-id: {sent}\r\nconnection: close\r\n\r\n".encode()
    )

    if answer.startswith(b"HTTP/1.1 400 "):
        assert b"malformed_request" in answer  # a control character in a header ends the parsing
        return
    found = re.search(rb"x-request-id: ([0-9a-f-]{36})\r\n", answer)
    assert found, answer
    assert found[1] in answer.partition(b"\r\n\r\n")[2]


async def test_internal_headers_of_a_service_do_not_leave(echo_gateway: RunningGateway, echo: Echo) -> None:
    echo.answer_headers = [
        (b"x-auth-context", b"c"),
        (b"x-internal-node", b"n"),
        (b"server", b"uvicorn"),
        (b"x-powered-by", b"python"),
        (b"access-control-allow-origin", b"*"),
        (b"access-control-allow-credentials", b"true"),
        (b"x-request-id", b"other"),
        (b"etag", b'"1"'),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]
    try:
        answer = await echo_gateway.client.get("/echo/public")
    finally:
        echo.answer_headers = []

    names = set(answer.headers)
    assert not names & {"x-auth-context", "x-internal-node", "server", "x-powered-by"}
    assert not {name for name in names if name.startswith("access-control-")}
    assert answer.headers["etag"] == '"1"'
    assert answer.headers.get_list("set-cookie") == ["a=1", "b=2"]
    assert answer.headers["x-request-id"] != "other"
    assert len(answer.headers.get_list("date")) == 1


@pytest.mark.parametrize("path", ["/echo/public", "/nowhere", "/healthz", "/docs"])
async def test_every_answer_has_the_security_headers(echo_gateway: RunningGateway, path: str) -> None:
    answer = await echo_gateway.client.get(path)

    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-frame-options"] == "DENY"
    assert "x-request-id" in answer.headers
    assert "strict-transport-security" not in answer.headers


async def test_https_installation_binds_browsers_to_https(
    system: System, service_urls: dict[str, str]
) -> None:
    async with running_gateway(system, service_urls, base_url="https://auth.example.com") as secure:
        answer = await secure.client.get("/healthz")

    assert answer.headers["strict-transport-security"].startswith("max-age=31536000")


async def test_authorization_of_an_oauth_client_arrives_and_refusals_are_of_oauth(
    echo_gateway: RunningGateway, echo: Echo
) -> None:
    """The credentials are the owner's to check; what the gateway itself refuses is worded as OAuth does."""
    headers = {
        "authorization": "Basic eDp5",
        "dpop": "a.b.c",
        "content-type": "application/x-www-form-urlencoded",
    }

    answer = await echo_gateway.client.post("/echo/oauth", headers=headers, content=b"grant_type=x")

    assert answer.status_code == 200
    assert echo.last().header("authorization") == "Basic eDp5"
    assert echo.last().header("dpop") == "a.b.c"
    too_large = await echo_gateway.client.post("/echo/oauth", headers=headers, content=b"x" * 70_000)
    assert too_large.status_code == 413
    assert too_large.json().keys() == {"error", "error_description"}
    assert too_large.json()["error"] == "invalid_request"


async def test_purpose_of_a_fetch_arrives_and_head_is_one_ahead(
    echo_gateway: RunningGateway, echo: Echo
) -> None:
    """M-04: what only fetches ahead must be told apart from who opens a link, and HEAD opens nothing."""
    sent = {"sec-purpose": "prefetch;prerender", "purpose": "prefetch", "sec-fetch-site": "cross-site"}
    assert (await echo_gateway.client.get("/echo/public", headers=sent)).status_code == 200
    assert {name: echo.last().header(name) for name in sent} == sent

    assert (await echo_gateway.client.head("/echo/public", headers=sent)).status_code == 200
    assert (echo.last().method, echo.last().header("sec-purpose")) == ("GET", "prefetch")
    assert (await echo_gateway.client.get("/echo/public")).status_code == 200
    assert echo.last().header("sec-purpose") is None
