"""Redirect URIs: what may be registered, and what is taken for a registered one (O-01, O-02)."""

from __future__ import annotations

import pytest
from pydantic_core import PydanticCustomError

from contracts.apps import redirect_uri_matches
from services.orgs.apps.uris import has_private_scheme, parse_redirect_uri, parse_resource

REGISTERED = "https://reg.example/cb"

ACCEPTABLE = [
    REGISTERED,
    "https://reg.example",
    "https://reg.example/",
    "https://reg.example:8443/cb?tenant=1&x=%20",
    "https://xn--bcher-kva.example/cb",
    "https://192.0.2.1/cb",
    "https://[2001:db8::1]/cb",
    "https://localhost/cb",
    "http://127.0.0.1/cb",
    "http://127.0.0.1:8080/cb",
    "http://[::1]:9/cb",
    "http://localhost:3000/api/auth/callback/x",
    "com.example.app:/oauth2redirect",
    "com.example.app:/oauth2redirect/a?b=c",
    "com.example.app://callback",
]
NOT_ACCEPTABLE = [
    *(
        "",
        "/cb",
        "reg.example/cb",
        "//reg.example/cb",
        "https:",
        "https:/reg.example/cb",
        "https:///cb",
        "https://",
    ),
    *(
        "http://reg.example/cb",
        "http://127.0.0.2/cb",
        "http://0.0.0.0/cb",
        "http://[::]/cb",
        "http://127.1/cb",
    ),
    *("http://localhost.evil.example/cb", "http://[::ffff:127.0.0.1]/cb", "http://2130706433/cb"),
    *(
        "https://*.reg.example/cb",
        "https://reg.example/*",
        "https://reg.example/cb#",
        "https://reg.example/cb#x",
    ),
    *("https://user@reg.example/cb", "https://user:pw@reg.example/cb", "https://@reg.example/cb"),
    *(
        "https://reg.example/../cb",
        "https://reg.example/a/./cb",
        "https://reg.example/%2e%2e/cb",
        "https://reg.example/.%2E",
    ),
    *("https://reg.example/cb\\x", "https://reg.example\\@evil.example/", "https://reg.example/c b"),
    *(
        "https://reg.example/cb\t",
        "https://reg.example/cb\r\n",
        "\thttps://reg.example/cb",
        "https://reg.example/cb\x00",
    ),
    *(
        "https://bücher.example/cb",
        "https://reg.еxample/cb",
        "https://reg.example/ü",
        "https://REG.example/cb",
    ),
    *(
        "HTTPS://reg.example/cb",
        "https://reg.example:0/cb",
        "https://reg.example:65536/cb",
        "https://reg.example:/cb",
    ),
    *(
        "https://reg.example:0443/cb",
        "https://reg..example/cb",
        "https://-reg.example/cb",
        "https://reg_.example/cb",
    ),
    *("javascript:alert(1)", "JavaScript:alert(1)", "data:text/html,x", "vbscript:x", "file:///etc/passwd"),
    *(
        "blob:https://reg.example/x",
        "about:blank",
        "urn:ietf:wg:oauth:2.0:oob",
        "intent://x",
        "myapp:/cb",
        "ftp://x/",
    ),
    *(
        "com.example.app://user@callback",
        "https://reg.example/<script>",
        'https://reg.example/"',
        "https://reg.example/`",
    ),
    "https://reg.example/" + "x" * 2048,
]

ATTACKS = [
    *("https://reg.example/cb/../evil", "https://reg.example/cb/%2e%2e/evil", "https://reg.example/cb?x"),
    *(
        "https://reg.example/cb#f",
        "https://reg.example/cb/",
        "https://reg.example/CB",
        "https://reg.example/cb%00",
    ),
    *(
        "https://reg.example@evil.example/cb",
        "https://evil.example\\@reg.example/cb",
        "https://reg.example.evil.example/cb",
    ),
    *(
        "http://reg.example/cb",
        "https://reg.example:443/cb",
        "https://reg.example:8443/cb",
        "//evil.example",
        "",
    ),
    *("//reg.example/cb", "https://reg.example/cb\t", "https://reg.example/cb\r", " https://reg.example/cb"),
    *("https://reg.еxample/cb", "https://REG.example/cb", "HTTPS://reg.example/cb", "javascript:alert(1)"),
    *(
        "https://reg.example",
        "https://reg.example/c",
        "https://reg.example/cb;x",
        "https://sub.reg.example/cb",
    ),
]
LOOPBACK_ATTACKS = [
    *("http://localhost:5000/cb", "http://localhost/cb", "http://0.0.0.0:5000/cb", "http://[::]:5000/cb"),
    *("http://[::1]:5000/cb", "http://127.0.0.2:5000/cb", "http://127.1:5000/cb", "http://2130706433/cb"),
    *(
        "https://127.0.0.1:5000/cb",
        "http://127.0.0.1:5000/cb/",
        "http://127.0.0.1:5000/cb?x",
        "http://127.0.0.1:5000/CB",
    ),
    *("http://127.0.0.1:5000/cb#f", "http://127.0.0.1:5000/../cb", "http://127.0.0.1:5000@evil.example/cb"),
    *(
        "http://127.0.0.1.evil.example/cb",
        "http://127.0.0.1:0/cb",
        "http://127.0.0.1:65536/cb",
        "http://127.0.0.1:/cb",
    ),
    *(
        "http://127.0.0.1:99999999/cb",
        "http://127.0.0.1:5000\\@evil.example/cb",
        "http://127.0.0.1:5000/cb\r\n",
    ),
    *(
        "http://127.0.0.1:080/cb",
        "http://x@127.0.0.1:5000/cb",
        "http://[::ffff:127.0.0.1]:5000/cb",
        "http://127.0.0.1:٥/cb",
    ),
]


@pytest.mark.parametrize("uri", ACCEPTABLE)
def test_redirect_uri_when_acceptable_then_is_kept_letter_for_letter(uri: str) -> None:
    assert parse_redirect_uri(uri) == uri
    assert has_private_scheme(uri) is uri.startswith("com.")
    assert redirect_uri_matches(uri, uri)


@pytest.mark.parametrize("uri", NOT_ACCEPTABLE)
def test_redirect_uri_when_not_acceptable_then_is_refused(uri: str) -> None:
    with pytest.raises(PydanticCustomError):
        parse_redirect_uri(uri)


@pytest.mark.parametrize("given", ATTACKS)
def test_match_when_anything_differs_then_is_another_uri(given: str) -> None:
    """O-01. Positive control: the very same URI."""
    assert not redirect_uri_matches(REGISTERED, given)
    assert redirect_uri_matches(REGISTERED, REGISTERED)


@pytest.mark.parametrize("given", LOOPBACK_ATTACKS)
def test_match_when_on_this_machine_then_only_the_port_may_differ(given: str) -> None:
    """O-02."""
    assert not redirect_uri_matches("http://127.0.0.1/cb", given)
    assert not redirect_uri_matches("http://127.0.0.1:8080/cb", given)
    for registered in ("http://127.0.0.1/cb", "http://127.0.0.1:8080/cb"):
        for port in ("", ":1", ":5000", ":65535"):
            assert redirect_uri_matches(registered, f"http://127.0.0.1{port}/cb")
    assert redirect_uri_matches("http://[::1]/cb?a=b", "http://[::1]:5000/cb?a=b")
    assert not redirect_uri_matches("http://localhost:8080/cb", "http://localhost:5000/cb")


@pytest.mark.parametrize(
    ("resource", "is_one"),
    [
        ("https://api.example/v1", True),
        ("urn:example:api", True),
        ("https://api.example/v1#x", False),
        ("api.example", False),
        ("/v1", False),
        ("https:", False),
        ("https://api.example/ ", False),
        ("", False),
    ],
)
def test_resource_is_an_absolute_uri_without_a_fragment(resource: str, is_one: bool) -> None:
    """RFC 8707 §2."""
    if is_one:
        assert parse_resource(resource) == resource
    else:
        with pytest.raises(PydanticCustomError):
            parse_resource(resource)
