"""Loading, renewing and doubting the issuer's keys."""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest

from authservice_validator import JwksKeys, KeysUnavailable, TokenInvalid, TokenVerifier
from authservice_validator.testing import LocalIssuer, ManualClock


async def settle(keys: JwksKeys) -> None:
    """Wait for a fetch in the background."""
    if keys._flight is not None:
        await asyncio.wait([keys._flight])


async def until(is_reached: Callable[[], bool]) -> None:
    """Let other tasks run, a bounded number of times, until something is so."""
    for _ in range(100):
        if is_reached():
            return
        await asyncio.sleep(0)
    raise AssertionError("what was waited for did not come")


async def test_verify_when_a_hundred_start_cold_then_keys_are_fetched_once(
    issuer: LocalIssuer, verifier: TokenVerifier
) -> None:
    tokens = [issuer.token("k1", jti=f"t{count}") for count in range(100)]
    claims = await asyncio.gather(*(verifier.verify(token) for token in tokens))
    assert [claim.jti for claim in claims] == [f"t{count}" for count in range(100)]
    assert issuer.fetches == 1


async def test_verify_when_a_waiting_caller_gives_up_then_the_others_get_their_keys(
    issuer: LocalIssuer, verifier: TokenVerifier
) -> None:
    issuer.gate = asyncio.Event()
    token = issuer.token("k1")
    impatient, patient = (asyncio.create_task(verifier.verify(token)) for _ in range(2))
    await asyncio.sleep(0)
    impatient.cancel()
    issuer.gate.set()
    assert (await patient).sub == "u1"
    assert impatient.cancelled() or not impatient.done()
    assert issuer.fetches == 1


async def test_verify_when_the_key_rolls_over_under_load_then_no_token_is_missed(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    """Without any notice, seconds after the last fetch: the worst case, an emergency rotation."""
    await verifier.verify(issuer.token("k1"))
    clock.advance(1)
    issuer.add_key("k2")
    tokens = [issuer.token(kid, jti=f"{kid}-{count}") for count in range(25) for kid in ("k1", "k2")]
    claims = await asyncio.gather(*(verifier.verify(token) for token in tokens))
    assert len(claims) == 50
    assert issuer.fetches == 2


async def test_verify_when_a_fetch_began_before_the_key_was_published_then_looks_again(
    issuer: LocalIssuer, verifier: TokenVerifier, keys: JwksKeys, clock: ManualClock
) -> None:
    await verifier.verify(issuer.token("k1"))
    clock.advance(250)  # due for renewal
    issuer.gate = asyncio.Event()
    renewal = asyncio.create_task(verifier.verify(issuer.token("k1", jti="t2")))
    await until(lambda: issuer.fetches == 2)
    issuer.add_key("k2")  # the fetch under way has read the document already
    waiting = [
        asyncio.create_task(verifier.verify(issuer.token("k2", jti=f"n{count}"))) for count in range(50)
    ]
    await asyncio.sleep(0)
    issuer.gate.set()
    assert len(await asyncio.gather(renewal, *waiting)) == 51
    assert issuer.fetches == 3
    await settle(keys)


async def test_verify_when_flooded_with_unknown_kids_then_fetches_once_per_cooldown(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    await verifier.verify(issuer.token("k1", jti="f"))
    before = issuer.fetches
    for second in range(20):
        clock.now = 1_800_000_000.0 + second
        for count in range(50):
            issuer.keys[f"x{second}-{count}"] = issuer.keys["k1"]
            token = issuer.token(f"x{second}-{count}")
            del issuer.keys[f"x{second}-{count}"]
            with pytest.raises(TokenInvalid):
                await verifier.verify(token)
    assert issuer.fetches - before == 4  # 20 s, one each 5 s, for 1000 tokens
    assert (await verifier.verify(issuer.token("k1", jti="after"))).jti == "after"


async def test_verify_when_a_kid_was_just_absent_then_it_does_not_spend_the_budget_of_a_new_key(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    gone = issuer.token("k1", jti="x")
    issuer.add_key("stranger")
    strange = issuer.token("stranger")
    del issuer.keys["stranger"]
    await verifier.verify(gone)
    with pytest.raises(TokenInvalid):
        await verifier.verify(strange)
    clock.advance(6)
    fetched = issuer.fetches
    with pytest.raises(TokenInvalid):
        await verifier.verify(strange)
    assert issuer.fetches == fetched
    issuer.add_key("k2")
    assert (await verifier.verify(issuer.token("k2"))).kid == "k2"


async def test_verify_when_keys_near_their_age_then_they_are_renewed_without_waiting(
    issuer: LocalIssuer, verifier: TokenVerifier, keys: JwksKeys, clock: ManualClock
) -> None:
    await verifier.verify(issuer.token("k1"))
    clock.advance(239)
    await verifier.verify(issuer.token("k1", jti="t2"))
    assert issuer.fetches == 1
    clock.advance(2)
    issuer.gate = asyncio.Event()
    await verifier.verify(issuer.token("k1", jti="t3"))  # returns although the fetch cannot end
    issuer.gate.set()
    await settle(keys)
    assert issuer.fetches == 2
    assert keys.find("k1") is not None


async def test_verify_when_idle_past_freshness_then_looks_before_it_believes(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    await verifier.verify(issuer.token("k1"))
    issuer.add_key("k2")
    clock.advance(301)
    stolen = issuer.token("k1", jti="t2")
    del issuer.keys["k1"]
    with pytest.raises(TokenInvalid):
        await verifier.verify(stolen)


async def test_verify_when_the_issuer_is_away_then_old_keys_serve_within_their_bound(
    issuer: LocalIssuer, verifier: TokenVerifier, keys: JwksKeys, clock: ManualClock
) -> None:
    await verifier.verify(issuer.token("k1"))
    issuer.is_away = True
    for _ in range(30):
        clock.advance(120)
        assert (await verifier.verify(issuer.token("k1"))).sub == "u1"
        await settle(keys)
    asked = issuer.fetches
    await verifier.verify(issuer.token("k1", jti="again"))
    assert issuer.fetches == asked  # the failed one is not repeated for each request
    clock.advance(400)
    with pytest.raises(KeysUnavailable):
        await verifier.verify(issuer.token("k1"))
    issuer.is_away = False
    clock.advance(31)
    assert (await verifier.verify(issuer.token("k1"))).sub == "u1"


async def test_verify_when_the_issuer_was_never_there_then_fails_fast_and_recovers(
    issuer: LocalIssuer, verifier: TokenVerifier, clock: ManualClock
) -> None:
    issuer.is_away = True
    token = issuer.token("k1")
    answers = await asyncio.gather(*(verifier.verify(token) for _ in range(100)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {KeysUnavailable}
    assert issuer.fetches == 1
    with pytest.raises(KeysUnavailable):
        await verifier.verify(token)
    assert issuer.fetches == 1
    issuer.is_away = False
    clock.advance(2)
    assert (await verifier.verify(token)).sub == "u1"


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"keys": {}},
        {"keys": [1]},
        {"keys": [{"kty": "RSA"}]},
        {"keys": "k1"},
        [],
        "<html>",
    ],
)
async def test_refresh_when_the_answer_is_bad_then_the_last_keys_stay(
    answer: Any, issuer: LocalIssuer, verifier: TokenVerifier, keys: JwksKeys
) -> None:
    await keys.refresh()
    issuer.answer = answer
    with pytest.raises(KeysUnavailable):
        await keys.refresh()
    assert (await verifier.verify(issuer.token("k1"))).kid == "k1"


async def test_refresh_when_two_keys_have_one_name_then_the_set_is_refused(
    issuer: LocalIssuer, keys: JwksKeys
) -> None:
    [good] = issuer.document()["keys"]
    issuer.add_key("k2")
    twin = {**issuer.document()["keys"][1], "kid": "k1"}
    issuer.answer = {"keys": [good, twin]}
    with pytest.raises(KeysUnavailable):
        await keys.refresh()


async def test_verify_when_a_key_is_withdrawn_then_remembered_tokens_of_it_die(
    issuer: LocalIssuer, verifier: TokenVerifier, keys: JwksKeys
) -> None:
    token = issuer.token("k1")
    await verifier.verify(token)
    issuer.add_key("k2")
    await keys.refresh()
    assert verifier.cached(token) is not None  # a new key beside it changes nothing
    other = issuer.keys.pop("k1")
    await keys.refresh()
    assert verifier.cached(token) is None
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)
    issuer.keys["k1"] = other


async def test_verify_when_a_key_is_replaced_under_its_name_then_remembered_tokens_die(
    issuer: LocalIssuer, verifier: TokenVerifier, keys: JwksKeys
) -> None:
    token = issuer.token("k1")
    await verifier.verify(token)
    issuer.add_key("k1")
    await keys.refresh()
    with pytest.raises(TokenInvalid):
        await verifier.verify(token)


@pytest.mark.parametrize(
    ("stated", "renewed_after"),
    [
        (timedelta(seconds=100), 80),
        (timedelta(0), 4),  # an issuer that forbids caching still gets at most one fetch per cooldown
        (timedelta(days=365), 2880),  # a removed key must not live for a year
        (None, 240),
    ],
)
async def test_find_when_max_age_is_stated_then_it_is_honoured_within_bounds(
    stated: timedelta | None, renewed_after: int, issuer: LocalIssuer, keys: JwksKeys, clock: ManualClock
) -> None:
    issuer.max_age = stated
    await keys.refresh()
    clock.advance(renewed_after - 0.5)
    assert keys.find("k1") is not None
    clock.advance(1)
    assert keys.find("k1") is None


async def test_aclose_when_a_fetch_hangs_then_it_is_stopped(issuer: LocalIssuer, keys: JwksKeys) -> None:
    issuer.gate = asyncio.Event()
    waiting = asyncio.create_task(keys.refresh())
    await until(lambda: issuer.fetches == 1)
    await keys.aclose()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_refresh_when_the_fetcher_hangs_then_it_times_out(
    issuer: LocalIssuer, clock: ManualClock
) -> None:
    issuer.gate = asyncio.Event()
    keys = JwksKeys(issuer.fetch, timeout=timedelta(milliseconds=20), clock=clock)
    with pytest.raises(KeysUnavailable):
        await keys.refresh()


async def test_verify_when_the_header_cannot_be_good_then_nothing_is_fetched(
    issuer: LocalIssuer, verifier: TokenVerifier
) -> None:
    """Who sends rubbish must not make us call the issuer."""
    good = jwt.get_unverified_header(issuer.token())
    wrong: list[dict[str, object]] = [
        {"alg": "HS256"},
        {"alg": "none"},
        {"kid": "k" * 201},
        {"typ": "JWT"},
        {"jku": "x"},
    ]
    for change in wrong:
        head = base64.urlsafe_b64encode(json.dumps({**good, **change}).encode()).rstrip(b"=").decode()
        with pytest.raises(TokenInvalid):
            await verifier.verify(head + issuer.token()[issuer.token().index(".") :])
    assert issuer.fetches == 0
    assert (await verifier.verify(issuer.token())).kid == "k1"


def test_get_when_another_loop_left_a_fetch_hanging_then_loads_its_own(
    issuer: LocalIssuer, clock: ManualClock
) -> None:
    keys = JwksKeys(issuer.fetch, clock=clock)
    earlier = asyncio.new_event_loop()
    gate = issuer.gate = asyncio.Event()
    hanging = earlier.create_task(keys.refresh())
    earlier.run_until_complete(until(lambda: issuer.fetches == 1))
    issuer.gate = None
    assert asyncio.run(keys.get("k1")).kid == "k1"
    gate.set()
    earlier.run_until_complete(hanging)
    earlier.close()


def test_get_when_an_earlier_loop_was_closed_then_loads_again(
    issuer: LocalIssuer, clock: ManualClock
) -> None:
    keys = JwksKeys(issuer.fetch, clock=clock)
    for _ in range(2):
        assert asyncio.run(keys.get("k1")).kid == "k1"
        clock.advance(10_000)
