"""Shared by the package's tests: the conformance vectors, a clock that is set by hand, and an issuer."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from authservice_validator import HmacKey, JwksKeys, TokenVerifier
from authservice_validator.testing import LocalIssuer, ManualClock

CONFORMANCE = Path(__file__).resolve().parents[2] / "conformance"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def issuer(clock: ManualClock) -> LocalIssuer:
    return LocalIssuer(clock=clock)


@pytest.fixture
def keys(issuer: LocalIssuer, clock: ManualClock) -> JwksKeys:
    return JwksKeys(issuer.fetch, clock=clock)


@pytest.fixture
def verifier(keys: JwksKeys, clock: ManualClock) -> TokenVerifier:
    return TokenVerifier(keys, issuer="https://auth.test", audience="api", client_id="c1", clock=clock)


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((CONFORMANCE / "vectors.json").read_text())
    return loaded


@pytest.fixture
def conforming(vectors: dict[str, Any]) -> Callable[..., TokenVerifier]:
    """Makes the verifier that the vectors of a key source are judged by."""

    def make(source: str, settings: dict[str, Any] | None = None) -> TokenVerifier:
        setting = {**vectors["verifier"], **(settings or {})}

        async def fetch() -> dict[str, Any]:
            document: dict[str, Any] = vectors["sources"]["jwks"]
            return document

        hs256 = vectors["sources"]["hs256"]
        secret = base64.urlsafe_b64decode(hs256["secret"] + "=")
        return TokenVerifier(
            JwksKeys(fetch) if source == "jwks" else HmacKey(secret, kid=hs256["kid"]),
            issuer=setting["issuer"],
            audience=setting["audience"],
            client_id=setting["client_id"],
            token_uses=setting["token_uses"],
            leeway=timedelta(seconds=setting["leeway"]),
            status_lists=setting.get("status_lists"),
            clock=lambda: float(setting["now"]),
        )

    return make
