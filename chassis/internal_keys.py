"""Internal trust without certificates: one HMAC key per pair of caller and callee.

The root, `INTERNAL_AUTH_KEY`, stays with the gateway. A service holds only the pairs it is part of, so a
broken service can speak in its own name and in nobody else's.
"""

from __future__ import annotations

import base64
import hmac
import time
from collections.abc import Iterable

from chassis.clock import MAX_CLOCK_DIFFERENCE
from chassis.sealing import derive_key, parse_key

_LIFETIME_SECONDS = 30
_DIFFERENCE_SECONDS = MAX_CLOCK_DIFFERENCE.total_seconds()


class BadCallerProof(Exception):
    """A caller's proof is missing, forged, of another time, or of an unknown pair."""


class InternalKeys:
    """The pairwise keys one process holds."""

    def __init__(self, pairs: dict[tuple[str, str], bytes]) -> None:
        """Keep the keys by (caller, callee)."""
        self._pairs = pairs

    @classmethod
    def derive(cls, root: str, pairs: Iterable[tuple[str, str]]) -> InternalKeys:
        """Derive the keys of `pairs` from the root key's text."""
        key = parse_key(root)
        return cls({pair: derive_key(key, f"internal:{pair[0]}>{pair[1]}") for pair in pairs})

    @classmethod
    def parse(cls, text: str) -> InternalKeys:
        """Read what `render` wrote.

        Raises:
            ValueError: the text has another form.
        """
        pairs = {}
        for item in filter(None, (part.strip() for part in text.split(","))):
            names, separator, key = item.partition("=")
            caller, arrow, callee = names.partition(">")
            if not (separator and arrow):
                raise ValueError("expected caller>callee=key, comma separated")
            pairs[caller, callee] = parse_key(key)
        return cls(pairs)

    def render(self) -> str:
        """Write the keys as `caller>callee=key`, comma separated."""
        items = sorted(self._pairs.items())
        return ",".join(
            f"{caller}>{callee}={base64.urlsafe_b64encode(key).decode().rstrip('=')}"
            for (caller, callee), key in items
        )

    def key(self, caller: str, callee: str) -> bytes:
        """Return a pair's key.

        Raises:
            BadCallerProof: this process is not part of that pair.
        """
        try:
            return self._pairs[caller, callee]
        except KeyError:
            raise BadCallerProof(f"no key for {caller}>{callee}") from None

    def prove(self, caller: str, callee: str, method: str, *, now: float | None = None) -> str:
        """Return a proof, good for seconds and for one RPC method, that the caller holds the pair's key.

        `now` is in Unix seconds; without it the machine's.
        """
        stamp = str(int(time.time() if now is None else now))
        return f"{stamp}.{_mac(self.key(caller, callee), stamp, method)}"

    def check(self, caller: str, callee: str, method: str, proof: str) -> None:
        """Check a proof: made in the last 30 s, by a clock that differs by `MAX_CLOCK_DIFFERENCE` at most.

        Raises:
            BadCallerProof: it is not good.
        """
        stamp, _, mac = proof.partition(".")
        if not stamp.isascii() or not stamp.isdigit() or len(stamp) > len("9999999999"):
            raise BadCallerProof("malformed")
        if not hmac.compare_digest(mac, _mac(self.key(caller, callee), stamp, method)):
            raise BadCallerProof("wrong key")
        age = time.time() - int(stamp)
        if not -_DIFFERENCE_SECONDS <= age <= _LIFETIME_SECONDS + _DIFFERENCE_SECONDS:
            raise BadCallerProof("of another time")


def _mac(key: bytes, stamp: str, method: str) -> str:
    return hmac.digest(key, f"{stamp}\n{method}".encode(), "sha256").hex()
