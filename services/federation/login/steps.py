"""Where a login stands between its factors: kept here, so that no page holds what stands for the first."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from chassis.one_time import OneTimeState
from chassis.sealing import Sealer
from contracts.gen.internal.identity.v1 import logins_pb2

_FACTOR: Final = "login_step"
_ENROLLMENT: Final = "login_enrollment"


@dataclass(frozen=True, slots=True)
class Step:
    """A login that waits for one of `factors`."""

    mfa_token: str
    factors: tuple[str, ...]


class Steps:
    """Keeps the step of each waiting request, the last one only; what it holds is sealed.

    Redis then tells nobody what would complete a login.
    """

    def __init__(self, one_time: OneTimeState, sealer: Sealer) -> None:
        """Take where it is kept; every method raises FeatureUnavailable while Redis is away."""
        self._one_time = one_time
        self._sealer = sealer

    async def put(self, handle: str, waiting: logins_pb2.WaitingLogin) -> Step:
        """Remember that a request's login waits for a second factor, in place of what it did before."""
        step = Step(waiting.mfa_token, tuple(waiting.factors))
        await self._one_time.take(_ENROLLMENT, handle)
        await self._keep(_FACTOR, handle, step.mfa_token, waiting.expires_in, factors=list(step.factors))
        return step

    async def find(self, handle: str) -> Step | None:
        """Return it; None when there is none, or it took too long."""
        found = await self._one_time.read(_FACTOR, handle)
        return Step(self._open(_FACTOR, handle, found), tuple(found["factors"])) if found else None

    async def put_enrollment(self, handle: str, due: logins_pb2.EnrollmentDue) -> None:
        """Remember that a second factor must be set up first, in place of what the login waited for."""
        await self._one_time.take(_FACTOR, handle)
        await self._keep(_ENROLLMENT, handle, due.enrollment_token, due.expires_in)

    async def find_enrollment(self, handle: str) -> str | None:
        """Return the token for that set-up; None when none is due, or it took too long."""
        found = await self._one_time.read(_ENROLLMENT, handle)
        return self._open(_ENROLLMENT, handle, found) if found else None

    async def forget(self, handle: str) -> None:
        """Forget it: the login is complete, or begins anew."""
        for kind in (_FACTOR, _ENROLLMENT):
            await self._one_time.take(kind, handle)

    async def _keep(self, kind: str, handle: str, token: str, seconds: int, **members: Any) -> None:  # noqa: ANN401 - JSON
        sealed = self._sealer.seal(token.encode(), f"{kind}:{handle}").hex()
        await self._one_time.put(
            kind, {"token": sealed, **members}, ttl=timedelta(seconds=seconds), token=handle
        )

    def _open(self, kind: str, handle: str, found: dict[str, Any]) -> str:
        return self._sealer.open(bytes.fromhex(found["token"]), f"{kind}:{handle}").decode()
