"""Requests to URLs that tenants give: to the public Internet only, whatever a name resolves to at the moment.

The name is resolved once, every address is judged, and the connection goes to the address that was judged: an
answer that changes in between (DNS rebinding) leads nowhere. Redirects are not followed, and no proxy is
used: it would resolve the name itself. Each request has a connection of its own, because one that was made
for another name at the same address has another's certificate.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from chassis.outbound import OutboundFailed
from chassis.public_addresses import is_public

_CHUNK = 16 * 1024

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Returns the addresses of a host for a port."""


class AddressRefused(OutboundFailed):
    """The URL is not https, or leads to where nothing of ours may go; nothing was sent."""


@dataclass(frozen=True, slots=True)
class PublicAnswer:
    """An HTTP answer; the body is empty when nobody wanted it."""

    status: int
    headers: httpx.Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class _Target:
    """The address that was judged as a URL, and the name that certificate and `Host` go by."""

    url: httpx.URL
    host_header: str
    name: str


async def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=1)
    return [str(place[4][0]) for place in found]


class PublicClient:
    """An HTTP client of one process for URLs that tenants give; only for services whose extra has `httpx`."""

    def __init__(
        self,
        *,
        timeout: float,
        max_answer: int,
        allow_private: bool = False,
        resolve: Resolve = resolve,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the bounds of a whole exchange: seconds, and bytes of the answer.

        `allow_private` is for development: any address, and plain http. `tls` is the system's trust unless
        given.
        """
        self._timeout = timeout
        self._max_answer = max_answer
        self._allow_private = allow_private
        self._resolve = resolve
        self._tls = tls
        self._http: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Nothing yet: the client is made at the first call, as many installations make none."""

    async def stop(self) -> None:
        """Close the connections."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
        wants_body: bool = True,
    ) -> PublicAnswer:
        """Send a request and return whatever is answered; without `wants_body` only its head is read.

        Raises:
            AddressRefused: the URL leads to where nothing may go.
            OutboundFailed: there was no answer in time, or one that is too long.
        """
        try:
            async with asyncio.timeout(self._timeout):
                target = await self._judged(url)
                return await self._send(method, target, headers, form, wants_body=wants_body)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            raise OutboundFailed(type(error).__name__) from error

    async def _judged(self, url: str) -> _Target:
        asked = httpx.URL(url)
        if asked.scheme != "https" and not (self._allow_private and asked.scheme == "http"):
            raise AddressRefused("not https")
        # As it is written: `host` is decoded, and encoded anew by rules (IDNA 2003) that change the name.
        name = asked.raw_host.decode("ascii")
        if asked.userinfo or not name:
            raise AddressRefused("no host, or a user in the URL")
        port = asked.port or (443 if asked.scheme == "https" else 80)
        addresses = [ipaddress.ip_address(place) for place in await self._resolve(name, port)]
        # All of them: a name that also leads inside is not one that is meant for the public.
        if not addresses or not (self._allow_private or all(map(is_public, addresses))):
            raise AddressRefused("not a public address")
        place = asked.copy_with(host=str(addresses[0]), fragment=None)
        return _Target(place, asked.netloc.decode("ascii"), name)

    async def _send(
        self,
        method: str,
        target: _Target,
        headers: Mapping[str, str] | None,
        form: Mapping[str, str] | None,
        *,
        wants_body: bool,
    ) -> PublicAnswer:
        # Unpacked a short answer can be endless.
        sent = {**(headers or {}), "host": target.host_header, "accept-encoding": "identity"}
        body = b""
        async with self._client().stream(
            method, target.url, headers=sent, data=form, extensions={"sni_hostname": target.name}
        ) as answer:
            if wants_body:
                async for chunk in answer.aiter_raw(_CHUNK):
                    body += chunk
                    if len(body) > self._max_answer:
                        raise OutboundFailed("the answer is too long")
            return PublicAnswer(answer.status_code, answer.headers, body)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            self._http = httpx.AsyncClient(
                timeout=self._timeout,
                follow_redirects=False,
                trust_env=False,
                verify=self._tls or True,
                limits=httpx.Limits(max_keepalive_connections=0),
            )
        return self._http
