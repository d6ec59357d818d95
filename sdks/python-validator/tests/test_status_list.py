"""Status lists: what is believed of them, and what is done while there is none."""

import asyncio
import base64
import zlib
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest

from authservice_validator import (
    HmacKey,
    JwksKeys,
    RevocationsUnavailable,
    StatusLists,
    TokenInvalid,
    TokenRevoked,
    TokenVerifier,
)
from authservice_validator.testing import LocalIssuer, ManualClock

ISSUER = "https://auth.test"
URI = f"{ISSUER}/.well-known/status-lists/0"


def packed(octets: bytes) -> str:
    """A `lst` member."""
    return base64.urlsafe_b64encode(zlib.compress(octets, 9)).rstrip(b"=").decode()


class Publisher:
    """Publishes the list of an issuer in memory."""

    def __init__(self, issuer: LocalIssuer) -> None:
        self.issuer = issuer
        issuer.add_key("issuer.k1")
        self.octets = bytearray(16)
        self.fetched: list[str] = []
        self.is_away = False
        self.changes: dict[str, Any] = {}
        self.header: dict[str, Any] = {}
        self.raw: str | None = None

    def kill(self, index: int) -> None:
        """Set a bit."""
        self.octets[index >> 3] |= 1 << (index & 7)

    async def fetch(self, uri: str) -> str:
        """Answer as the issuer would."""
        self.fetched.append(uri)
        await asyncio.sleep(0)
        if self.is_away:
            raise ConnectionError("the issuer is away")
        if self.raw is not None:
            return self.raw
        now = int(self.issuer.clock())
        listed = {"bits": 1, "lst": packed(bytes(self.octets))}
        claims = {"iss": ISSUER, "sub": uri, "iat": now, "exp": now + 300, "ttl": 10, "status_list": listed}
        claims = {name: value for name, value in {**claims, **self.changes}.items() if value is not None}
        header = {"kid": "issuer.k1", "typ": "statuslist+jwt", **self.header}
        return jwt.encode(claims, self.issuer.keys["issuer.k1"], algorithm="ES256", headers=header)


@pytest.fixture
def publisher(issuer: LocalIssuer) -> Publisher:
    return Publisher(issuer)


@pytest.fixture
def lists(keys: JwksKeys, publisher: Publisher, clock: ManualClock) -> StatusLists:
    return StatusLists(keys, issuer=ISSUER, fetch=publisher.fetch, clock=clock)


@pytest.fixture
def listed(keys: JwksKeys, lists: StatusLists, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(keys, issuer=ISSUER, status_lists=lists, clock=clock)


def token(issuer: LocalIssuer, index: object = 5, uri: object = URI, **claims: Any) -> str:
    """A token with a place in a list."""
    return issuer.token(status={"status_list": {"idx": index, "uri": uri}}, **claims)


async def test_token_when_its_bit_is_set_then_refused_at_the_next_list_also_from_the_cache(
    listed: TokenVerifier, issuer: LocalIssuer, publisher: Publisher, clock: ManualClock
) -> None:
    mine, other = token(issuer), token(issuer, 6, jti="t2")
    assert (await listed.verify(mine)).sub == "u1"
    assert listed.cached(mine) is not None
    publisher.kill(5)
    clock.advance(9)  # in the background: nobody waits
    assert listed.cached(mine) is not None
    for _ in range(20):
        await asyncio.sleep(0)
    assert listed.cached(mine) is None
    for _ in range(2):
        with pytest.raises(TokenRevoked):
            await listed.verify(mine)
    assert (await listed.verify(other)).jti == "t2"
    clock.advance(60)  # idle: looks before it believes
    publisher.kill(6)
    with pytest.raises(TokenRevoked):
        await listed.verify(other)
    assert publisher.fetched == [URI] * 3


async def test_token_when_a_hundred_come_at_once_then_one_fetch(
    listed: TokenVerifier, issuer: LocalIssuer, publisher: Publisher
) -> None:
    publisher.kill(7)
    tokens = [token(issuer, count % 100, jti=f"t{count}") for count in range(100)]
    answers = await asyncio.gather(*map(listed.verify, tokens), return_exceptions=True)
    assert [type(answer) for answer in answers if isinstance(answer, Exception)] == [TokenRevoked]
    assert publisher.fetched == [URI]


async def test_token_when_it_names_no_list_then_passes_and_nothing_is_fetched(
    listed: TokenVerifier, issuer: LocalIssuer, publisher: Publisher
) -> None:
    claims: list[dict[str, Any]] = [{}, {"status": {}}, {"status": {"other": 1}}]
    for status in claims:
        assert (await listed.verify(issuer.token(**status, jti=f"{status}"))).sub == "u1"
    assert publisher.fetched == []


@pytest.mark.parametrize(
    ("index", "uri"),
    [
        (-1, URI),
        (True, URI),
        ("5", URI),
        (None, URI),
        (128, URI),
        (2**60, URI),
        (5, None),
        (5, "https://evil.example/.well-known/status-lists/0"),
        (5, f"{ISSUER}.evil.example/.well-known/status-lists/0"),
        (5, f"{ISSUER}/.well-known/status-lists/"),
        (5, f"{ISSUER}/.well-known/status-lists/0/../../x"),
        (5, f"{ISSUER}/.well-known/status-lists/0?x=1"),
        (5, f"{ISSUER}/.well-known/status-lists/٣"),
        (5, f"{ISSUER}/.well-known/status-lists/{'9' * 13}"),
        (5, "http://169.254.169.254/latest"),
    ],
)
async def test_token_when_it_names_what_cannot_be_then_invalid_and_no_other_address_is_asked(
    listed: TokenVerifier, issuer: LocalIssuer, publisher: Publisher, index: object, uri: object
) -> None:
    await listed.verify(token(issuer))
    with pytest.raises(TokenInvalid):
        await listed.verify(token(issuer, index, uri))
    assert set(publisher.fetched) == {URI}


BAD: dict[str, Callable[[Publisher], None]] = {
    "another-address": lambda p: p.changes.update(sub=URI + "1"),
    "another-issuer": lambda p: p.changes.update(iss="https://evil.example"),
    "no-issuer": lambda p: p.changes.update(iss=None),
    "no-address": lambda p: p.changes.update(sub=None),
    "over": lambda p: p.changes.update(exp=int(p.issuer.clock())),
    "no-end": lambda p: p.changes.update(exp=None),
    "of-tomorrow": lambda p: p.changes.update(iat=int(p.issuer.clock()) + 86_400),
    "no-ttl": lambda p: p.changes.update(ttl=None),
    "ttl-zero": lambda p: p.changes.update(ttl=0),
    "ttl-true": lambda p: p.changes.update(ttl=True),
    "no-list": lambda p: p.changes.update(status_list=None),
    "bits-3": lambda p: p.changes.update(status_list={"bits": 3, "lst": packed(bytes(16))}),
    "bits-true": lambda p: p.changes.update(status_list={"bits": True, "lst": packed(bytes(16))}),
    "not-zlib": lambda p: p.changes.update(status_list={"bits": 1, "lst": "AAAA"}),
    "cut-short": lambda p: p.changes.update(status_list={"bits": 1, "lst": packed(bytes(9000))[:-8]}),
    "bomb": lambda p: p.changes.update(status_list={"bits": 1, "lst": packed(bytes(2**22))}),
    "an-access-token": lambda p: p.header.update(typ="at+jwt"),
    "no-type": lambda p: p.header.update(typ="JWT"),
    "another-key": lambda p: p.header.update(kid="issuer.k9"),
    "unsigned": lambda p: setattr(p, "raw", "eyJhbGciOiJub25lIn0.e30."),
    "html": lambda p: setattr(p, "raw", "<html>"),
    "away": lambda p: setattr(p, "is_away", True),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
async def test_list_when_it_is_not_to_be_believed_then_nobody_knows_and_the_last_one_serves_to_its_end(
    issuer: LocalIssuer,
    keys: JwksKeys,
    lists: StatusLists,
    listed: TokenVerifier,
    publisher: Publisher,
    clock: ManualClock,
    spoil: Callable[[Publisher], None],
) -> None:
    good = Publisher(issuer)
    control = TokenVerifier(
        keys,
        issuer=ISSUER,
        status_lists=StatusLists(keys, issuer=ISSUER, fetch=good.fetch, clock=clock),
        clock=clock,
    )
    assert (await control.verify(token(issuer))).sub == "u1"
    spoil(publisher)
    for _ in range(3):
        with pytest.raises(RevocationsUnavailable):
            await listed.verify(token(issuer))
    assert len(publisher.fetched) == 1  # the failed one is not repeated for each request
    # The same after a good one: that is gone by until its end.
    good.kill(9)
    clock.advance(11)
    with pytest.raises(TokenRevoked):
        await control.verify(token(issuer, 9))
    spoil(good)
    clock.advance(290)
    assert (await control.verify(token(issuer))).sub == "u1"
    with pytest.raises(TokenRevoked):
        await control.verify(token(issuer, 9))
    clock.advance(11)
    with pytest.raises(RevocationsUnavailable):
        await control.verify(token(issuer))


async def test_lists_when_many_are_named_then_so_many_are_kept(
    keys: JwksKeys, publisher: Publisher, issuer: LocalIssuer, clock: ManualClock
) -> None:
    lists = StatusLists(keys, issuer=ISSUER, fetch=publisher.fetch, max_lists=2, clock=clock)
    verifier = TokenVerifier(keys, issuer=ISSUER, status_lists=lists, cache_size=0, clock=clock)
    for number in (0, 1, 2, 2, 1, 0):
        await verifier.verify(token(issuer, uri=f"{ISSUER}/.well-known/status-lists/{number}"))
    assert len(publisher.fetched) == 4


def test_lists_when_given_a_secret_or_an_unsafe_address_then_refused(keys: JwksKeys) -> None:
    with pytest.raises(ValueError, match="public keys"):
        StatusLists(HmacKey("0123456789abcdef" * 4), issuer=ISSUER)
    assert StatusLists(keys, issuer=ISSUER, max_age=timedelta(seconds=1))
