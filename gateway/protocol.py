"""HTTP/1.1 as the gateway accepts it from the world: bounded in size and time, never in two readings.

uvicorn's protocol parses with llhttp, which refuses malformed framing. What it leaves open is closed here:
no bound on a head's size and count, on the time a head or a body takes, on a body that nobody reads any
more; and upgrades (h2c), after which the peers may disagree on where the next request begins.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, cast

from prometheus_client import Counter
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from chassis.ids import new_id

CONNECTION: Final = "gateway.connection"

MAX_HEAD_BYTES: Final = 32 * 1024
MAX_HEADERS: Final = 100
HEAD_SECONDS: Final = 10.0
IDLE_SECONDS: Final = 20.0
LINGER_SECONDS: Final = 5.0
_MAX_DISCARDED: Final = 16 * 1024 * 1024
_TICK_SECONDS: Final = 2.0

_REFUSAL: Final = (
    b"HTTP/1.1 %b\r\ncontent-type: application/problem+json\r\ncontent-length: %d\r\nconnection: close\r\n"
    b"cache-control: no-store\r\nx-content-type-options: nosniff\r\nx-request-id: %b\r\n\r\n%b"
)
_BODY: Final = (
    '{"type":"/docs/errors#%s","title":"%s","status":%d,'
    '"detail":"The request is not acceptable.","code":"%s","request_id":"%s"}'
)

REFUSALS: Final = {
    "malformed_request": ("400 Bad Request", "The framing or the host of the request is not clear."),
    "upgrade_not_supported": ("400 Bad Request", "Upgrades (h2c, WebSocket) are not spoken here."),
    "target_too_long": ("414 URI Too Long", "The path and the query are longer than a head may be."),
    "head_too_large": ("431 Request Header Fields Too Large", "The head is larger than 32 KiB."),
    "too_many_headers": ("431 Request Header Fields Too Large", "There are more than 100 headers."),
}
"""Code → status and meaning of what is refused before there is a request; the connection is closed."""

_HOST: Final = re.compile(rb"[A-Za-z0-9.\-_~:\[\]]{0,255}")
_DIGITS: Final = re.compile(rb"[0-9]{1,15}")

CUT = Counter("gateway_connections_cut_total", "Connections closed before an answer.", ["why"])


class HardenedProtocol(HttpToolsProtocol):
    """One connection of a client. `serving` is the task of its request, cancelled when the client leaves."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own signature
        """Take what uvicorn gives."""
        super().__init__(*args, **kwargs)
        self.serving: asyncio.Task[Any] | None = None
        self.is_lost = False
        self._refused = False
        self._in_head = True
        self._in_body = False
        self._fed = 0
        self._discarded = 0
        self._since = self._answered_at = self.loop.time()
        self._paused_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Start the watch: a connection that says nothing is closed too."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(_TICK_SECONDS, self._tick)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the watch, and the request that nobody waits for."""
        self.is_lost = True
        if self._timer is not None:
            self._timer.cancel()
        super().connection_lost(exc)
        if self.serving is not None:
            self.serving.cancel()

    def data_received(self, data: bytes) -> None:
        """Parse, within the bounds of a head."""
        if self._refused:
            return
        self._fed += len(data)
        if self._in_body:
            self._since = self.loop.time()
        super().data_received(data)
        if self._in_head and self._fed > MAX_HEAD_BYTES:
            self._refuse("head_too_large")

    def pause_writing(self) -> None:
        """The client does not read."""
        self._paused_since = self.loop.time()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused_since = None
        super().resume_writing()

    # Parser callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        cast("dict[str, Any]", self.scope)[CONNECTION] = self
        self._in_head, self._in_body = True, False
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """Collect the target; llhttp hands it over in pieces."""
        super().on_url(url)
        if len(self.url) > MAX_HEAD_BYTES:
            self._refuse("target_too_long")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Collect a header, up to a hundred.

        Trailers are dropped: one could add a credential to a head that was already judged.
        """
        if self._refused or not self._in_head:
            return
        super().on_header(name, value)
        if len(self.headers) > MAX_HEADERS:
            self._refuse("too_many_headers")

    def on_headers_complete(self) -> None:
        """The head is complete: hand the request over, unless it is refused here."""
        if self._refused:
            return
        if self.parser.should_upgrade():
            self._refuse("upgrade_not_supported")
            return
        if not (
            _has_clear_host(self.parser.get_http_version(), self.headers) and _has_clear_length(self.headers)
        ):
            self._refuse("malformed_request")
            return
        if sum(len(name) + len(value) + 4 for name, value in self.headers) + len(self.url) > MAX_HEAD_BYTES:
            self._refuse("head_too_large")
            return
        self._in_head, self._in_body = False, True
        self._fed = 0
        self._discarded = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect the body; of one that was already answered only so much is read and dropped."""
        if self._refused:
            return
        if self.cycle.response_complete:
            self._discarded += len(body)
            if self._discarded > _MAX_DISCARDED:
                self._cut("unwanted_body")
            return
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete; what comes now is the next one's head."""
        if self._refused:
            return
        super().on_message_complete()
        self._in_body = False
        self._in_head = True
        self._fed = 0
        self._since = self.loop.time()

    def on_response_complete(self) -> None:
        """The answer is out. Idling until the next request is uvicorn's to bound."""
        super().on_response_complete()
        self._since = self._answered_at = self.loop.time()

    def send_400_response(self, msg: str) -> None:
        """Answer what llhttp refused, in our words."""
        self._refuse("malformed_request")

    # Bounds

    def _tick(self) -> None:
        """Close what takes too long. One timer a connection; requests do not touch it."""
        now = self.loop.time()
        self._timer = self.loop.call_later(_TICK_SECONDS, self._tick)
        is_idle = self.cycle is not None and self.cycle.response_complete and self._fed == 0
        if self._paused_since is not None and now - self._paused_since > IDLE_SECONDS:
            self._cut("slow_reader")
        elif self._in_head and not is_idle and self.serving is None and now - self._since > HEAD_SECONDS:
            self._cut("slow_head")
        elif self._in_body and self.cycle.response_complete:
            if now - self._answered_at > LINGER_SECONDS:
                self._cut("unwanted_body")
        elif self._in_body and now - self._since > IDLE_SECONDS and not self.flow.read_paused:
            self._cut("slow_body")

    def _cut(self, why: str) -> None:
        CUT.labels(why).inc()
        self._refused = True
        self.transport.abort()

    def _refuse(self, code: str) -> None:
        """Answer without the application and close: what follows on this connection has no clear meaning."""
        if self._refused:
            return
        self._refused = True
        CUT.labels(code).inc()
        if self.cycle is not None and not self.cycle.response_complete:
            # An earlier request is being answered: two answers must not mix.
            self.transport.abort()
            return
        status = REFUSALS[code][0]
        number, _, title = status.partition(" ")
        request_id = str(new_id())
        body = (_BODY % (code, title, int(number), code, request_id)).encode()
        self.transport.write(_REFUSAL % (status.encode(), len(body), request_id.encode(), body))
        self.transport.close()


def _has_clear_host(version: str, headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether the request names its host once, as HTTP/1.1 demands (RFC 9112 §3.2); 1.0 may leave it out."""
    hosts = [value for name, value in headers if name == b"host"]
    if version not in {"1.0", "1.1"} or len(hosts) > 1 or (not hosts and version == "1.1"):
        return False
    return all(_HOST.fullmatch(value) for value in hosts)


def _has_clear_length(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether every reader finds the same end of the body: one plain length, or `chunked` and nothing else.

    Judged here and not later, because whatever follows an unclear body must not be parsed either (RFC 9112
    §11.2).
    """
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        return False
    return all(_DIGITS.fullmatch(value) for value in lengths) and all(
        value.lower() == b"chunked" for value in codings
    )
