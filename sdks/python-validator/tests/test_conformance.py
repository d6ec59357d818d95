"""The conformance vectors, which every AuthService validator must answer alike."""

import base64
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authservice_validator import (
    HmacKey,
    KeyRefused,
    Needs,
    ProtectedResource,
    Refusal,
    RequestFacts,
    RevocationSet,
    StatusLists,
    TokenRevoked,
    TokenVerifier,
    ValidatorError,
)
from authservice_validator.dpop import DpopInvalid, DpopProof, read_proof
from authservice_validator.keys import read_jwk
from authservice_validator.resource import metadata_url

CONFORMANCE = Path(__file__).resolve().parents[2] / "conformance"
VECTORS: dict[str, Any] = json.loads((CONFORMANCE / "vectors.json").read_text())
TOKENS = {vector["id"]: vector for vector in VECTORS["tokens"]}

Make = Callable[..., TokenVerifier]


def named(group: str) -> list[Any]:
    return [pytest.param(entry, id=entry["id"]) for entry in VECTORS[group]]


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("vector", named("tokens"))
async def test_verify_when_given_a_vector_then_answers_as_it_says(
    vector: dict[str, Any], conforming: Make
) -> None:
    verifier = conforming(vector["source"], vector.get("settings"))
    # The positive control: with this very verifier, the token that the forgery was made from is good.
    control = TOKENS[vector["control"]]
    assert control["expect"] == "valid"
    assert (await verifier.verify(control["token"])).client_id == VECTORS["verifier"]["client_id"]
    if vector["expect"] == "valid":
        assert verifier.cached(vector["token"]) is await verifier.verify(vector["token"])
        return
    for _ in range(2):  # a refusal must not become an acceptance by being asked twice
        with pytest.raises(ValidatorError) as refusal:
            await verifier.verify(vector["token"])
        assert refusal.value.code == vector["expect"]
        assert verifier.cached(vector["token"]) is None


def test_vectors_when_counted_then_cover_each_attack_of_the_group() -> None:
    forged = [vector for vector in VECTORS["tokens"] if vector["expect"] != "valid"]
    assert len(forged) >= 300
    covered = {vector["attack"] for vector in forged}
    assert covered >= {f"J-{number:02}" for number in (*range(1, 18), 20)}


def test_vectors_when_generated_again_then_are_the_committed_ones() -> None:
    command = [sys.executable, str(CONFORMANCE / "generate.py"), "--check"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "vectors.json is fresh\n"), answer.stderr


@pytest.mark.parametrize("entry", named("refused_secrets"))
def test_hmac_key_when_the_secret_is_public_or_weak_then_is_refused(entry: dict[str, Any]) -> None:
    secret = decoded(entry["secret"])
    HmacKey(decoded(VECTORS["sources"]["hs256"]["secret"]))
    spaced = [b"\n " + secret + b"\r\n"] if entry["attack"] == "J-02" else []
    for given in (secret, *spaced):
        with pytest.raises(KeyRefused):
            HmacKey(given)


@pytest.mark.parametrize("entry", named("refused_keys"))
def test_read_jwk_when_the_key_is_unfit_then_is_refused(entry: dict[str, Any]) -> None:
    for good in VECTORS["sources"]["jwks"]["keys"]:
        assert read_jwk(good).kid == good["kid"]
    with pytest.raises(KeyRefused):
        read_jwk(entry["jwk"])


@pytest.mark.parametrize("entry", named("revocations"))
@pytest.mark.parametrize("is_warm", [False, True], ids=["cold", "cached"])
async def test_verify_when_something_is_revoked_then_tokens_it_names_die(
    entry: dict[str, Any], is_warm: bool, conforming: Make
) -> None:
    verifier, token = conforming("jwks"), TOKENS["valid-rs256"]["token"]
    if is_warm:
        await verifier.verify(token)
    assert isinstance(verifier.revocations, RevocationSet)
    verifier.revocations.add(
        entry["kind"], entry["name"], entry["not_after"], VECTORS["verifier"]["now"] + 900
    )
    if entry["revoked"]:
        assert verifier.cached(token) is None
        with pytest.raises(TokenRevoked):
            await verifier.verify(token)
    else:
        assert (await verifier.verify(token)).kid == "rs-1"


def read(vector: dict[str, Any]) -> DpopProof:
    return read_proof(
        vector["proof"],
        method=vector["method"],
        url=vector["url"],
        now=VECTORS["proof_verifier"]["now"],
        access_token=vector["access_token"],
        jkt=vector["jkt"],
    )


@pytest.mark.parametrize("vector", named("status_lists"))
async def test_status_lists_when_given_a_vector_then_answer_as_it_says(
    vector: dict[str, Any], conforming: Make
) -> None:
    fetched: list[str] = []

    async def fetch(uri: str) -> str:
        fetched.append(uri)
        listed: str = vector["list"]
        return listed

    def now() -> float:
        return float(VECTORS["verifier"]["now"])

    keys = conforming("jwks")._keys
    lists = StatusLists(keys, issuer=VECTORS["verifier"]["issuer"], fetch=fetch, clock=now)
    verifier = conforming("jwks", {"status_lists": lists})
    for _ in range(2):
        if vector["expect"] == "valid":
            await verifier.verify(vector["token"])
        else:
            with pytest.raises(ValidatorError) as refusal:
                await verifier.verify(vector["token"])
            assert refusal.value.code == vector["expect"]
    # Never an address that a token chose.
    assert set(fetched) <= {vector["uri"]}


PROOFS = {vector["id"]: vector for vector in VECTORS["proofs"]}


@pytest.mark.parametrize("vector", named("proofs"))
def test_read_proof_when_given_a_vector_then_answers_as_it_says(vector: dict[str, Any]) -> None:
    control = PROOFS[vector["control"]]
    assert read(control).nonce == control["nonce"] or control["nonce"] is None
    if vector["expect"] == "invalid_dpop_proof":
        with pytest.raises(DpopInvalid):
            read(vector)
        return
    # Whether a nonce is one of its own is for the server to say.
    is_its_own = vector["nonce"] is None or read(vector).nonce == vector["nonce"]
    assert is_its_own == (vector["expect"] == "valid")


@pytest.mark.parametrize("vector", named("requests"))
async def test_authenticate_when_given_a_vector_then_lets_in_or_tells_as_it_says(
    vector: dict[str, Any], conforming: Make
) -> None:
    verifier = conforming("jwks", {"token_uses": ["access", "oauth"]})
    resource = ProtectedResource(verifier, **vector["guard"])
    max_age = vector["need"].get("max_age")
    needs = Needs(
        tuple(vector["need"].get("scopes", ())),
        tuple(vector["need"].get("acr_values", ())),
        None if max_age is None else timedelta(seconds=max_age),
    )
    facts = RequestFacts(vector["authorization"], vector["dpop"], vector["method"], vector["url"])
    if vector["status"] == 200:
        assert (await resource.authenticate(facts, needs)).sub == vector["subject"]
        return
    with pytest.raises(Refusal) as refusal:
        await resource.authenticate(facts, needs)
    told = (refusal.value.status, refusal.value.reason, refusal.value.headers["WWW-Authenticate"])
    assert told == (vector["status"], vector["code"], vector["challenge"])


def test_metadata_url_when_given_a_vector_then_answers_as_it_says() -> None:
    for vector in VECTORS["metadata"]:
        if vector["url"] is None:
            with pytest.raises(ValueError, match=r"URL|fragment"):
                metadata_url(vector["resource"])
        else:
            assert metadata_url(vector["resource"]) == vector["url"]
