"""The time a request has left, carried with its task: every outbound call takes its deadline from it."""

from __future__ import annotations

import time
from contextvars import ContextVar

from chassis.errors import DeadlineExceeded

_deadline: ContextVar[float | None] = ContextVar("deadline", default=None)


def set_budget(seconds: float) -> None:
    """Start the clock of the current request: `seconds` from now everything it does must be over."""
    _deadline.set(time.monotonic() + seconds)


def remaining(at_most: float) -> float:
    """Seconds an outbound call may take: `at_most`, or what the request has left.

    Raises:
        DeadlineExceeded: nothing is left.
    """
    deadline = _deadline.get()
    if deadline is None:
        return at_most
    left = deadline - time.monotonic()
    if left <= 0:
        raise DeadlineExceeded
    return min(at_most, left)
