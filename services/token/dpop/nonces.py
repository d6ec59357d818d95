"""Nonces of proofs (RFC 9449 §8), known by their form alone: no process has to remember one."""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

from chassis.clock import Clock
from chassis.sealing import Sealer
from services.token.signing.algorithms import base64url

_WINDOW_SECONDS: Final = 120
_MAC_BYTES: Final = 16
_INFO: Final = "dpop-nonce"


class Nonces:
    """Gives out nonces, each good for two to four minutes at every process under the same master key."""

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        """Take what the keys are derived from."""
        self._keys = sealer.derive_all(_INFO)
        self._clock = clock

    def current(self) -> str:
        """Return the nonce that is given out now."""
        return _nonce(self._keys[0], self._window())

    def is_ours(self, nonce: str) -> bool:
        """Whether a nonce is one that was given out lately, here or by another process."""
        window = self._window()
        given = nonce.encode("utf-8", "surrogatepass")
        known = [_nonce(key, window + step).encode() for key in self._keys for step in (-1, 0, 1)]
        return any([hmac.compare_digest(given, one) for one in known])  # noqa: C419 - each is compared

    def _window(self) -> int:
        return int(self._clock.now().timestamp()) // _WINDOW_SECONDS


def _nonce(key: bytes, window: int) -> str:
    return base64url(hmac.digest(key, window.to_bytes(8, "big"), hashlib.sha256)[:_MAC_BYTES]).decode()
