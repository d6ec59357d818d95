"""HTTP/1.1 by the byte: what no client library would send."""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[^\r\n]*\r\n")


@dataclass(frozen=True, slots=True)
class Exchange:
    """Everything that came back on one connection."""

    received: bytes
    is_closed: bool

    @property
    def statuses(self) -> list[int]:
        """The status of each answer, in order."""
        return [int(found) for found in _STATUS_LINE.findall(self.received)]


async def exchange(url: str, sent: bytes, *, within: float = 5.0, rest: bytes = b"") -> Exchange:
    """Send the bytes on a connection of their own and read until the peer closes it, or for `within` seconds.

    `rest` is sent after the first answer's head has come.
    """
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    received = b""
    is_closed = False
    try:
        with contextlib.suppress(ConnectionError):
            writer.write(sent)
            await writer.drain()
            async with asyncio.timeout(within):
                while part := await reader.read(65536):
                    received += part
                    if rest and b"\r\n\r\n" in received:
                        writer.write(rest)
                        rest = b""
        is_closed = True
    except TimeoutError:
        pass
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    return Exchange(received, is_closed)


def request(method: str, target: str, headers: dict[str, str] | None = None, body: bytes = b"") -> bytes:
    """Write a well-formed request that asks to close; the target goes out exactly as given."""
    lines = [f"{method} {target} HTTP/1.1", "host: gateway", "connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body
