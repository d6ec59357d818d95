"""What the audit log refuses, beside what every service does."""

from __future__ import annotations

from chassis.errors import InvalidRequest, Unavailable, UnprocessableRequest


class NotAnEvent(InvalidRequest):
    """A handed-over event is no envelope, or holds what cannot be stored."""

    code = "not_an_event"
    detail = "One of the events is not a storable envelope."


class TooManyEvents(InvalidRequest):
    """More events were handed over at once than one call may carry."""

    code = "too_many_events"
    detail = "Too many events in one call."


class RangeReversed(UnprocessableRequest):
    """The end of a range lies before its start."""

    code = "range_reversed"
    detail = "The end of the range lies before its start."


class ChainKeyMissing(Unavailable):
    """The head of a chain is proven under a master key that this process was not given: nothing is appended.

    It is for a process that has the key. To take the chain for broken would be a lie that cannot be undone.
    """

    code = "audit_key_missing"
