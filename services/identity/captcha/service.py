"""Checks the token that a CAPTCHA widget gave the browser, at the provider that made it.

Turnstile, hCaptcha and reCAPTCHA answer the same question in the same form (`secret`, `response`, `remoteip`,
and an object with `success`), so an own verifier only has to do likewise. Where a token is required and the
provider does not answer, nobody is let in: an attacker could otherwise choose when it does not.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog
from prometheus_client import Counter

from chassis.context import CallerContext
from chassis.errors import FieldError
from chassis.outbound import OutboundClient, OutboundFailed
from services.identity.errors import CaptchaFailed, CaptchaRequired, CaptchaUnavailable

log = structlog.get_logger()

_MAX_ANSWER = 64 * 1024
MAX_TOKEN_LENGTH = 8192

CHECKS = Counter(
    "captcha_checks_total",
    "CAPTCHA tokens, by where they came and what became of them.",
    ["action", "result"],
)


class CaptchaProvider(StrEnum):
    """Whose widget it is."""

    TURNSTILE = "turnstile"
    HCAPTCHA = "hcaptcha"
    RECAPTCHA = "recaptcha"


VERIFY_URLS = {
    CaptchaProvider.TURNSTILE: "https://challenges.cloudflare.com/turnstile/v0/siteverify",
    CaptchaProvider.HCAPTCHA: "https://api.hcaptcha.com/siteverify",
    CaptchaProvider.RECAPTCHA: "https://www.google.com/recaptcha/api/siteverify",
}

_OUR_FAULTS = frozenset(
    {
        "missing-input-secret",
        "invalid-input-secret",
        "bad-request",
        "internal-error",
        "sitekey-secret-mismatch",
    }
)
"""Error codes that say nothing of the visitor."""


@dataclass(frozen=True, slots=True)
class CaptchaRules:
    """What is configured; `hostnames` are the pages that tokens may come from, all when there are none.

    `min_score` counts where the provider gives one (reCAPTCHA v3). `required` names the actions that need a
    token.
    """

    verify_url: str | None
    secret: str
    hostnames: frozenset[str]
    min_score: float
    required: Collection[str]


class CaptchaService:
    """Checks tokens; one that is sent where none is required is checked too."""

    def __init__(self, rules: CaptchaRules, timeout: float) -> None:
        """Take the rules; `timeout` is in seconds."""
        self._rules = rules
        self._http = OutboundClient(timeout=timeout, max_answer=_MAX_ANSWER)

    async def start(self) -> None:
        """Make ready to ask."""
        await self._http.start()

    async def stop(self) -> None:
        """Close the connections."""
        await self._http.stop()

    async def check(self, caller: CallerContext, action: str, token: str | None) -> None:
        """Check the token of a request; `action` is `signup` or `login`.

        Raises:
            CaptchaRequired: there must be a token.
            CaptchaFailed: it is not one that the provider gave for this, or it was used.
            CaptchaUnavailable: the provider does not answer, or not as it should.
        """
        rules = self._rules
        if rules.verify_url is None:
            return
        if not token:
            if action in rules.required:
                CHECKS.labels(action, "missing").inc()
                raise CaptchaRequired(
                    errors=(FieldError("captcha_token", CaptchaRequired.code, "It is required."),)
                )
            return
        answer = await self._ask(rules.verify_url, caller, action, token)
        if not self._is_accepted(answer):
            CHECKS.labels(action, "failed").inc()
            raise CaptchaFailed(errors=(FieldError("captcha_token", CaptchaFailed.code, "Solve it again."),))
        CHECKS.labels(action, "passed").inc()

    async def _ask(self, url: str, caller: CallerContext, action: str, token: str) -> Mapping[str, Any]:
        form = {"secret": self._rules.secret, "response": token, "remoteip": caller.ip}
        try:
            return _read(await self._http.exchange("POST", url, form=form))
        except OutboundFailed as error:
            CHECKS.labels(action, "unavailable").inc()
            log.warning("captcha provider failed", reason=str(error)[:100])
            raise CaptchaUnavailable from None

    def _is_accepted(self, answer: Mapping[str, Any]) -> bool:
        rules, score = self._rules, answer.get("score")
        if rules.hostnames and answer.get("hostname") not in rules.hostnames:
            return False
        has_low_score = isinstance(score, int | float) and score < rules.min_score
        return answer["success"] is True and not has_low_score


def _read(body: bytes) -> Mapping[str, Any]:
    """Read what a verifier answers.

    Raises:
        OutboundFailed: it is no verdict, or one on us instead of the visitor.
    """
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise OutboundFailed("not JSON") from error
    if not isinstance(answer, dict) or not isinstance(answer.get("success"), bool):
        raise OutboundFailed("not an answer of a verifier")
    codes = answer.get("error-codes")
    faults = _OUR_FAULTS.intersection(map(str, codes)) if isinstance(codes, list) else frozenset()
    if faults:
        raise OutboundFailed(", ".join(sorted(faults)))
    return answer
