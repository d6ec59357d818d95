"""Requests to URLs that tenants give lead to the public Internet, or nowhere (H-01, H-02, H-03, H-06)."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Sequence
from pathlib import Path

import pytest

from chassis.outbound import OutboundFailed
from chassis.public_addresses import is_public
from chassis.public_http import AddressRefused, PublicClient
from tests.fake_http import FakeHttp, certified, fake_http

INSIDE = [
    "127.0.0.1", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
    "224.0.0.1", "255.255.255.255", "::1", "::", "fd00::1", "fe80::1", "ff02::1", "::ffff:127.0.0.1",
    "::ffff:10.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fec0::1", "feff::1", "3fff::1", "3fff:fff::1",
    "4000::1", "100::1", "5f00::1", "2001:db8::1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::1",
]  # fmt: skip
OUTSIDE = [
    "93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:93.184.215.14", "2a00::1", "3ffe::1",
    "64:ff9b::5db8:d70e",
]  # fmt: skip


def client(*answers: str, allow_private: bool = False, tls: ssl.SSLContext | None = None) -> PublicClient:
    """A client whose resolver gives one answer after the other, the last for ever."""
    left = list(answers)

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return (left.pop(0) if len(left) > 1 else left[0]).split()

    return PublicClient(timeout=2, max_answer=1000, allow_private=allow_private, resolve=resolve, tls=tls)


def test_addresses_are_judged_by_where_a_packet_ends() -> None:
    assert [text for text in INSIDE if is_public(ipaddress.ip_address(text))] == []
    assert [text for text in OUTSIDE if not is_public(ipaddress.ip_address(text))] == []


async def test_nothing_is_sent_to_what_is_not_public_or_not_https() -> None:
    async with fake_http() as inside:
        port = inside.url.rpartition(":")[2]
        for address in [*INSIDE, f"{OUTSIDE[0]} 127.0.0.1"]:
            with pytest.raises(AddressRefused):
                await client(address).exchange("GET", f"https://rebinding.example:{port}/")
        public = client(OUTSIDE[0])
        for url in (
            inside.url, "http://example.com/", "file:///etc/passwd", "gopher://example.com/", "https:///x", "https://",
            "https://user@example.com/", "unix:/run/docker.sock", "",
        ):  # fmt: skip
            with pytest.raises(OutboundFailed):
                await public.exchange("GET", url)
        assert inside.asked == []
        # The same request, where development allows it, arrives: the refusals above were for the address.
        allowed = client("127.0.0.1", allow_private=True)
        assert (await allowed.exchange("GET", f"http://inside.example:{port}/x?y")).status == 200
        assert (inside.asked[0].target, inside.asked[0].headers["host"]) == ("/x?y", f"inside.example:{port}")
        await allowed.stop()


async def test_redirects_are_answers_and_long_or_silent_answers_are_bounded() -> None:
    async with fake_http() as first, fake_http() as second:
        to_us = client("127.0.0.1", allow_private=True)
        first.status, first.headers = 307, {"location": second.url}
        moved = await to_us.exchange("POST", first.url, form={"a": "b c"})
        assert (moved.status, first.asked[0].form, second.asked) == (307, {"a": "b c"}, [])
        first.status, first.headers, first.answer = 200, {}, b"x" * 1001
        with pytest.raises(OutboundFailed, match="too long"):
            await to_us.exchange("GET", first.url)
        headed = await to_us.exchange("GET", first.url, wants_body=False)
        assert (headed.status, headed.body) == (200, b"")
        first.is_silent = True
        impatient = PublicClient(timeout=0.2, max_answer=1, allow_private=True)
        with pytest.raises(OutboundFailed, match="TimeoutError"):
            await impatient.exchange("GET", first.url)
        await to_us.stop()
        await impatient.stop()


async def test_certificate_must_be_of_the_name_and_a_connection_serves_one_name_only(tmp_path: Path) -> None:
    serving, file = certified("good.example", tmp_path)
    trusting = ssl.create_default_context(cafile=str(file))
    fake = FakeHttp()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    to_us = client("127.0.0.1", allow_private=True, tls=trusting)
    assert (await to_us.exchange("GET", f"https://good.example:{port}/")).status == 200
    # The same address under another name: the first connection would have served, its certificate does not.
    with pytest.raises(OutboundFailed, match="ConnectError"):
        await to_us.exchange("GET", f"https://evil.example:{port}/")
    assert [asked.headers["host"] for asked in fake.asked] == [f"good.example:{port}"]
    await to_us.stop()
    server.close()


async def test_name_that_is_resolved_and_verified_is_the_one_in_the_url(tmp_path: Path) -> None:
    """H-03: `xn--fa-hia` is `faß`, which the older rules of IDNA take for `fass`: somebody else's name."""
    serving, file = certified("xn--fa-hia.example", tmp_path)
    names: list[str] = []

    async def resolve(host: str, _port: int) -> Sequence[str]:
        names.append(host)
        return ["127.0.0.1"]

    fake = FakeHttp()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0, ssl=serving)
    port = server.sockets[0].getsockname()[1]
    trusting = ssl.create_default_context(cafile=str(file))
    to_us = PublicClient(timeout=2, max_answer=1000, allow_private=True, resolve=resolve, tls=trusting)
    assert (await to_us.exchange("GET", f"https://xn--fa-hia.example:{port}/")).status == 200
    assert [asked.headers["host"] for asked in fake.asked] == [f"xn--fa-hia.example:{port}"]
    with pytest.raises(OutboundFailed, match="ConnectError"):
        await to_us.exchange("GET", f"https://fass.example:{port}/")
    assert names == ["xn--fa-hia.example", "fass.example"]
    await to_us.stop()
    server.close()
