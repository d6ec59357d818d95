"""The clock, injected so that tests decide what time it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

MAX_CLOCK_DIFFERENCE: Final = timedelta(seconds=90)
"""What the clocks of two machines of one system may differ by without anything being refused for it."""


class Clock(Protocol):
    """Tells the time."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the aware UTC time."""
        return datetime.now(UTC)


def rfc3339(moment: datetime) -> str:
    """Format an aware time as RFC 3339 in UTC with a `Z` and microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
