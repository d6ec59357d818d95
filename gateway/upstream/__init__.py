"""The HTTP/1.1 client of the forward path: keep-alive pools of connections to our own services.

Meant for services of this system as peers: it follows no redirects, decodes no content, knows no proxies. It
is strict with them all the same, since a peer may be broken or taken over.
"""

from gateway.upstream.errors import (
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRequestError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.upstream.pool import Upstream
from gateway.upstream.response import UpstreamResponse

__all__ = [
    "Upstream",
    "UpstreamError",
    "UpstreamProtocolError",
    "UpstreamRequestError",
    "UpstreamResponse",
    "UpstreamTimeout",
    "UpstreamUnavailable",
]
