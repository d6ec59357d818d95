"""A risk provider over HTTP: asked about each login, believed when it answers, never waited for in vain.

The request is `{client_id, user_id, email_hash, ip, user_agent, action, signals}`, the answer an object with
any of `level`, `score` (0 to 1, or to 100), `signals` (texts) and the flags `tor`, `vpn`, `proxy`, `bot`. The
address is the operator's own, so it is not guarded as those of tenants are; redirects are not followed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx
import structlog
from prometheus_client import Counter

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
        self._timeout = timeout
        self._http: httpx.AsyncClient | None = None
        self._failures = 0
        self._paused_until = 0.0

    async def start(self) -> None:
        """Make the HTTP client, where there is somebody to ask."""
        if self._url:
            self._http = httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, trust_env=False)

    async def stop(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()

    async def ask(self, question: Mapping[str, Any]) -> ProviderVerdict:
        """Return what the provider says; an empty verdict when there is none, or it says nothing in time."""
        if self._http is None or self._url is None:
            return ProviderVerdict()
        if time.monotonic() < self._paused_until:
            CALLS.labels("skipped").inc()
            return ProviderVerdict()
        try:
            verdict = _read(await self._exchange(self._http, self._url, question))
        except (httpx.HTTPError, ValueError, TimeoutError) as error:
            self._failures += 1
            if self._failures >= _FAILURES_BEFORE_PAUSE:
                self._paused_until = time.monotonic() + _PAUSE_SECONDS
                self._failures = 0
            CALLS.labels("failed").inc()
            log.warning("risk provider failed", error=type(error).__name__)
            return ProviderVerdict()
        self._failures = 0
        CALLS.labels("answered").inc()
        return verdict

    async def _exchange(self, http: httpx.AsyncClient, url: str, question: Mapping[str, Any]) -> object:
        async with (
            asyncio.timeout(self._timeout),
            http.stream("POST", url, json=dict(question), headers=self._headers) as answer,
        ):
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"status {answer.status_code}")
            body = b""
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) > _MAX_ANSWER:
                    raise ValueError("the answer is too long")
        return json.loads(body)


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
