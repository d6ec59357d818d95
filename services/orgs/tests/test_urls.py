"""Origins and webhook URLs: what counts as exact, secure and public."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from services.orgs.clients.urls import parse_origin, parse_public_url


@pytest.mark.parametrize(
    ("given_origin", "origin"),
    [
        ("https://app.example.com", "https://app.example.com"),
        ("HTTPS://App.Example.COM", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("https://app.example.com:8443", "https://app.example.com:8443"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://203.0.113.9", "https://203.0.113.9"),
        ("https://[2001:DB8:0:0::1]:444", "https://[2001:db8::1]:444"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://app.localhost", "http://app.localhost"),
        ("http://127.0.0.1:80", "http://127.0.0.1"),
        ("http://[::1]:5173", "http://[::1]:5173"),
    ],
)
def test_origin_when_exact_then_as_browsers_send_it(given_origin: str, origin: str) -> None:
    assert parse_origin(given_origin) == origin
    assert parse_origin(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        *(
            "",
            "*",
            "null",
            "https://*",
            "https://*.example.com",
            "https://",
            "app.example.com",
            "//app.example.com",
        ),
        *(
            "https://app.example.com/",
            "https://app.example.com/path",
            "https://app.example.com?q",
            "https://a.b#f",
        ),
        *("https://user@app.example.com", "https://user:pw@app.example.com", "https://app.example.com:"),
        *("https://app.example.com:0", "https://app.example.com:65536", "https://app.example.com:port"),
        *(
            "https://app..example.com",
            "https://-app.example.com",
            "https://app.example.com.",
            "https://a_b.example",
        ),
        *(
            "https://bücher.example",
            "https://app.example.com\n",
            " https://app.example.com",
            "https://app\t.example",
        ),
        *("https://[::1", "https://[zz::1]", "https://[::1%25eth0]", "https://1.2.3", "https://0x7f.1"),
        *("https://app.example.com,https://b.example", "https://app.example.com https://b.example"),
        *(
            "ftp://app.example.com",
            "javascript://app",
            "data:text/html,x",
            "file:///etc/passwd",
            "wss://a.example",
        ),
        *("http://app.example.com", "http://localhost.example.com", "http://notlocalhost", "http://10.0.0.1"),
        *(
            "http://127.0.0.1.example.com",
            "https://" + "a" * 64 + ".example",
            "https://" + "a." * 150 + "example",
        ),
    ],
)
def test_origin_when_not_exact_or_not_secure_then_refused(origin: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_origin(origin)


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com",
        "https://hooks.example.com/in?tenant=1&x=%20",
        "https://hooks.example.com:8443/a/b",
        "https://8.8.8.8/hook",
        "https://[2606:4700:4700::1111]/hook",
    ],
)
def test_webhook_when_public_https_then_unchanged(url: str) -> None:
    assert parse_public_url(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *(
            "",
            "hooks.io",
            "/hook",
            "http://hooks.io",
            "ftp://hooks.io",
            "file:///etc/passwd",
        ),
        *("gopher://hooks.io", "unix:/var/run/docker.sock", "https:hooks.io", "https://"),
        *(
            "https://user:pw@hooks.io",
            "https://hooks.io@127.0.0.1/",
            "https://hooks.io/#f",
        ),
        *(
            "https://hooks.io\\@127.0.0.1",
            "https://hooks.io/\r\nHost: x",
            "https://hooks.exam ple.com",
        ),
        *("https://hooks.io:99999", "https://hooks.io:x", "https://" + "a" * 2100 + ".com"),
        *("https://127.0.0.1", "https://127.255.255.254", "https://0.0.0.0", "https://[::1]", "https://[::]"),
        *(
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[64:ff9b::7f00:1]",
            "https://[2002:7f00:1::]",
        ),
        *(
            "https://2130706433",
            "https://0x7f.1",
            "https://0x7f000001",
            "https://0177.0.0.1",
            "https://127.1",
        ),
        *(
            "https://10.1.2.3",
            "https://172.16.0.1",
            "https://192.168.1.1",
            "https://100.64.0.1",
            "https://169.254.169.254",
        ),
        *(
            "https://[fd00::1]",
            "https://[fe80::1]",
            "https://[fe80::1%25eth0]",
            "https://[ff02::1]",
            "https://224.0.0.1",
        ),
        *(
            "https://localhost",
            "https://LOCALHOST",
            "https://a.localhost",
            "https://printer.local",
            "https://intranet",
        ),
        *(
            "https://metadata.google.internal",
            "https://localhost.",
            "https://127.0.0.1.",
            "https://hooks.exämple.com",
        ),
        *("https://255.255.255.255", "https://240.0.0.1", "https://192.0.2.1", "https://[2001:db8::1]"),
    ],
)
def test_webhook_when_private_or_not_plain_https_then_refused(url: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_public_url(url)


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z0-9.\[\]:@/*-]{0,30}", fullmatch=True))
def test_origin_when_accepted_then_parsing_it_again_changes_nothing(text: str) -> None:
    try:
        origin = parse_origin(text)
    except PydanticCustomError:
        return
    assert parse_origin(origin) == origin
    assert origin.isascii()
    assert origin.count("/") == 2
    assert not set(origin) & set("*?#@ \\")


@given(st.text(max_size=80) | st.from_regex(r"https://[a-z0-9.\[\]:@/*-]{0,40}", fullmatch=True))
def test_webhook_when_anything_is_given_then_refused_or_unchanged(text: str) -> None:
    try:
        assert parse_public_url(text) == text
    except PydanticCustomError:
        return
