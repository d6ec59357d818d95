"""What can go wrong between the gateway and a service.

    UpstreamError
    ├── UpstreamUnavailable     no connection, or it went away before the answer began   (503)
    ├── UpstreamTimeout         the deadline passed                                      (504)
    ├── UpstreamProtocolError   the peer broke HTTP/1.1, or cut its answer short         (502)
    └── UpstreamRequestError    the request cannot be put on the wire safely             (400)

Messages are safe to show: they never hold an address. The cause (``__cause__``) may; it is for the log only.
"""

from __future__ import annotations


class UpstreamError(Exception):
    """Any failure of a forwarded request; its message names no address."""


class UpstreamUnavailable(UpstreamError):
    """No address accepted a connection, or the connection was lost before the first byte of an answer.

    ``was_sent`` tells whether a part of the request had been written: the service may then have acted on it,
    so that only an idempotent request may be sent again.
    """

    def __init__(self, message: str = "the service is unavailable", *, was_sent: bool = False) -> None:
        super().__init__(message)
        self.was_sent = was_sent


class UpstreamTimeout(UpstreamError):
    """The deadline passed before the answer was complete."""

    def __init__(self, message: str = "the service did not answer in time") -> None:
        super().__init__(message)


class UpstreamProtocolError(UpstreamError):
    """The peer sent what is not an acceptable HTTP/1.1 answer, or ended in the middle of one."""


class UpstreamRequestError(UpstreamError):
    """The request given by the caller cannot be put on the wire without changing what it means."""
