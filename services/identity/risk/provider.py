"""A risk provider over HTTP: asked about each login, believed when it answers, never waited for in vain.

The request is `{client_id, user_id, email_hash, ip, user_agent, action, signals}`, the answer an object with
any of `level`, `score` (0 to 1, or to 100), `signals` (texts) and the flags `tor`, `vpn`, `proxy`, `bot`. The
address is the operator's own, so it is not guarded as those of tenants are; redirects are not followed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import Counter

from chassis.outbound import OutboundClient, OutboundFailed
from contracts.security_policy import RiskLevel
from services.identity.risk.models import ProviderVerdict

log = structlog.get_logger()

_MAX_ANSWER = 64 * 1024
_MAX_SIGNALS = 20
_MAX_SIGNAL_LENGTH = 64
_FAILURES_BEFORE_PAUSE = 3
_PAUSE_SECONDS = 30.0
_FLAGS = ("tor", "vpn", "proxy", "bot")
_SCORE_LEVELS = ((0.9, RiskLevel.CRITICAL), (0.7, RiskLevel.HIGH), (0.4, RiskLevel.MEDIUM))

CALLS = Counter(
    "risk_provider_calls_total", "Questions to the risk provider, by what became of them.", ["result"]
)


class RiskProvider:
    """Asks the provider; a failure is counted and means nothing, and after several it gets a rest."""

    def __init__(self, url: str | None, api_key: str | None, timeout: float) -> None:
        """Take where it is, if there is one; `timeout` is in seconds, of the whole exchange."""
        self._url = url
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = OutboundClient(timeout=timeout, max_answer=_MAX_ANSWER)
        self._failures = 0
        self._paused_until = 0.0

    async def start(self) -> None:
        """Make ready to ask."""
        await self._http.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self._http.stop()

    async def ask(self, question: Mapping[str, Any]) -> ProviderVerdict:
        """Return what the provider says; an empty verdict when there is none, or it says nothing in time."""
        if self._url is None:
            return ProviderVerdict()
        if time.monotonic() < self._paused_until:
            CALLS.labels("skipped").inc()
            return ProviderVerdict()
        try:
            answer = await self._http.exchange("POST", self._url, headers=self._headers, json=dict(question))
            verdict = _read(json.loads(answer))
        except (OutboundFailed, ValueError, RecursionError) as error:
            self._failures += 1
            if self._failures >= _FAILURES_BEFORE_PAUSE:
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
                self._failures = 0
            CALLS.labels("failed").inc()
            log.warning("risk provider failed", error=type(error).__name__, reason=str(error)[:100])
            return ProviderVerdict()
        self._failures = 0
        CALLS.labels("answered").inc()
        return verdict


def _read(answer: object) -> ProviderVerdict:
    """Read an answer; members of another type than they should have do not count.

    Raises:
        ValueError: it is no JSON object.
    """
    if not isinstance(answer, dict):
        raise ValueError("not an object")  # noqa: TRY004 - of what came over the wire
    said = answer.get("level")
    level = (
        RiskLevel(said)
        if isinstance(said, str) and said in set(RiskLevel)
        else _of_score(answer.get("score"))
    )
    given = answer.get("signals")
    texts = [text for text in given if isinstance(text, str)] if isinstance(given, list) else []
    return ProviderVerdict(
        level=level,
        flags=tuple(flag for flag in _FLAGS if answer.get(flag) is True),
        signals=tuple(text[:_MAX_SIGNAL_LENGTH] for text in texts[:_MAX_SIGNALS]),
    )


def _of_score(score: object) -> RiskLevel | None:
    if isinstance(score, bool) or not isinstance(score, int | float):
        return None
    share = score / 100 if score > 1 else float(score)
    return next((level for least, level in _SCORE_LEVELS if share >= least), RiskLevel.LOW)
