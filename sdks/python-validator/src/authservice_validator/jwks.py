"""The issuer's public keys: loaded once, renewed before they go stale, out of an attacker's reach."""

import asyncio
import ssl
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from typing import Final

from authservice_validator.errors import KeysUnavailable, TokenInvalid
from authservice_validator.fetch import FetchedJwks, HttpJwksFetcher
from authservice_validator.keys import VerificationKey, read_jwks

JwksFetcher = Callable[[], Awaitable[Mapping[str, object] | FetchedJwks]]

_MAX_ABSENT_KIDS: Final = 1024
_LONGEST_RETRY_SECONDS: Final = 30.0
# Renewal starts after this part of the keys' life, so that traffic never waits for it.
_RENEW_AT: Final = 0.8


class JwksKeys:
    """Keys of an issuer in a JWKS mode: RS256, ES256 and EdDSA, each key bound to its own algorithm.

    * However many callers need keys at once, one fetch is made and all share it.
    * Keys are renewed in the background after four fifths of their `max-age`.
    * An unknown `kid` may be a new key: it is looked for at once, but no more than once per `cooldown`, and a
      name that was just looked for in vain is refused without asking. A flood of invented names costs the
      issuer one fetch per `cooldown`.
    * While the issuer is away, the last keys serve for `stale_for` more; after that verification raises
      `KeysUnavailable`. One bad answer (HTML, two keys of one name) counts as being away.

    For one event loop at a time.

    Args:
        source: the URL of the JWK set (https, or http on loopback), or your own async fetcher, which returns
            the document or `FetchedJwks`.
        timeout: for one fetch, whoever does it.
        max_age: how long keys are fresh when the answer does not say.
        longest_max_age: how much of the issuer's `max-age` is believed; a removed key lives no longer than
            this.
        stale_for: how long keys serve past their freshness while the issuer is away.
        cooldown: least time between two fetches for unknown names, and least freshness.
        absent_for: how long a name that the issuer does not have is remembered.
        tls: TLS context of the built-in fetcher, for a private certificate authority.
        clock: monotonic seconds.
    """

    algorithms: Final = frozenset({"RS256", "ES256", "EdDSA"})

    def __init__(
        self,
        source: str | JwksFetcher,
        *,
        timeout: timedelta = timedelta(seconds=5),
        max_age: timedelta = timedelta(minutes=5),
        longest_max_age: timedelta = timedelta(hours=1),
        stale_for: timedelta = timedelta(hours=1),
        cooldown: timedelta = timedelta(seconds=5),
        absent_for: timedelta = timedelta(seconds=30),
        tls: ssl.SSLContext | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fetch: JwksFetcher = (
            HttpJwksFetcher(source, timeout=timeout, tls=tls) if isinstance(source, str) else source
        )
        self._timeout = timeout.total_seconds()
        self._max_age = max_age
        self._longest_max_age = longest_max_age
        self._stale_for = stale_for.total_seconds()
        self._cooldown = cooldown.total_seconds()
        self._absent_for = absent_for.total_seconds()
        self._clock = clock

        self._keys: dict[str, VerificationKey] = {}
        self._generation = 0
        self._renew_at = self._fresh_until = self._usable_until = float("-inf")
        self._failures = 0
        self._retry_at = self._search_at = float("-inf")
        self._absent: OrderedDict[str, float] = OrderedDict()
        self._flight: asyncio.Task[bool] | None = None

    @property
    def generation(self) -> int:
        """Changes whenever a key is removed or replaced."""
        return self._generation

    def find(self, kid: str) -> VerificationKey | None:
        """The key of this name while the keys need no renewal; never waits."""
        return self._keys.get(kid) if self._clock() < self._renew_at else None

    async def get(self, kid: str) -> VerificationKey:
        """The key of this name, renewing or loading keys where due.

        Raises:
            TokenInvalid: the issuer has no such key.
            KeysUnavailable: there are no usable keys and none could be loaded.
        """
        await self._renew_when_due()
        key = self._keys.get(kid)
        return key if key is not None else await self._search(kid)

    async def refresh(self) -> None:
        """Load the keys now: to warm up before serving, or when the issuer announced a change.

        Raises:
            KeysUnavailable: they could not be loaded; what was known stays in use within its bounds.
        """
        if not await self._load():
            raise KeysUnavailable("the issuer's keys could not be loaded")

    async def aclose(self) -> None:
        """Stop a fetch that is under way. The keys stay usable."""
        flight, self._flight = self._flight, None
        if flight is not None and not flight.done():
            flight.cancel()
            await asyncio.wait([flight])

    async def _renew_when_due(self) -> None:
        now = self._clock()
        if now < self._renew_at:
            return
        may_try = now >= self._retry_at or self._running() is not None
        if now >= self._usable_until:
            if not (may_try and await self._load()):
                raise KeysUnavailable("the issuer's keys could not be loaded")
        elif may_try and now >= self._fresh_until and not self._failures:
            # Idle past freshness: look before believing old keys. Once the issuer is known to be away, nobody
            # waits.
            await self._load()
        elif may_try:
            self._start()

    async def _search(self, kid: str) -> VerificationKey:
        """Look for a key that is not among the known ones, within the budget for such searches."""
        now = self._clock()
        if self._absent.get(kid, now) > now:
            raise TokenInvalid("the issuer has no key of this name")
        # A fetch already under way may bring it; one that began before the key was published may not.
        if self._running() is not None and await self._load() and (key := self._keys.get(kid)) is not None:
            return key
        if self._clock() >= self._search_at:
            self._search_at = self._clock() + self._cooldown
            loaded = await self._load()
            if loaded and kid not in self._keys:
                self._remember_absent(kid)
        elif self._running() is not None:
            await self._load()
        if (key := self._keys.get(kid)) is not None:
            return key
        if self._failures:
            raise KeysUnavailable("the issuer could not be asked about an unknown key")
        raise TokenInvalid("the issuer has no key of this name")

    def _remember_absent(self, kid: str) -> None:
        self._absent[kid] = self._clock() + self._absent_for
        self._absent.move_to_end(kid)
        while len(self._absent) > _MAX_ABSENT_KIDS:
            self._absent.popitem(last=False)

    def _running(self) -> asyncio.Task[bool] | None:
        flight = self._flight
        # A flight of a loop that was closed never ends; it must not hold up the loop that came after.
        if flight is None or flight.done() or flight.get_loop() is not asyncio.get_running_loop():
            return None
        return flight

    def _start(self) -> asyncio.Task[bool]:
        flight = self._running()
        if flight is None:
            flight = self._flight = asyncio.create_task(self._fly(), name="authservice-jwks")
        return flight

    async def _load(self) -> bool:
        # Shielded: a caller who gives up must not take the fetch away from the others.
        return await asyncio.shield(self._start())

    async def _fly(self) -> bool:
        """Fetch once and take what came; whether it was usable. Never raises: nobody may be awaiting it."""
        try:
            async with asyncio.timeout(self._timeout):
                fetched = await self._fetch()
            if not isinstance(fetched, FetchedJwks):
                fetched = FetchedJwks(fetched)
            keys = read_jwks(fetched.document)
        except Exception:  # a fetcher of the user's may raise anything; all of it means: no keys now
            self._failures += 1
            self._retry_at = self._clock() + min(2.0 ** min(self._failures - 1, 10), _LONGEST_RETRY_SECONDS)
            return False
        self._take(keys, fetched.max_age)
        return True

    def _take(self, keys: dict[str, VerificationKey], max_age: timedelta | None) -> None:
        if any(keys.get(kid) != key for kid, key in self._keys.items()):
            self._generation += 1
        self._keys = keys
        now = self._clock()
        fresh = min(max_age if max_age is not None else self._max_age, self._longest_max_age).total_seconds()
        fresh = max(fresh, self._cooldown)
        self._renew_at = now + fresh * _RENEW_AT
        self._fresh_until = now + fresh
        self._usable_until = self._fresh_until + self._stale_for
        self._failures = 0
        self._retry_at = float("-inf")
