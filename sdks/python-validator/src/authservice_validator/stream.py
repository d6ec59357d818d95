"""Follows the issuer's stream of revocations, so that a revoked token is refused within a second.

    stream = RevocationStream("https://auth.example.com", api_key="ask_…")
    verifier = TokenVerifier(keys, issuer=..., revocations=stream)
    async with stream:  # returns once everything in force is known
        ...

Needs the extra `authservice-validator[stream]`.
"""

import asyncio
import codecs
import logging
import math
import random
import re
import ssl
import time
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

import httpx

from authservice_validator.claims import VerifiedClaims
from authservice_validator.errors import RevocationsUnavailable, TokenInvalid
from authservice_validator.fetch import check_url
from authservice_validator.jose import read_object
from authservice_validator.revocation import RevocationSet

log = logging.getLogger(__name__)

PATH: Final = "/api/revocations/stream"

_FIRST_RETRY_SECONDS: Final = 0.25
_LONGEST_RETRY_SECONDS: Final = 5.0
_FORGET_SECONDS: Final = 60.0
_MAX_EVENT_LENGTH: Final = 64 * 1024
_KEY_REFUSED: Final = (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN)
_LINE_END: Final = re.compile("\r\n|\n|\r")


class ReaderState(StrEnum):
    """How much one connection has told."""

    LOADING = "loading"
    CURRENT = "current"
    BROKEN = "broken"


class RevocationReader:
    """Reads `text/event-stream` (WHATWG HTML §9.2.6), in pieces of any size, into a set of revocations.

    `state` is `loading` until all that was in force has come, then `current`; `broken` for good once
    something came that cannot be read, for it may have named any token. What comes after still counts.
    """

    def __init__(self, revocations: RevocationSet) -> None:
        self.state = ReaderState.LOADING
        self._revocations = revocations
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._line = ""
        self._is_after_cr = False
        self._name = ""
        self._data: list[str] = []
        self._length = 0

    def feed(self, data: bytes) -> None:
        """Take what came.

        Raises:
            ValueError: an event is too large.
        """
        text = self._decoder.decode(data)
        if self._is_after_cr and text.startswith("\n"):
            # CR LF is one end of a line, also when the two come in different pieces.
            text, self._is_after_cr = text[1:], False
        if not text:
            return
        self._is_after_cr = text.endswith("\r")
        *lines, self._line = _LINE_END.split(self._line + text)
        for line in lines:
            self._take(line)
        if len(self._line) + self._length > _MAX_EVENT_LENGTH:
            raise ValueError("an event of the stream is too large")

    def _take(self, line: str) -> None:
        if not line:
            self._dispatch()
            return
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            self._name = value
        elif field == "data":
            self._data.append(value)
            self._length += len(value)

    def _dispatch(self) -> None:
        name, data = self._name, "\n".join(self._data)
        self._name, self._data, self._length = "", [], 0
        if name == "synced" and self.state is ReaderState.LOADING:
            self.state = ReaderState.CURRENT
        elif name == "revocation":
            try:
                self._revocations.add(*_read(data))
            except ValueError:
                self.state = ReaderState.BROKEN


def _read(data: str) -> tuple[str, str, float, float]:
    try:
        message = read_object(data.encode())
    except TokenInvalid as error:
        raise ValueError("a revocation is not a JSON object") from error
    kind, ref = message.get("kind"), message.get("ref")
    if not isinstance(kind, str) or not isinstance(ref, str) or not ref:
        raise ValueError("a revocation names nothing")
    return kind, ref, _time(message.get("at")), _time(message.get("expires_at"))


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a time of a revocation is not a number")
    return float(value)


class RevocationStream:
    """Keeps a `RevocationSet` up to date from `GET /api/revocations/stream`, and connects again for ever.

    Give it to `TokenVerifier` as `revocations`. Until everything in force has come once, and again after the
    issuer refused the key (401, 403) or said something that this version cannot read, nobody knows which
    tokens are dead, and verifying raises `RevocationsUnavailable`. While the issuer is away what is known
    goes on being enforced, for at most `refuse_after` of silence where that is given. For one event loop at
    a time.

    Args:
        issuer: AuthService's address: https, or http on loopback.
        api_key: a secret key (`ask_…`) of the tenant whose tokens are checked.
        revocations: the set to fill; by default one of its own.
        refuse_after: after so much silence no token is accepted any more; None goes on for ever.
        silence: a connection that says nothing for so long is dead; the issuer says something each second.
        tls: TLS context, for a private certificate authority.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        issuer: str,
        *,
        api_key: str,
        revocations: RevocationSet | None = None,
        refuse_after: timedelta | None = None,
        silence: timedelta = timedelta(seconds=3),
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not api_key:
            raise ValueError("the stream needs a secret API key")
        self._url = issuer.rstrip("/") + PATH
        # A proxy from the environment is for the world outside, never for this machine.
        is_outside = check_url(self._url)
        self._client = httpx.AsyncClient(
            verify=tls or True,
            trust_env=is_outside,
            timeout=httpx.Timeout(silence.total_seconds()),
            headers={"accept": "text/event-stream", "accept-encoding": "identity", "x-api-key": api_key},
        )
        self.revocations = revocations if revocations is not None else RevocationSet()
        self.last_error: Exception | None = None
        self._refuse_after = math.inf if refuse_after is None else refuse_after.total_seconds()
        self._clock = clock
        self._is_complete = False
        self._heard_at = -math.inf
        self._forget_at = -math.inf
        self._synced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def is_synced(self) -> bool:
        """Whether all revocations in force are known, as of the last sign of life."""
        return self._is_complete and self._clock() - self._heard_at <= self._refuse_after

    def require_synced(self) -> None:
        """Refuse while it is not known which tokens are dead.

        Raises:
            RevocationsUnavailable: it is not; `last_error` says why, for your log.
        """
        if not self.is_synced:
            raise RevocationsUnavailable("which tokens were revoked is not known")

    def is_revoked(self, claims: VerifiedClaims) -> bool:
        """Whether a revocation in force names this token.

        Raises:
            RevocationsUnavailable: nobody knows.
        """
        self.require_synced()
        return self.revocations.is_revoked(claims)

    async def start(self) -> None:
        """Begin to follow, and return once everything in force is known: put a timeout around it."""
        if self._task is None:
            self._task = asyncio.create_task(self._follow(), name="authservice-revocations")
        await self._synced.wait()

    async def aclose(self) -> None:
        """Stop following. What is known stays in force."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        """As `start`."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """As `aclose`."""
        await self.aclose()

    async def _follow(self) -> None:
        pause = _FIRST_RETRY_SECONDS
        while True:
            began = self._clock()
            try:
                await self._connect()
            except (httpx.HTTPError, ValueError) as error:
                self.last_error = error
                log.warning("the stream of revocations was lost: %s", error)
            # A connection that lived was good: begin anew at once. Otherwise ever slower, not all in step.
            lived = self._clock() - began > _LONGEST_RETRY_SECONDS
            pause = _FIRST_RETRY_SECONDS if lived else min(2 * pause, _LONGEST_RETRY_SECONDS)
            await asyncio.sleep(pause / 2 * (1 + random.random()))  # noqa: S311 - spreads load, hides nothing

    async def _connect(self) -> None:
        """Follow one connection to its end.

        Raises:
            httpx.HTTPError: it could not be made, broke off, or fell silent.
            ValueError: the issuer refused it, ended it, or said what cannot be read.
        """
        async with self._client.stream("GET", self._url) as response:
            if response.status_code in _KEY_REFUSED:
                # Nobody tells this key any more what is revoked: what is known is not all.
                self._is_complete = False
            if response.status_code != httpx.codes.OK:
                raise ValueError(f"the issuer answered {response.status_code}")
            reader = RevocationReader(self.revocations)
            async for data in response.aiter_raw():
                reader.feed(data)
                self._note(reader.state)
        raise ValueError("the stream ended")

    def _note(self, state: ReaderState) -> None:
        now = self._clock()
        if state is ReaderState.BROKEN:
            # Only a stream that brings everything without it helps: perhaps after an update of this package.
            self._is_complete = False
            raise ValueError("the stream said something that this version cannot read")
        if state is ReaderState.CURRENT:
            # Only from here on: a connection that has not said all yet says nothing about what is known.
            self._is_complete, self._heard_at = True, now
            self._synced.set()
        if now >= self._forget_at:
            self._forget_at = now + _FORGET_SECONDS
            self.revocations.forget_expired(time.time())
