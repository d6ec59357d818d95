"""Whose address is believed."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from chassis.context import verify_context
from chassis.internal_keys import InternalKeys
from contracts.topology import pairs_of
from gateway.addresses import ClientAddresses, canonical, limit_key
from gateway.contract import Contract
from gateway.tests.echo import ECHO_CONTRACT, Echo
from gateway.tests.running import running_gateway
from tests.harness import System

_PROXIES = [ip_network("10.0.0.0/8"), ip_network("fd00::/8")]
TRUSTING = ClientAddresses(_PROXIES, "x-forwarded-for")
BY_FORWARDED = ClientAddresses(_PROXIES, "forwarded")
ALONE = ClientAddresses([], "x-forwarded-for")


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("203.0.113.5", "", "203.0.113.5"),
        # Not a proxy of ours: what it says is ignored.
        ("203.0.113.5", "6.6.6.6", "203.0.113.5"),
        ("10.0.0.1", "203.0.113.5", "203.0.113.5"),
        # The client's own forgery stands left of the true hop.
        ("10.0.0.1", "6.6.6.6, 203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.5, 10.0.0.2", "203.0.113.5"),
        ("10.0.0.1", "6.6.6.6, nonsense", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.5:4711", "203.0.113.5"),
        ("fd00::1", "203.0.113.5", "203.0.113.5"),
        ("::ffff:10.0.0.1", "203.0.113.5", "203.0.113.5"),
        ("10.0.0.1", ", ".join(["6.6.6.6"] * 5000 + ["203.0.113.5"]), "203.0.113.5"),
        ("10.0.0.1", "", "10.0.0.1"),
        # The other header's form says nothing here.
        ("10.0.0.1", "for=6.6.6.6", "10.0.0.1"),
    ],
)
def test_client_is_the_right_most_hop_that_is_not_trusted(peer: str, forwarded_for: str, client: str) -> None:
    assert TRUSTING.client(peer, forwarded_for) == client


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", 'for="[2001:db8::1]:99";proto=https', "2001:db8::1"),
        ("10.0.0.1", "for=6.6.6.6, for=203.0.113.5;by=10.0.0.1", "203.0.113.5"),
        ("10.0.0.1", "for=unknown", "10.0.0.1"),
        ("203.0.113.5", "for=6.6.6.6", "203.0.113.5"),
        ("10.0.0.1", "6.6.6.6", "10.0.0.1"),
    ],
)
def test_forwarded_names_the_hops_where_it_is_chosen(peer: str, forwarded: str, client: str) -> None:
    assert BY_FORWARDED.client(peer, forwarded) == client


def test_without_trusted_proxies_the_peer_is_the_client() -> None:
    assert ALONE.client("10.0.0.1", "203.0.113.5") == "10.0.0.1"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.5", "203.0.113.5"),
        ("203.0.113.5:80", "203.0.113.5"),
        ("[2001:DB8::1]:80", "2001:db8::1"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.5", "203.0.113.5"),
        ("evil\r\n", None),
        ("", None),
    ],
)
def test_addresses_have_one_spelling(text: str, address: str | None) -> None:
    assert canonical(text) == address


def test_limits_count_an_ipv6_subscriber_as_one() -> None:
    assert limit_key("2001:db8:1:2:3::4") == limit_key("2001:db8:1:2:ffff::1") == "2001:db8:1:2::"
    assert limit_key("2001:db8:1:3::1") != limit_key("2001:db8:1:2::1")
    assert limit_key("203.0.113.5") == "203.0.113.5"


@pytest.mark.parametrize(
    ("believed", "client"), [("x-forwarded-for", "203.0.113.1"), ("forwarded", "203.0.113.2")]
)
async def test_only_the_header_that_the_proxy_sets_is_believed(
    system: System, service_urls: dict[str, str], echo: Echo, believed: str, client: str
) -> None:
    """What the proxy does not set, it passes on as the client wrote it."""
    async with running_gateway(
        system,
        {**service_urls, "identity": echo.url},
        contract=Contract(ECHO_CONTRACT),
        forwarded_header=believed,
    ) as gateway:
        answer = await gateway.client.get(
            "/echo/public", headers={"X-Forwarded-For": "203.0.113.1", "Forwarded": "for=203.0.113.2"}
        )
        assert answer.status_code == 200

    arrived = echo.last()
    header = arrived.header("x-auth-context")
    assert header is not None
    key = InternalKeys.derive(system.root_key, pairs_of("gateway")).key("gateway", "identity")
    assert verify_context(header.encode(), key, arrived.method, arrived.target).ip == client
