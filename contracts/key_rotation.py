"""A client's own schedule of key rotation, as stored at `settings.signing_key_rotation`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from chassis.errors import FieldError, UnprocessableRequest
from chassis.settings import parse_duration

SETTING: Final = "signing_key_rotation"
"""The member of a client's settings: `30d`, `720h`, or `none`."""

NEVER: Final = "none"
SHORTEST: Final = timedelta(hours=1)
LONGEST: Final = timedelta(days=3650)


def check_key_rotation(value: object, *, where: str = SETTING) -> timedelta | None:
    """Return how long a key signs before the next takes over, or None for as long as nobody rotates it.

    Raises:
        UnprocessableRequest: it is neither `none` nor a duration from an hour to ten years.
    """
    try:
        return read_key_rotation(value)
    except ValueError as error:
        fault = FieldError(where, "key_rotation_invalid", str(error))
        raise UnprocessableRequest(errors=(fault,)) from None


def read_key_rotation(value: object) -> timedelta | None:
    """Read a period.

    Raises:
        ValueError: it is none.
    """
    if value == NEVER:
        return None
    period = parse_duration(value) if isinstance(value, str) else None
    if not isinstance(period, timedelta) or not SHORTEST <= period <= LONGEST:
        raise ValueError("must be `none`, or a duration such as 90d, from 1h to 3650d")
    return period


def rotation_seconds_of(settings: Mapping[str, Any]) -> int | None:
    """Return a client's own period in seconds: 0 for never, None where the installation's counts."""
    if SETTING not in settings:
        return None
    try:
        period = read_key_rotation(settings[SETTING])
    except ValueError:
        return None  # stored before it was checked
    return int(period.total_seconds()) if period is not None else 0
