"""The built-in fetcher against a real HTTP server on loopback."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from authservice_validator import JwksKeys, KeysUnavailable, TokenVerifier
from authservice_validator.fetch import FetchFailed, HttpJwksFetcher
from authservice_validator.testing import LocalIssuer, ManualClock


@dataclass
class Server:
    """An issuer's HTTP face."""

    url: str = ""
    status: int = 200
    body: bytes = b'{"keys": []}'
    headers: dict[str, str] = field(default_factory=dict)
    drip: threading.Event | None = None
    paths: list[str] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.paths.append(self.path)
            self.send_response(state.status)
            for name, value in state.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in state.headers:
                self.send_header("Content-Length", str(len(state.body)))
            self.end_headers()
            try:
                while state.drip is not None and not state.drip.wait(0.02):
                    self.wfile.write(b" ")
                self.wfile.write(state.body)
            except OSError:
                pass  # the client left, as it should

        def log_message(self, *_: object) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{listening.server_port}/jwks.json"
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    if state.drip is not None:
        state.drip.set()
    listening.shutdown()
    listening.server_close()
    thread.join()


def fetcher(server: Server, seconds: float = 5) -> HttpJwksFetcher:
    return HttpJwksFetcher(server.url, timeout=timedelta(seconds=seconds))


async def test_verify_when_keys_come_over_http_then_a_token_is_accepted(
    server: Server, issuer: LocalIssuer, clock: ManualClock
) -> None:
    server.body = json.dumps(issuer.document()).encode()
    keys = JwksKeys(server.url, clock=clock)
    verifier = TokenVerifier(keys, issuer="https://auth.test", clock=clock)
    assert (await verifier.verify(issuer.token("k1"))).sub == "u1"
    assert server.paths == ["/jwks.json"]


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("public, max-age=60", timedelta(seconds=60)),
        ("MAX-AGE=60", timedelta(seconds=60)),
        ("no-cache, max-age=60", timedelta(0)),
        ("no-store", timedelta(0)),
        ("max-age=-1", None),
        ("max-age=99999999999999999999", None),
        ("max-age=\u00b2", None),
        ("public", None),
    ],
)
async def test_fetch_when_the_answer_states_an_age_then_it_is_read(
    header: str, expected: timedelta | None, server: Server
) -> None:
    server.headers["Cache-Control"] = header
    fetched = await fetcher(server)()
    assert (fetched.document, fetched.max_age) == ({"keys": []}, expected)


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 401, 404, 500])
async def test_fetch_when_the_answer_is_not_200_then_fails_and_follows_nothing(
    status: int, server: Server
) -> None:
    server.status, server.headers["Location"] = status, "/evil"
    if status == 204:
        server.body = b""
    with pytest.raises(FetchFailed):
        await fetcher(server)()
    assert server.paths == ["/jwks.json"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"<html>",
        b'{"keys": [], "keys": []}',
        b'{"keys": NaN}',
        b"\xff{}",
        b'{"keys": "' + b"x" * 300_000 + b'"}',
    ],
    ids=["empty", "array", "html", "twice", "nan", "bytes", "large"],
)
async def test_fetch_when_the_body_is_not_a_bounded_json_object_then_fails(
    body: bytes, server: Server
) -> None:
    server.body = body
    with pytest.raises(FetchFailed):
        await fetcher(server)()


async def test_fetch_when_the_body_is_cut_short_then_fails(server: Server) -> None:
    server.headers["Content-Length"] = "1000"
    with pytest.raises(FetchFailed):
        await fetcher(server)()


async def test_fetch_when_bytes_only_drip_then_the_deadline_ends_it(server: Server) -> None:
    server.drip = threading.Event()
    server.headers["Content-Length"] = "100000"
    with pytest.raises(FetchFailed):
        await fetcher(server, 0.2)()


async def test_refresh_when_nobody_listens_then_keys_are_unavailable(server: Server) -> None:
    with pytest.raises(KeysUnavailable):
        await JwksKeys("http://127.0.0.1:1/jwks.json").refresh()


async def test_fetch_when_a_proxy_is_set_then_loopback_does_not_use_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert (await fetcher(server)()).document == {"keys": []}


@pytest.mark.parametrize(
    "url",
    [
        "http://auth.example.com/jwks.json",
        "http://127.0.0.1.evil.example/jwks.json",
        "http://10.0.0.1/jwks.json",
        "https://user:password@auth.example.com/jwks.json",
        "http://127.0.0.1@evil.example/jwks.json",
        "file:///etc/passwd",
        "ftp://127.0.0.1/jwks.json",
        "https:///jwks.json",
        "jwks.json",
        "",
    ],
)
def test_jwks_keys_when_the_url_is_not_safe_then_is_refused(url: str) -> None:
    JwksKeys("https://auth.example.com/jwks.json")
    JwksKeys("http://[::1]:8080/jwks.json")
    JwksKeys("http://localhost:8080/jwks.json")
    with pytest.raises(ValueError, match="URL is https"):
        JwksKeys(url)
