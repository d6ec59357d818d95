"""Where a login stands between its factors: kept here, so that no page holds what stands for the first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from chassis.one_time import OneTimeState
from contracts.gen.internal.identity.v1 import logins_pb2

_KIND: Final = "login_step"


@dataclass(frozen=True, slots=True)
class Step:
    """A login that waits for one of `factors`."""

    mfa_token: str
    factors: tuple[str, ...]


class Steps:
    """Keeps the step of each waiting request, the last one only."""

    def __init__(self, one_time: OneTimeState) -> None:
        """Take where it is kept; every method raises FeatureUnavailable while Redis is away."""
        self._one_time = one_time

    async def put(self, handle: str, waiting: logins_pb2.WaitingLogin) -> Step:
        """Remember that a request's login waits for a second factor, in place of what it did before."""
        step = Step(waiting.mfa_token, tuple(waiting.factors))
        members = {"mfa_token": step.mfa_token, "factors": list(step.factors)}
        await self._one_time.put(_KIND, members, ttl=timedelta(seconds=waiting.expires_in), token=handle)
        return step

    async def find(self, handle: str) -> Step | None:
        """Return it; None when there is none, or it took too long."""
        found = await self._one_time.read(_KIND, handle)
        return Step(found["mfa_token"], tuple(found["factors"])) if found else None

    async def forget(self, handle: str) -> None:
        """Forget it: the login is complete, or begins anew."""
        await self._one_time.take(_KIND, handle)
