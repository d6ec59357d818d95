"""The pool of connections to one service: which address, which connection, how many, when to try again."""

from __future__ import annotations

import asyncio
import ssl as tls
from collections import deque
from collections.abc import AsyncIterator, Iterable
from typing import Final
from urllib.parse import urlsplit

from gateway.upstream.connection import Connection
from gateway.upstream.errors import UpstreamTimeout, UpstreamUnavailable
from gateway.upstream.response import UpstreamResponse
from gateway.upstream.wire import IDEMPOTENT_METHODS, RawHeaders, build_head

_FIRST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 0.2
_OUTAGE_FACTOR: Final = 5


class _Origin:
    """One address of the service. ``down_until`` is loop time; 0 while it is believed to be well."""

    __slots__ = ("authority", "down_until", "host", "idle", "port")

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        name = f"[{host}]" if ":" in host else host
        self.authority = f"{name}:{port}".encode("ascii")
        self.idle: list[Connection] = []
        self.down_until = 0.0


def _parse_origins(addresses: Iterable[str] | str, *, is_tls: bool) -> list[_Origin]:
    """Read ``host:port`` or ``http://host:port`` (``https://`` with TLS), several separated by commas.

    Raises:
        ValueError: an address is not of that form, or its scheme does not fit the TLS setting.
    """
    listed = addresses.split(",") if isinstance(addresses, str) else list(addresses)
    origins = []
    for entry in filter(None, (address.strip() for address in listed)):
        parts = urlsplit(entry if "://" in entry else f"{'https' if is_tls else 'http'}://{entry}")
        if parts.scheme != ("https" if is_tls else "http"):
            raise ValueError(f"{entry!r}: https needs a TLS context, and a TLS context needs https")
        if not parts.hostname or parts.path not in ("", "/") or parts.query or parts.username is not None:
            raise ValueError(f"{entry!r} is not host:port or scheme://host:port")
        origins.append(_Origin(parts.hostname, parts.port or (443 if is_tls else 80)))
    if not origins:
        raise ValueError("a service needs at least one address")
    return origins


class Upstream:
    """A client of one service. Belongs to the event loop that first uses it; ``close()`` it there.

    Addresses are taken in turn. One that refuses a connection is passed over for ``failure_cooldown``, after
    which one request tries it again; when all are down all are tried. A connection has one request at a time.

    When all addresses refuse, nothing has been sent: a request, whatever its method, tries again for
    ``patience``, so that a service that starts anew is hardly noticed. Once all have refused for five times
    as long the service is away, and nobody waits for it.

    ``idle_timeout`` must be shorter than the keep-alive time of the services, or requests that may not be
    repeated meet connections which the service is just closing.

    Args:
        addresses: ``host:port`` or URLs, a list or comma separated.
        ssl: TLS settings of https addresses; host names are verified as it says.
        max_connections: open connections to all addresses together; requests beyond wait in line.
        max_waiting: requests in line; one more is refused at once.
        connect_timeout: seconds for one address to accept, TLS included.
        idle_timeout: seconds that an unused connection is kept.
        failure_cooldown: seconds that a failing address is passed over.
        patience: seconds that a request waits for a service whose addresses all refuse.
    """

    def __init__(
        self,
        addresses: Iterable[str] | str,
        ssl: tls.SSLContext | None = None,
        *,
        max_connections: int = 256,
        max_waiting: int = 1024,
        connect_timeout: float = 2.0,
        idle_timeout: float = 4.0,
        failure_cooldown: float = 1.0,
        patience: float = 1.0,
    ) -> None:
        self._origins = _parse_origins(addresses, is_tls=ssl is not None)
        self._ssl = ssl
        self._max_connections = max_connections
        self._max_waiting = max_waiting
        self._connect_timeout = connect_timeout
        self._idle_timeout = idle_timeout
        self._failure_cooldown = failure_cooldown
        self._patience = patience
        self._refused_since: float | None = None  # loop time at which all refused, and no one accepted since
        self._turn = 0
        self._slots = 0  # connections open or being opened
        self._connections: set[Connection] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._is_closed = False
        self._all_lost: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def open_connections(self) -> int:
        """Connections open or being opened, for metrics."""
        return self._slots

    @property
    def idle_connections(self) -> int:
        """Connections ready for a request, for metrics."""
        return sum(len(origin.idle) for origin in self._origins)

    @property
    def waiting_requests(self) -> int:
        """Requests that wait for a connection, for metrics."""
        return len(self._waiting)

    async def request(
        self,
        method: bytes,
        target: bytes,
        headers: RawHeaders,
        body: AsyncIterator[bytes] | bytes | None,
        deadline: float,
    ) -> UpstreamResponse:
        """Send a request and return when the head of its answer is here.

        A streamed body is sent while the answer is awaited and read; an exception of the stream closes the
        connection and is raised as it is, here or from the response. A request on a kept connection that the
        service had closed is sent again on a new one, if it is idempotent and its body at hand.

        Args:
            method: upper case.
            target: raw path and query.
            headers: raw pairs, hop-by-hop fields removed; Host and Content-Length as given, or made here.
            body: None, bytes, or a stream (closed at its end if it is an async generator).
            deadline: loop time by which the answer must be complete; ``response.set_deadline`` moves it.

        Raises:
            UpstreamRequestError: the request is not acceptable; nothing was sent.
            UpstreamUnavailable: no connection, or it was closed before an answer began.
            UpstreamTimeout: the deadline passed.
            UpstreamProtocolError: the service broke the protocol.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        size = 0 if body is None else len(body) if isinstance(body, bytes) else None
        head = build_head(method, target, headers, size)
        if deadline <= loop.time():
            raise UpstreamTimeout
        connection = self._take_idle() or await self._acquire_patiently(loop, deadline)
        while True:
            encoded = head.encode(self._origins[connection.origin_index].authority)
            was_reused = connection.is_reused
            answer = connection.begin(encoded, body, head.length, deadline, is_head=method == b"HEAD")
            try:
                return await answer
            except UpstreamUnavailable:
                if not was_reused:
                    self._origins[connection.origin_index].down_until = loop.time() + self._failure_cooldown
                if size is None or not was_reused or method not in IDEMPOTENT_METHODS:
                    raise
            except BaseException:
                connection.give_up(answer)
                raise
            # A new connection is not a stale one: the second try is the last.
            connection = await self._acquire_patiently(loop, deadline, fresh=True)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - bounds the drain, then closes by force
        """Refuse new requests, let those under way end for ``timeout`` seconds, close everything."""
        self._is_closed = True
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(UpstreamUnavailable("the service is no longer called"))
        for origin in self._origins:
            for connection in origin.idle:
                connection.abort()
            origin.idle.clear()
        if not self._connections:
            return
        self._all_lost = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._all_lost], timeout=timeout)
        if self._connections:
            for connection in tuple(self._connections):
                connection.abort()
            await self._all_lost

    # Connections report here.

    def on_idle(self, connection: Connection) -> None:
        """Give the connection to the first in line, or keep it."""
        if self._is_closed:
            connection.abort()
            return
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self._origins[connection.origin_index].idle.append(connection)
        loop = self._loop
        if loop is not None:
            connection.extend(loop.time() + self._idle_timeout)

    def on_lost(self, connection: Connection) -> None:
        """Forget the connection; its slot goes to the first in line."""
        self._connections.discard(connection)
        idle = self._origins[connection.origin_index].idle
        if connection in idle:
            idle.remove(connection)
        if connection.holds_slot:
            connection.holds_slot = False
            self._free_slot()
        if self._all_lost is not None and not self._connections and not self._all_lost.done():
            self._all_lost.set_result(None)

    # Choosing and connecting

    def _take_idle(self) -> Connection | None:
        """An idle connection of the address whose turn it is, or None: ``_turn`` says where to connect."""
        if self._is_closed:
            return None
        origins = self._origins
        for _ in origins:
            self._turn = (self._turn + 1) % len(origins)
            origin = origins[self._turn]
            if origin.down_until and self._loop is not None and origin.down_until > self._loop.time():
                continue
            connection = self._pop_usable(origin)
            if connection is not None or self._slots < self._max_connections:
                return connection
        return self._take_any()

    def _take_any(self) -> Connection | None:
        """An idle connection of any address."""
        for origin in self._origins:
            connection = self._pop_usable(origin)
            if connection is not None:
                return connection
        return None

    @staticmethod
    def _pop_usable(origin: _Origin) -> Connection | None:
        """The connection used last, so that the surplus of a burst ages and closes."""
        while origin.idle:
            connection = origin.idle.pop()
            if connection.is_usable:
                return connection
        return None

    async def _acquire_patiently(
        self, loop: asyncio.AbstractEventLoop, deadline: float, *, fresh: bool = False
    ) -> Connection:
        """As ``_acquire``, and again while all addresses refuse and that is news; holds no slot meanwhile."""
        until = min(deadline, loop.time() + self._patience)
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._acquire(loop, deadline, fresh=fresh)
            except UpstreamUnavailable as error:
                is_refusal = isinstance(error.__cause__, OSError)
                since = self._refused_since
                if not is_refusal or since is None or loop.time() + pause > until:
                    raise
                if loop.time() - since > self._patience * _OUTAGE_FACTOR:
                    raise
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _acquire(
        self, loop: asyncio.AbstractEventLoop, deadline: float, *, fresh: bool = False
    ) -> Connection:
        """A new connection, or, unless it must be ``fresh``, one handed over by another request."""
        while True:
            if self._is_closed:
                raise UpstreamUnavailable("the service is no longer called")
            if self._slots < self._max_connections:
                self._slots += 1
                break
            given = self._take_any() or await self._wait_in_line(loop, deadline)
            if given is None:
                break
            if not given.is_usable:
                continue
            if not fresh:
                return given
            # Its slot is kept for the connection that is opened in its place.
            given.holds_slot = False
            given.abort()
            break
        return await self._connect(loop, deadline)

    async def _wait_in_line(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection | None:
        """A connection from another request, or None: a free slot, now the caller's."""
        if len(self._waiting) >= self._max_waiting:
            raise UpstreamUnavailable("the service is overloaded")
        waiter: asyncio.Future[Connection | None] = loop.create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout_at(deadline):
                return await waiter
        except BaseException as error:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                # Served in the moment of leaving: the next in line gets it.
                given = waiter.result()
                if given is None:
                    self._free_slot()
                elif given.is_usable:
                    self.on_idle(given)
            if isinstance(error, TimeoutError):
                raise UpstreamTimeout from error
            raise

    def _free_slot(self) -> None:
        """Give a slot to the first in line, or count it as free."""
        while self._waiting and not self._is_closed:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
        self._slots -= 1

    async def _connect(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection:
        """Open a connection in a slot that the caller holds, at the first address that accepts."""
        turns = [(self._turn + step) % len(self._origins) for step in range(len(self._origins))]
        now = loop.time()
        turns.sort(key=lambda index: self._origins[index].down_until > now)
        refusal: OSError | None = None
        try:
            for index in turns:
                try:
                    return await self._connect_to(loop, index, deadline)
                except OSError as error:
                    refusal = error
                if loop.time() >= deadline:
                    break
        except BaseException:
            self._free_slot()
            raise
        self._free_slot()
        if loop.time() >= deadline:
            raise UpstreamTimeout from refusal
        if self._refused_since is None:
            self._refused_since = loop.time()
        raise UpstreamUnavailable from refusal

    async def _connect_to(self, loop: asyncio.AbstractEventLoop, index: int, deadline: float) -> Connection:
        """Open a connection to one address; OSError (which TimeoutError is) when it does not accept."""
        origin = self._origins[index]
        if origin.down_until:
            # The first to try again after a failure does it alone: the others go on passing it over.
            origin.down_until = loop.time() + self._failure_cooldown
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + self._connect_timeout)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, index, loop), origin.host, origin.port, ssl=self._ssl
                )
        except OSError:
            if loop.time() < deadline:
                origin.down_until = loop.time() + self._failure_cooldown
            raise
        if self._is_closed or not connection.is_usable:
            connection.abort()
            raise ConnectionResetError("the connection was closed as it opened")
        origin.down_until = 0.0
        self._refused_since = None
        connection.holds_slot = True
        self._connections.add(connection)
        return connection
