"""What reaches a service at all: path, method, framing of the contract."""

from __future__ import annotations

import pytest

from gateway.contract import Contract, ContractInvalid, is_acceptable_query, is_canonical
from gateway.tests.echo import ECHO_CONTRACT, Echo
from gateway.tests.running import RunningGateway

_ID = "0191f3a0-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    "path",
    [
        "/echo/public",
        "/.well-known/jwks.json",
        "/a/b-c_d~e.f",
        "/a/%20b",
        "/a/%C3%A9",
        "/a/@x,y=z",
    ],
)
def test_canonical_path_is_accepted(path: str) -> None:
    assert is_canonical(path.encode())


@pytest.mark.parametrize(
    "path",
    [
        "//echo/public",
        "/echo//public",
        "/echo/./public",
        "/echo/../admin",
        "/echo/public/..",
        "/echo/public/.",
        "/echo/public/",
        "/echo/%2e%2e/admin",
        "/echo/%2E%2E/admin",
        "/echo%2fpublic",
        "/echo%2Fpublic",
        "/echo%5Cpublic",
        "/echo\\public",
        "/echo/public;x=1",
        "/echo/public%3Bx",
        "/echo/public%00",
        "/echo/public%0a",
        "/echo/%70ublic",
        "/echo/public%",
        "/echo/public%4",
        "/echo/public%zz",
        "/echo/publi\xe7",
        "/" + "a" * 5000,
        "echo/public",
        "*",
        "",
    ],
)
def test_other_spelling_of_a_path_is_refused(path: str) -> None:
    assert not is_canonical(path.encode("latin-1"))


@pytest.mark.parametrize(("query", "good"), [(b"a=b&c=%20", True), (b"a=%00", False), (b"a=\xff", False)])
def test_query_is_visible_ascii_without_nul(query: bytes, good: bool) -> None:
    assert is_acceptable_query(query) is good


@pytest.mark.parametrize(
    "target",
    [
        "/echo/unknown",
        "/ECHO/public",
        "/echo/../echo/public",
        "//echo/public",
        "/echo/public/",
        "/echo/public;x",
        "/echo/%70ublic",
        "/echo/things/not-a-uuid",
        "/echo/things/1",
        f"/echo/things/{_ID}/close/",
        "/echo/things/%2e%2e",
    ],
)
async def test_unknown_path_is_404_without_reaching_a_service(
    echo_gateway: RunningGateway, echo: Echo, target: str
) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.raw(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 404 "), answer
    assert b'"code":"not_found"' in answer
    assert b"\r\nx-request-id: " in answer
    assert len(echo.arrived) == before


@pytest.mark.parametrize(
    "target", ["/echo/public", f"/echo/things/{_ID}", "/echo/things/special", "/echo/roles/a%20b?x=1"]
)
async def test_known_path_reaches_its_owner_as_it_was_sent(
    echo_gateway: RunningGateway, echo: Echo, target: str
) -> None:
    answer = await echo_gateway.raw(f"GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 200 "), answer
    assert echo.last().target == target


async def test_nul_in_the_query_is_400(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.raw(
        b"GET /echo/public?a=%00 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(echo.arrived) == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "PROPFIND"])
async def test_other_method_of_a_known_path_is_405(
    echo_gateway: RunningGateway, echo: Echo, method: str
) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.client.request(
        method, "/echo/public", headers={"X-HTTP-Method-Override": "GET", "X-Method-Override": "GET"}
    )

    assert answer.status_code == 405
    assert answer.json()["code"] == "method_not_allowed"
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"
    assert len(echo.arrived) == before


async def test_connect_is_refused(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.raw(b"CONNECT 127.0.0.1:80 HTTP/1.1\r\nhost: x\r\n\r\n", seconds=2)

    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 404 ", b"HTTP/1.1 405 "))
    assert len(echo.arrived) == before


async def test_method_override_header_changes_nothing(echo_gateway: RunningGateway, echo: Echo) -> None:
    await echo_gateway.client.post("/echo/public", headers={"X-HTTP-Method-Override": "DELETE"}, content=b"x")

    assert echo.last().method == "POST"
    assert echo.last().header("x-http-method-override") is None


async def test_head_is_answered_like_get_without_a_body(echo_gateway: RunningGateway, echo: Echo) -> None:
    get = await echo_gateway.client.get("/echo/public")
    head = await echo_gateway.client.head("/echo/public")

    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"]
    assert echo.last().method == "GET"


async def test_options_names_the_methods(echo_gateway: RunningGateway, echo: Echo) -> None:
    before = len(echo.arrived)

    answer = await echo_gateway.client.options("/echo/key")

    assert (answer.status_code, answer.headers["allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, POST")
    assert len(echo.arrived) == before


def test_contract_with_an_operation_without_access_is_refused() -> None:
    broken = {"paths": {"/x": {"get": {"x-owner": "orgs", "x-limit": "default", "x-body-limit": 0}}}}

    with pytest.raises(ContractInvalid, match="x-access"):
        Contract(broken)


def test_contract_with_an_unknown_limit_class_is_refused() -> None:
    contract = Contract(ECHO_CONTRACT)

    with pytest.raises(ContractInvalid, match="limit class"):
        contract.require(
            classes=frozenset(operation.access for operation in contract.operations()), limits=frozenset()
        )


def test_literal_segment_wins_over_a_parameter() -> None:
    contract = Contract(ECHO_CONTRACT)

    route = contract.find(b"/echo/things/special")

    assert route is not None
    assert route.operations["GET"].template == "/echo/things/special"
