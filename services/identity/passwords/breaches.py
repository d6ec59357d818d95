"""Whether a password has leaked, asked so that who answers learns nothing of it (k-anonymity).

Only the first five digits of its SHA-1 are sent; hundreds of leaked passwords share them, and the rest is
compared here. The answer is padded, so that its size tells nothing either.
"""

from __future__ import annotations

import hashlib

import structlog
from prometheus_client import Counter

from chassis.outbound import OutboundClient, OutboundFailed

log = structlog.get_logger()

_PREFIX_LENGTH = 5
_MAX_ANSWER = 512 * 1024

LOOKUPS = Counter(
    "password_breach_lookups_total", "Range queries for leaked passwords, by result.", ["result"]
)


class LeakedPasswords:
    """Asks a range service in the form of Have I Been Pwned; without an answer nothing has leaked."""

    def __init__(self, url: str | None, timeout: float) -> None:
        """Take its address, to which the digits are appended; `timeout` is in seconds."""
        self._url = url
        self._http = OutboundClient(timeout=timeout, max_answer=_MAX_ANSWER)

    async def start(self) -> None:
        """Make ready to ask."""
        await self._http.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self._http.stop()

    async def has(self, password: bytes) -> bool:
        """Whether a password, in its normal form, is known to have leaked."""
        if self._url is None:
            return False
        digest = hashlib.sha1(password, usedforsecurity=False).hexdigest().upper()
        url = f"{self._url.rstrip('/')}/{digest[:_PREFIX_LENGTH]}"
        try:
            answer = await self._http.exchange("GET", url, headers={"add-padding": "true"})
        except OutboundFailed as error:
            LOOKUPS.labels("failed").inc()
            log.warning("leaked passwords cannot be looked up", reason=str(error)[:100])
            return False
        has_leaked = _has(answer.decode("ascii", "replace"), digest[_PREFIX_LENGTH:])
        LOOKUPS.labels("leaked" if has_leaked else "unknown").inc()
        return has_leaked


def _has(answer: str, suffix: str) -> bool:
    """Look for the rest of a digest; lines of padding have the count 0."""
    for line in answer.splitlines():
        found, _, count = line.strip().partition(":")
        if found.upper() == suffix:
            return count.strip().lstrip("0") != ""
    return False
