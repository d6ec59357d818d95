"""The verifier's cache, clock and settings, and the revocation set."""

import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import authservice_validator
from authservice_validator import (
    HmacKey,
    JwksKeys,
    RevocationKind,
    RevocationSet,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    TokenVerifier,
)
from authservice_validator.testing import LocalIssuer, ManualClock


async def test_verify_when_the_token_is_good_then_gives_every_claim(
    issuer: LocalIssuer, verifier: TokenVerifier
) -> None:
    token = issuer.token(
        "k1", scope="a b", amr=["pwd", "otp"], act={"sub": "s"}, org_permissions=["org:read"], x=[1]
    )
    claims = await verifier.verify(token)
    assert (claims.sub, claims.aud, claims.kid, claims.sid) == ("u1", ("api",), "k1", "s1")
    assert (claims.scope, claims.scopes, claims.amr) == ("a b", ("a", "b"), ("pwd", "otp"))
    assert (claims.org_permissions, claims.act, claims.cnf) == (("org:read",), {"sub": "s"}, None)
    assert (claims.nbf, claims.email, claims.email_verified) == (None, None, None)
    assert claims.claims["x"] == (1,)
    with pytest.raises(AttributeError):
        claims.sub = "admin"  # type: ignore[misc]
    with pytest.raises(TypeError):
        claims.claims["sub"] = "admin"  # type: ignore[index]


async def test_cached_when_verified_before_then_is_the_same_value_until_the_end(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    token = issuer.token("k1", exp=int(clock()) + 20)
    assert verifier.cached(token) is None
    claims = await verifier.verify(token)
    clock.advance(49)
    assert verifier.cached(token) is claims
    clock.advance(1)
    assert verifier.cached(token) is None
    with pytest.raises(TokenExpired):
        await verifier.verify(token)


async def test_cached_when_its_time_is_over_then_the_token_is_verified_anew(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    token = issuer.token("k1")
    first = await verifier.verify(token)
    clock.advance(61)
    assert verifier.cached(token) is None
    assert await verifier.verify(token) == first


async def test_cached_when_more_tokens_come_than_fit_then_the_oldest_go(
    issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    verifier = TokenVerifier(keys, issuer="https://auth.test", cache_size=3, clock=clock)
    tokens = [issuer.token("k1", jti=f"t{count}") for count in range(5)]
    for token in tokens:
        await verifier.verify(token)
    assert [verifier.cached(token) is not None for token in tokens] == [False, False, True, True, True]
    verifier.forget()
    assert verifier.cached(tokens[4]) is None


async def test_cached_when_the_cache_is_off_then_nothing_is_remembered(
    issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    verifier = TokenVerifier(keys, issuer="https://auth.test", cache_size=0, clock=clock)
    token = issuer.token("k1")
    await verifier.verify(token)
    assert verifier.cached(token) is None


async def test_verify_when_settings_differ_then_one_cached_token_does_not_pass_another_verifier(
    issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    """Verifiers of two tenants share keys, and never their answers."""
    a = TokenVerifier(keys, issuer="https://auth.test", client_id="c1", clock=clock)
    b = TokenVerifier(keys, issuer="https://auth.test", client_id="c2", clock=clock)
    token = issuer.token("k1")
    await a.verify(token)
    with pytest.raises(TokenInvalid):
        await b.verify(token)


async def test_verify_when_service_accounts_are_let_in_then_their_tokens_pass(
    issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    token = issuer.token("k1", token_use="client_credentials", sid=None, service_account_id="sa1")
    uses = {"access", "client_credentials"}
    verifier = TokenVerifier(keys, issuer="https://auth.test", token_uses=uses, clock=clock)
    assert (await verifier.verify(token)).service_account_id == "sa1"
    with pytest.raises(TokenInvalid):
        await TokenVerifier(keys, issuer="https://auth.test", clock=clock).verify(token)


@pytest.mark.parametrize("token", [None, b"a.b.c", 1, ["a.b.c"]])
async def test_verify_when_given_no_string_then_refuses(token: Any, verifier: TokenVerifier) -> None:
    assert verifier.cached(token) is None
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)


@pytest.mark.parametrize("token", ["x" * 1_000_000, "." * 1_000_000, "eyJ" + "W" * 1_000_000 + ".a.b"])
async def test_verify_when_the_token_is_huge_then_no_work_is_done(
    token: str, verifier: TokenVerifier
) -> None:
    """Memory is measured, since time on a shared machine proves nothing."""
    tracemalloc.start()
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
async def test_verify_when_any_character_changes_then_refuses(
    data: st.DataObject, issuer: LocalIssuer, verifier: TokenVerifier
) -> None:
    token = issuer.token("k1")
    await verifier.verify(token)
    position = data.draw(st.integers(0, len(token) - 1))
    character = data.draw(st.characters().filter(lambda drawn: drawn != token[position]))
    with pytest.raises(TokenInvalid):
        await verifier.verify(token[:position] + character + token[position + 1 :])


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    token=st.one_of(
        st.text(), st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True)
    )
)
async def test_verify_when_given_anything_then_raises_only_its_own_errors(
    token: str, verifier: TokenVerifier
) -> None:
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)


@pytest.mark.parametrize(
    "wrong",
    [
        {"issuer": ""},
        {"audience": ""},
        {"client_id": ""},
        {"token_uses": set()},
        {"token_uses": "access"},
        {"leeway": timedelta(seconds=61)},
        {"leeway": timedelta(seconds=-1)},
    ],
)
def test_token_verifier_when_a_setting_is_unsafe_then_is_refused(wrong: dict[str, Any]) -> None:
    key = HmacKey(bytes(range(32)))
    TokenVerifier(key, issuer="i", audience="a", client_id="c", leeway=timedelta(seconds=60))
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TokenVerifier(key, **{"issuer": "i", **wrong})


async def test_verify_when_clocks_differ_by_leeway_then_accepts_and_not_beyond(
    issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    ahead = issuer.token("k1", iat=int(clock()) + 31, nbf=int(clock()) + 31)
    verifier = TokenVerifier(keys, issuer="https://auth.test", clock=clock)
    with pytest.raises(TokenInvalid):
        await verifier.verify(ahead)
    clock.advance(1)
    assert (await verifier.verify(ahead)).sub == "u1"


async def test_verify_when_issuers_clock_is_ahead_and_nbf_allows_for_it_then_accepts_within_120_s(
    issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    now = int(clock())
    verifier = TokenVerifier(keys, issuer="https://auth.test", clock=clock)
    assert (await verifier.verify(issuer.token("k1", iat=now + 120, nbf=now + 30))).iat == now + 120
    for early in ({"iat": now + 121, "nbf": now}, {"iat": now + 31}, {"iat": now, "nbf": now + 31}):
        with pytest.raises(TokenInvalid):
            await verifier.verify(issuer.token("k1", **early))


async def test_revocations_when_expired_then_are_forgotten_and_not_before(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    now = int(clock())
    token = issuer.token("k1", exp=now + 100)
    await verifier.verify(token)
    revocations = verifier.revocations
    revocations.add(RevocationKind.SESSION, "s1", now, now + 100)
    # The verifier's leeway keeps the token alive past `exp`, so the revocation must stay as long.
    clock.advance(125)
    assert revocations.forget_expired(clock()) == 0
    with pytest.raises(TokenRevoked):
        await verifier.verify(token)
    clock.advance(60)
    assert (revocations.forget_expired(clock()), len(revocations)) == (1, 0)
    with pytest.raises(TokenExpired):
        await verifier.verify(token)


async def test_revocations_when_messages_repeat_or_come_late_then_the_strictest_holds(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    now = int(clock())
    claims = await verifier.verify(issuer.token("k1"))
    revocations = verifier.revocations
    revocations.add("user", "u1", now, now + 500)
    revocations.add("user", "u1", now - 50, now + 100)
    assert (len(revocations), revocations.is_revoked(claims)) == (1, True)
    assert revocations.forget_expired(now + 300) == 0
    revocations.add("user", "u1", now, now + 900)
    assert (revocations.forget_expired(now + 600), revocations.is_revoked(claims)) == (0, True)
    assert (revocations.forget_expired(now + 960), revocations.is_revoked(claims)) == (1, False)


async def test_revocations_when_a_session_goes_on_after_then_its_new_tokens_live(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    moment = datetime.fromtimestamp(clock() + 0.9, UTC)
    verifier.revocations.add("user", "u1", moment, moment + timedelta(minutes=15))
    with pytest.raises(TokenRevoked):
        await verifier.verify(issuer.token("k1"))
    clock.advance(1)
    assert (await verifier.verify(issuer.token("k1"))).sub == "u1"


@pytest.mark.parametrize(
    ("kind", "owner", "is_dead"),
    [("key", 0, True), ("key", 1, False), ("user", 0, False), ("session", 0, False)],
)
async def test_revocations_when_of_the_issuer_then_its_keys_count_for_every_tenant(
    verifier: TokenVerifier, issuer: LocalIssuer, kind: str, owner: int, is_dead: bool
) -> None:
    claims = await verifier.verify(issuer.token("k1"))
    name = {"key": claims.kid, "user": claims.sub, "session": claims.sid}[kind]
    assert name
    revocations = RevocationSet()
    revocations.add(kind, name, claims.exp, claims.exp, client_id=str(UUID(int=owner)))
    assert revocations.is_revoked(claims) is is_dead


def test_revocations_when_the_kind_or_time_is_unclear_then_refuse_aloud() -> None:
    revocations = RevocationSet()
    with pytest.raises(ValueError, match="planet"):
        revocations.add("planet", "x", 1, 2)
    with pytest.raises(ValueError, match="zone"):
        revocations.add("user", "x", datetime.fromtimestamp(time.time(), UTC).replace(tzinfo=None), 2)
    assert len(revocations) == 0


def test_public_names_when_changed_then_this_test_is_changed_with_them() -> None:
    assert authservice_validator.__all__ == [
        "Dpop",
        "FetchedJwks",
        "HmacKey",
        "JwksKeys",
        "KeyRefused",
        "KeySource",
        "KeysUnavailable",
        "Needs",
        "ProtectedResource",
        "Refusal",
        "RequestFacts",
        "RevocationFeed",
        "RevocationKind",
        "RevocationSet",
        "RevocationsUnavailable",
        "StatusLists",
        "TokenError",
        "TokenExpired",
        "TokenInvalid",
        "TokenRevoked",
        "TokenVerifier",
        "ValidatorError",
        "VerificationKey",
        "VerifiedClaims",
    ]
