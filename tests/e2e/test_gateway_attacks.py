"""Attacks on the gateway: forged identities, ambiguous paths and framing, bodies that never end (group G)."""

from __future__ import annotations

import gzip

import grpc
import pytest

from contracts.gen.auth.v1 import admin_pb2, token_pb2
from contracts.gen.auth.v1.admin_pb2_grpc import AdminServiceStub
from tests.e2e.stack import PASSWORD, Stack, Tenant
from tests.e2e.wire import exchange, request

JSON = {"content-type": "application/json"}

IDENTITY_HEADERS = (
    "X-Auth-Context",
    "X-Auth-Client-Id",
    "X-Auth-User-Id",
    "X-Client-Id",
    "X-User-Id",
    "x_user_id",
    "X_Auth_Context",
    "X-Org-Role",
    "X-Role",
    "X-Admin-Id",
    "X-Caller",
    "X-Caller-Proof",
    "X-Internal-Auth",
    "X-Forwarded-User",
)


async def test_identity_headers_when_sent_by_a_client_then_change_nothing(stack: Stack, shop: Tenant) -> None:
    """G-02."""
    user, victim = await stack.sign_up(shop), await stack.sign_up(shop)
    forged = dict.fromkeys(IDENTITY_HEADERS, victim.user_id)
    mine = await stack.call("GET", "/api/auth/me", user, headers=forged)
    assert (mine.status_code, mine.json()["id"]) == (200, user.user_id)
    for path in ("/api/auth/me", "/api/admin/clients"):
        assert (await stack.call("GET", path, headers=forged)).status_code == 401
    assert (await stack.call("GET", "/api/admin/clients", user, headers=forged)).status_code == 401
    assert (await stack.call("GET", "/api/admin/clients", stack.admin)).status_code == 200


async def test_connection_header_when_it_names_credentials_then_grants_nothing(
    stack: Stack, shop: Tenant
) -> None:
    """G-03: headers cannot be deleted on the way as hop-by-hop."""
    user = await stack.sign_up(shop)
    names = "close, X-Auth-Context, X-Request-Timeout-Ms, Authorization, X-Api-Key, Cookie, Content-Length"
    for method, target, headers, expected in (
        ("GET", "/api/auth/me", user.headers, 200),
        ("GET", "/api/auth/me", shop.headers, 401),
        ("GET", "/api/admin/clients", user.headers, 401),
    ):
        sent = request(method, target, headers).replace(
            b"connection: close", b"connection: " + names.encode()
        )
        answer = await exchange(stack.gateways[0], sent)
        assert answer.statuses == [expected], answer.received
        assert (user.user_id.encode() in answer.received) is (expected == 200)


PATH_TRICKS = (
    "/api/auth/../admin/clients",
    "/api/auth/%2e%2e/admin/clients",
    "/api/auth/%2E%2E/admin/clients",
    "/api/auth/..%2fadmin/clients",
    "/api/auth/..;/admin/clients",
    "//api/admin/clients",
    "/api//admin/clients",
    "/api/./admin/clients",
    "/api/admin/clients/",
    "/api/admin/clients/.",
    "/api/admin/clients/..",
    "/api/admin;x/clients",
    "/api/admin/clients;x=1",
    "/API/ADMIN/CLIENTS",
    "/api/Admin/clients",
    "/api%2fadmin%2fclients",
    "/api/admin%2Fclients",
    "/api/admin/%63lients",
    "/api/admin/clients%00",
    "/api/admin/clients%20",
    "/api/admin/clients%0a",
    "/api\\admin\\clients",
    "/api/admin/clients%3f",
    "/api/admin/clients%23",
    "/%2e/api/admin/clients",
    "/api/admin/clients/%2e%2e/clients",
    "http://gateway/api/admin/clients/",
    "/api/admin/clients\xe9",
    "/%61pi/admin/clients",
    "/api/admin/clients%252f",
    "/internal",
    "/metrics/../api/admin/clients",
    "/.well-known/../api/admin/clients",
    "/docs/..%5capi/admin/clients",
)


@pytest.mark.parametrize("target", PATH_TRICKS)
async def test_path_when_spelled_in_another_way_then_is_nobodys(
    stack: Stack, shop: Tenant, target: str
) -> None:
    """G-04: a path has one spelling; any other is refused, whoever asks."""
    for headers in (shop.headers, stack.admin.headers):
        answer = await exchange(stack.gateways[0], request("GET", target, headers))
        assert answer.statuses in ([404], [400]), answer.received
        assert b'"items"' not in answer.received


async def test_path_when_canonical_then_is_served(stack: Stack) -> None:
    for target in ("/api/admin/clients", "/api/admin/clients?limit=1"):
        answer = await exchange(stack.gateways[0], request("GET", target, stack.admin.headers))
        assert answer.statuses == [200]
    assert (await exchange(stack.gateways[0], request("GET", "/api/admin/clients"))).statuses == [401]


async def test_method_when_overridden_or_unknown_then_is_not_another(stack: Stack, shop: Tenant) -> None:
    """G-10."""
    user = await stack.sign_up(shop)
    override = {"x-http-method-override": "DELETE", "x-method-override": "DELETE", "x-http-method": "DELETE"}
    assert (
        await stack.call("GET", "/api/auth/sessions?_method=DELETE", user, headers=override)
    ).status_code == 200
    assert (await stack.call("GET", "/api/auth/me", user)).status_code == 200
    for method in ("HEAD", "PUT", "GET"):
        refused = await stack.call(method, "/api/auth/change-password", user)
        assert refused.status_code == 405
        assert "POST" in refused.headers["allow"]
    for method in ("TRACE", "CONNECT", "PROPFIND", "get"):
        answer = await exchange(stack.gateways[0], request(method, "/api/auth/me", user.headers))
        assert answer.statuses[0] in (400, 404, 405, 501), answer.received
        assert user.user_id.encode() not in answer.received
    head = await stack.call("HEAD", "/api/auth/me", user)
    assert (head.status_code, head.content) == (200, b"")


SECOND = b"GET /healthz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n"
LOGIN = b"POST /api/auth/login HTTP/1.1\r\nhost: gateway\r\ncontent-type: application/json\r\n"
SMUGGLING = {
    "CL.TE": LOGIN + b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG",
    "TE.CL": LOGIN + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "TE list": LOGIN + b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "TE twice": LOGIN + b"transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "TE gzip": LOGIN + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE vertical tab": LOGIN + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "TE folded": LOGIN + b"transfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "TE space before colon": LOGIN + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    "CL twice": LOGIN + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    "CL list": LOGIN + b"content-length: 2, 2\r\n\r\n{}",
    "CL plus": LOGIN + b"content-length: +2\r\n\r\n{}",
    "CL minus": LOGIN + b"content-length: -2\r\n\r\n{}",
    "CL hex": LOGIN + b"content-length: 0x2\r\n\r\n{}",
    "CL huge": LOGIN + b"content-length: 18446744073709551618\r\n\r\n{}",
    "chunk size": LOGIN + b"transfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    "chunk size hex prefix": LOGIN + b"transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "chunk bare LF": LOGIN + b"transfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n",
    "chunk overlong": LOGIN + b"transfer-encoding: chunked\r\n\r\n2\r\n{}}\r\n0\r\n\r\n",
    "header bare CR": LOGIN + b"x-a: b\rcontent-length: 2\r\n\r\n{}",
    "header NUL": LOGIN + b"x-a: b\x00c\r\ncontent-length: 2\r\n\r\n{}",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "version": b"GET /healthz HTTP/9.9\r\nhost: a\r\n\r\n",
    "h2c upgrade": b"GET /healthz HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\n"
    b"connection: upgrade, http2-settings\r\n"
    b"http2-settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "h2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLING)
async def test_framing_when_it_has_two_readings_then_is_refused_and_nothing_follows(
    stack: Stack, name: str
) -> None:
    """G-06: 400, connection closed, and what stood behind it is never taken for a request."""
    answer = await exchange(stack.gateways[0], SMUGGLING[name] + SECOND)
    assert answer.is_closed, "the connection stays open"
    assert len(answer.statuses) <= 1, answer.received
    assert all(400 <= status < 500 or status == 505 for status in answer.statuses), answer.received
    assert b'{"status":"ok"}' not in answer.received


async def test_requests_when_pipelined_then_each_is_judged_by_its_own_credential(
    stack: Stack, shop: Tenant
) -> None:
    user = await stack.sign_up(shop)
    first = request("GET", "/api/auth/me", user.headers).replace(b"connection: close\r\n", b"")
    answer = await exchange(stack.gateways[0], first + request("GET", "/api/auth/me"))
    assert answer.statuses == [200, 401]
    assert answer.received.count(user.user_id.encode()) == 1


async def test_body_when_declared_too_large_then_is_413_before_it_is_sent(stack: Stack, shop: Tenant) -> None:
    """G-08."""
    head = LOGIN + f"x-api-key: {shop.api_key}\r\ncontent-length: 10485760\r\n\r\n".encode()
    answer = await exchange(stack.gateways[0], head, within=1)
    assert answer.statuses == [413]
    assert b"body_too_large" in answer.received


async def test_body_when_it_grows_too_large_then_is_cut(stack: Stack, shop: Tenant) -> None:
    head = LOGIN + f"x-api-key: {shop.api_key}\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer = await exchange(stack.gateways[0], head + chunk * 160, within=2)
    assert answer.statuses == [413]
    honest = {"email": "nobody@example.org", "password": "x" * 100}
    assert (await stack.call("POST", "/api/auth/login", shop, json=honest)).status_code == 401


BODIES = {
    "deep": b'{"email":' + b"[" * 7000 + b"]" * 7000 + b"}",
    "deep objects": b'{"email":' + b'{"a":' * 2000 + b"1" + b"}" * 2000 + b"}",
    "digits": b'{"email": ' + b"9" * 15_000 + b"}",
    "exponent": b'{"email": 1e999999}',
    "nan": b'{"email": NaN}',
    "keys": b"{" + b",".join(b'"k%d":0' % number for number in range(1500)) + b"}",
    "surrogate": b'{"email": "a\\ud800@example.org", "password": "x"}',
    "nul": b'{"email": "a\\u0000@example.org", "password": "x"}',
    "not utf-8": b'{"email": "\xff\xfe", "password": "x"}',
    "utf-16": '{"email": "a@example.org"}'.encode("utf-16"),
    "array": b"[]",
    "null": b"null",
    "empty": b"",
    "truncated": b'{"email": "a@',
    "duplicate": b'{"email": "a@example.org", "email": ["b@example.org"], "password": "x"}',
    "types": b'{"email": {"$ne": null}, "password": ["x"]}',
}


@pytest.mark.parametrize("name", BODIES)
async def test_body_when_malformed_then_is_refused(stack: Stack, shop: Tenant, name: str) -> None:
    """G-08, W-13."""
    answer = await stack.call("POST", "/api/auth/login", shop, content=BODIES[name], headers=JSON, timeout=5)
    assert answer.status_code in (400, 413, 422), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Traceback" not in answer.text


async def test_body_when_compressed_then_is_415(stack: Stack, shop: Tenant) -> None:
    bomb = gzip.compress(b" " * 8_000_000)
    sent = {**JSON, "content-encoding": "gzip"}
    answer = await stack.call("POST", "/api/auth/login", shop, content=bomb, headers=sent)
    assert answer.status_code == 415


async def test_head_when_endless_then_is_431_and_closed(stack: Stack) -> None:
    for headers in (b"x: y\r\n" * 100_000, b"x: " + b"y" * 1_000_000 + b"\r\n"):
        answer = await exchange(
            stack.gateways[0], b"GET /healthz HTTP/1.1\r\nhost: a\r\n" + headers + b"\r\n"
        )
        assert answer.statuses in ([431], [400], []), answer.received
        assert answer.is_closed
    long = await exchange(stack.gateways[0], request("GET", "/healthz?" + "a" * 100_000))
    assert long.statuses in ([414], [431], [400])
    assert (await stack.call("GET", "/healthz")).json() == {"status": "ok"}


async def test_address_when_claimed_by_an_untrusted_peer_then_is_not_believed(
    stack: Stack, shop: Tenant
) -> None:
    """G-01, L-08: the audit log has the peer's address, whatever headers say."""
    claims = dict.fromkeys(
        ("x-forwarded-for", "x-real-ip", "true-client-ip", "cf-connecting-ip"), "198.51.100.9"
    )
    user = await stack.sign_up(shop, headers={**claims, "forwarded": "for=198.51.100.9"})
    event = await stack.event(shop.id, "user_created")
    assert (event["target"]["id"], event["ip"]) == (user.user_id, "127.0.0.1")


async def test_request_id_when_forged_then_is_replaced(stack: Stack, shop: Tenant) -> None:
    for forged in ("a b", "x" * 65, "id\tx", "<script>", "é", "a,b"):
        sent = [(b"x-request-id", forged.encode("latin-1"))]
        answer = await stack.http.get(f"{stack.gateways[0]}/healthz", headers=sent)
        assert answer.headers["x-request-id"] != forged
        assert answer.headers["x-request-id"].isascii()
    kept = await stack.call("GET", "/api/auth/me", headers={"x-request-id": "trace-1.2_3"})
    assert kept.headers["x-request-id"] == "trace-1.2_3"
    assert kept.json()["request_id"] == "trace-1.2_3"
    mail = {"email": "nobody@example.org", "password": PASSWORD}
    agent = 'x"\u2028{"type":"admin"}'
    evil = [(b"x-api-key", shop.api_key.encode()), (b"user-agent", agent.encode())]
    await stack.http.post(f"{stack.gateways[0]}/api/auth/login", json=mail, headers=evil)
    event = await stack.event(shop.id, "login_failed")
    assert len(await stack.events(shop.id, event_type="login_failed")) == 1
    assert event["user_agent"].startswith('x"')


async def test_rpc_when_not_public_or_malformed_then_does_not_exist(stack: Stack, shop: Tenant) -> None:
    """G-05."""
    address = stack.processes("gateway")[0].grpc
    body = token_pb2.ValidateTokenRequest(access_token="x", api_key=shop.api_key).SerializeToString()
    good = await stack.raw_rpc(address, "/auth.v1.TokenService/ValidateToken", body)
    assert token_pb2.ValidateTokenResponse.FromString(good).error == "invalid_token"
    for method in (
        "auth.v1.TokenService/ValidateToken",
        "/auth.v1.TokenService/Unknown",
        "/auth.v1.tokenservice/ValidateToken",
        "//auth.v1.TokenService/ValidateToken",
        "/internal.token.v1.SessionService/OpenSession",
        "/internal.token.v1.SecretService/RotateSecret",
        "/internal.orgs.v1.ClientService/ResolveApiKey",
        "/internal.audit.v1.IngestService/Record",
        "/",
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stack.raw_rpc(address, method, body)
        assert refusal.value.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL), method
        assert refusal.value.code() is not grpc.StatusCode.INTERNAL or not method.startswith("/")


async def test_admin_rpc_when_without_the_admin_key_then_is_unauthenticated(
    stack: Stack, shop: Tenant
) -> None:
    """A-06, G-02: no metadata stands in for the key."""
    stub = AdminServiceStub(stack.channel(stack.processes("gateway")[0].grpc))
    listed = await stub.ListClients(
        admin_pb2.ListClientsRequest(limit=1), metadata=(("x-admin-key", stack.admin.key),), timeout=5
    )
    assert len(listed.items) == 1
    for metadata in (
        (),
        (("x-admin-key", "aak_wrong"),),
        (("x-auth-context", "e30.00"),),
        (("x-caller", "gateway"), ("x-caller-proof", "0.00")),
        (("x-api-key", shop.api_key), ("authorization", f"Bearer {stack.admin.key}")),
        (("x-user-id-bin", b"\x00"),),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.ListClients(admin_pb2.ListClientsRequest(), metadata=metadata, timeout=5)
        assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED, metadata
