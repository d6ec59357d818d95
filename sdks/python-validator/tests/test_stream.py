"""Following the stream of revocations: what is believed, when nobody knows, and that it never gives up."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authservice_validator import JwksKeys, RevocationSet, RevocationsUnavailable, TokenRevoked, TokenVerifier
from authservice_validator import stream as stream_module
from authservice_validator.claims import VerifiedClaims
from authservice_validator.stream import PATH, RevocationReader, RevocationStream
from authservice_validator.testing import LocalIssuer, ManualClock

VECTORS = json.loads((Path(__file__).resolve().parents[2] / "conformance" / "vectors.json").read_text())
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
LATER = 2_000_000_000  # of the real clock and of the tests'
SYNCED = b"event: synced\ndata: {}\n\n"


@pytest.mark.parametrize("vector", VECTORS["streams"], ids=lambda vector: vector["id"])
async def test_reader_when_given_a_vector_then_knows_what_it_says(
    vector: dict[str, Any], conforming: Callable[..., TokenVerifier]
) -> None:
    (token,) = [entry["token"] for entry in VECTORS["tokens"] if entry["id"] == "valid-rs256"]
    claims = await conforming("jwks").verify(token)
    revocations = RevocationSet()
    reader = RevocationReader(revocations)
    for chunk in vector["chunks"]:
        reader.feed(chunk.encode())
    assert (str(reader.state), revocations.is_revoked(claims)) == (vector["state"], vector["revoked"])


def test_reader_when_a_character_is_split_or_an_event_has_no_end_then_reads_or_refuses() -> None:
    revocations = RevocationSet()
    reader = RevocationReader(revocations)
    for octet in revocation("session", "ö"):
        reader.feed(bytes([octet]))
    assert len(revocations) == 1
    with pytest.raises(ValueError, match="too large"):
        for _ in range(100):
            reader.feed(b"data: " + b"x" * 1000 + b"\n")


def revocation(kind: str, ref: str) -> bytes:
    """An event as the issuer writes it."""
    data = json.dumps({"kind": kind, "ref": ref, "at": LATER, "expires_at": LATER}, ensure_ascii=False)
    return f"event: revocation\ndata: {data}\n\n".encode()


class Peer:
    """An issuer whose streams a test writes by hand."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.first: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Say what was prepared for this connection, and leave it open."""
        self.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(self.first.pop(0) if self.first else OK + SYNCED)
        self.writers.append(writer)
        with contextlib.suppress(ConnectionError):
            await reader.read()

    async def say(self, data: bytes) -> None:
        """Say something on the newest connection."""
        self.writers[-1].write(data)

    def close(self) -> None:
        """End the newest connection."""
        self.writers[-1].close()


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    """The issuer, on loopback."""
    made = Peer()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    yield made
    server.close()
    for writer in made.writers:
        writer.close()


@pytest.fixture
async def claims(issuer: LocalIssuer, verifier: TokenVerifier) -> VerifiedClaims:
    """Of the session `s1`."""
    return await verifier.verify(issuer.token())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before connecting again."""
    monkeypatch.setattr(stream_module, "_LONGEST_RETRY_SECONDS", 0.05)


def following(peer: Peer, **options: Any) -> RevocationStream:
    """A stream to the peer."""
    return RevocationStream(f"http://127.0.0.1:{peer.port}", api_key="ask_test", **options)


async def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0.01)


async def test_stream_when_a_session_ends_then_verifier_refuses_and_forgets_what_it_cached(
    peer: Peer, keys: JwksKeys, issuer: LocalIssuer, clock: ManualClock
) -> None:
    async with following(peer) as stream:
        verifier = TokenVerifier(keys, issuer="https://auth.test", revocations=stream, clock=clock)
        token = issuer.token()
        assert (await verifier.verify(token)).sid == "s1"
        assert verifier.cached(token) is not None
        await peer.say(revocation("session", "s1"))
        await until(lambda: len(stream.revocations) == 1)
        assert verifier.cached(token) is None
        with pytest.raises(TokenRevoked):
            await verifier.verify(token)
    head = peer.heads[0].lower()
    assert head.startswith(f"get {PATH} http/1.1".encode())
    assert b"x-api-key: ask_test" in head
    with pytest.raises(TokenRevoked):  # what is known stays in force
        await verifier.verify(token)


async def test_stream_when_not_all_has_come_then_nobody_knows(
    peer: Peer, keys: JwksKeys, issuer: LocalIssuer, clock: ManualClock
) -> None:
    peer.first = [OK + revocation("session", "another")]
    stream = following(peer)
    verifier = TokenVerifier(keys, issuer="https://auth.test", revocations=stream, clock=clock)
    starting = asyncio.create_task(stream.start())
    await until(lambda: len(stream.revocations) == 1)
    with pytest.raises(RevocationsUnavailable):
        await verifier.verify(issuer.token())
    await peer.say(SYNCED)
    await starting
    assert (await verifier.verify(issuer.token())).sub == "u1"
    await stream.aclose()


async def test_stream_when_lost_refused_or_silent_then_connects_again_and_goes_on_enforcing(
    peer: Peer, claims: VerifiedClaims
) -> None:
    refused = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"
    elsewhere = b"HTTP/1.1 302 Found\r\nlocation: /else\r\ncontent-length: 0\r\n\r\n"
    peer.first = [OK + revocation("session", "s1") + SYNCED, refused, elsewhere, OK + b": ping\n\n"]
    async with following(peer, silence=timedelta(seconds=0.2)) as stream:
        peer.close()
        # The fourth connection falls silent, the fifth tells all; meanwhile what is known stays in force.
        while len(peer.writers) < 5:
            assert stream.is_revoked(claims)
            await asyncio.sleep(0.01)
        assert stream.last_error is not None


@pytest.mark.parametrize(("status", "is_known"), [(401, False), (403, False), (429, True), (500, True)])
async def test_stream_when_its_key_is_refused_then_nobody_knows_until_it_is_accepted_again(
    peer: Peer, claims: VerifiedClaims, status: int, is_known: bool
) -> None:
    refused = f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n".encode()
    async with following(peer) as stream:
        peer.first = [refused, OK + b": ping\n\n"]
        peer.close()
        await until(lambda: len(peer.writers) == 3)
        assert stream.last_error is not None
        assert str(status) in str(stream.last_error)
        assert stream.is_synced is is_known
        if not is_known:
            with pytest.raises(RevocationsUnavailable):
                stream.is_revoked(claims)
        await peer.say(SYNCED)
        await until(lambda: stream.is_synced)
        assert not stream.is_revoked(claims)


async def test_stream_when_something_cannot_be_read_then_nobody_knows_until_a_stream_without_it(
    peer: Peer, claims: VerifiedClaims
) -> None:
    async with following(peer) as stream:
        assert not stream.is_revoked(claims)
        peer.first = [OK + revocation("planet", "earth") + SYNCED, OK + SYNCED]
        await peer.say(revocation("planet", "earth"))
        await until(lambda: not stream.is_synced)
        with pytest.raises(RevocationsUnavailable):
            stream.is_revoked(claims)
        await until(lambda: stream.is_synced)
        assert len(peer.writers) == 3


async def test_stream_when_silent_for_too_long_then_refuses_if_so_told(
    peer: Peer, claims: VerifiedClaims
) -> None:
    clock = ManualClock()
    strict = following(peer, refuse_after=timedelta(seconds=30), clock=clock)
    async with strict:
        clock.advance(30)
        assert not strict.is_revoked(claims)
        clock.advance(1)
        with pytest.raises(RevocationsUnavailable):
            strict.require_synced()
        await peer.say(b": ping\n\n")
        await until(lambda: strict.is_synced)


@pytest.mark.parametrize(
    "url", ["http://auth.example.com", "https://u:p@auth.example.com", "ftp://localhost"]
)
def test_stream_when_the_address_is_not_safe_then_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        RevocationStream(url, api_key="ask_x")
    with pytest.raises(ValueError, match="key"):
        RevocationStream("https://auth.example.com", api_key="")
