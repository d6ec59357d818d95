"""DPoP at our own endpoints (RFC 9449): nonces of ours, and proofs that are good once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import struct
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

from authservice_validator.dpop import DpopInvalid, DpopProof, read_proof

from chassis.clock import Clock
from chassis.errors import InvalidRequest
from chassis.one_time import OneTimeState
from chassis.sealing import Sealer

HEADER: Final = "DPoP"
NONCE_HEADER: Final = "DPoP-Nonce"

_WINDOW: Final = timedelta(minutes=5)
_MAC_BYTES: Final = 16
_PURPOSE: Final = "dpop nonce"


class InvalidDpopProof(InvalidRequest):
    """The proof of possession is missing, forged, of another request, too old, or was used (RFC 9449 §5)."""

    code = "invalid_dpop_proof"
    detail = "The DPoP proof is missing or not good for this request."


class UseDpopNonce(InvalidRequest):
    """The proof has no nonce of ours, or one that is too old; `DPoP-Nonce` has one (RFC 9449 §8)."""

    code = "use_dpop_nonce"
    detail = "Put the nonce of the header DPoP-Nonce into the proof and send the request again."


UseOnce = Callable[[bytes, datetime], Awaitable[bool]]
"""Remembers a name until a time: True to the first who brings it, False to all others."""


def in_redis(one_time: OneTimeState, clock: Clock) -> UseOnce:
    """Let Redis remember proofs; without it none is believed: 503 `feature_unavailable`."""

    async def use_once(name: bytes, until: datetime) -> bool:
        left = max(until - clock.now(), timedelta(seconds=1))
        return await one_time.use_once("dpop", name.hex(), ttl=left)

    return use_once


class DpopNonces:
    """Nonces without memory: a time window and its MAC, good for five to ten minutes at every process."""

    def __init__(self, sealer: Sealer, clock: Clock) -> None:
        """Derive the keys: the first makes nonces, all are believed."""
        self._keys = sealer.derive_all(_PURPOSE)
        self._clock = clock

    def current(self) -> str:
        """Return the nonce to use now."""
        return _nonce(self._keys[0], self._window())

    def is_good(self, nonce: str) -> bool:
        """Whether a nonce is of this window or of the one before."""
        now, given = self._window(), nonce.encode("utf-8", "surrogatepass")
        known = [_nonce(key, window).encode() for key in self._keys for window in (now, now - 1)]
        return any(hmac.compare_digest(one, given) for one in known)

    def _window(self) -> int:
        return int(self._clock.now().timestamp() // _WINDOW.total_seconds())


class DpopProofs:
    """Checks the proofs of requests to this issuer; each is good once."""

    def __init__(self, clock: Clock, base_url: str, nonces: DpopNonces, use_once: UseOnce) -> None:
        """Take the issuer, whose URLs proofs name, and who remembers proofs."""
        self._clock = clock
        self._base_url = base_url
        self.nonces = nonces
        self._use_once = use_once

    async def check(
        self,
        proofs: Sequence[str],
        method: str,
        path: str,
        *,
        access_token: str | None = None,
        jkt: str | None = None,
    ) -> str:
        """Accept the proof of a request, use it up, and return the thumbprint of its key.

        `proofs` are all values of the header `DPoP`. With `access_token` the proof must be for that token;
        with `jkt` it must be by that key.

        Raises:
            InvalidDpopProof: there is none or several, or it is not good.
            UseDpopNonce: it is good, but for its nonce.
        """
        if len(proofs) != 1:
            raise InvalidDpopProof
        try:
            proof: DpopProof = read_proof(
                proofs[0],
                method=method,
                url=f"{self._base_url}{path}",
                now=self._clock.now().timestamp(),
                access_token=access_token,
                jkt=jkt,
            )
        except DpopInvalid as error:
            raise InvalidDpopProof from error
        if proof.nonce is None or not self.nonces.is_good(proof.nonce):
            raise UseDpopNonce(headers=((NONCE_HEADER, self.nonces.current()),))
        name = hashlib.sha256(f"{proof.jkt}|{proof.jti}".encode("utf-8", "surrogatepass")).digest()
        until = datetime.fromtimestamp(proof.expires_at, self._clock.now().tzinfo)
        if not await self._use_once(name, until):
            raise InvalidDpopProof
        return proof.jkt


def _nonce(key: bytes, window: int) -> str:
    payload = struct.pack(">Q", window)
    mac = hmac.digest(key, payload, "sha256")[:_MAC_BYTES]
    return base64.urlsafe_b64encode(payload + mac).rstrip(b"=").decode()
