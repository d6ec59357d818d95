"""The keys that verify, by name, loaded when a token names them and kept for a minute.

There is a source for public keys and one for secrets, and the client's token mode decides which is asked: a
key of the one kind never meets a token of the other (RFC 8725 §3.1).
"""

from __future__ import annotations

import json
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import structlog
from authservice_validator import HmacKey, KeysUnavailable, TokenInvalid, VerificationKey
from authservice_validator.jose import ISSUER_KID_PREFIX
from authservice_validator.keys import read_jwk

from chassis.batching import Batcher
from chassis.bus import Bus
from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import Unavailable
from chassis.sealing import Sealer
from services.token.signing.algorithms import Algorithm
from services.token.signing.keyring import INVALIDATE, row_of
from services.token.validation import store
from services.token.validation.models import OwnedKey, StoredKey

log = structlog.get_logger()

_KID = re.compile(rf"(?:{re.escape(ISSUER_KID_PREFIX)})?[A-Za-z0-9_-]{{22}}")
_FRESH_SECONDS = 60.0
_STALE_SECONDS = 3600.0
_ABSENT_SECONDS = 2.0
_MAX_KEYS = 20_000
_MAX_ABSENT = 10_000

Load = Callable[[Sequence[str]], Awaitable[Sequence[OwnedKey | None]]]


class StoredKeys:
    """A `KeySource` of one kind of keys, of all clients.

    Look-ups of names are shared by the calls that wait; a name that nobody has is remembered for seconds,
    so that invented ones cost little. While PostgreSQL is away, what was known serves for up to an hour.
    """

    def __init__(self, algorithms: frozenset[str], load: Load, bus: Bus) -> None:
        """Take what is loaded, and the bus that tells of rotations."""
        self.algorithms = algorithms
        self.generation = 0
        self._batcher: Batcher[str, OwnedKey | None] = Batcher(load)
        self._known: OrderedDict[str, tuple[OwnedKey, float]] = OrderedDict()
        self._absent: OrderedDict[str, float] = OrderedDict()
        bus.on(INVALIDATE, self._on_change)

    def owner(self, kid: str) -> UUID | None:
        """Return the client of a key that has just verified something."""
        known = self._known.get(kid)
        return known[0].client_id if known else None

    def find(self, kid: str) -> VerificationKey | None:
        """Return the key when it is at hand and fresh."""
        known = self._known.get(kid)
        if known is None or time.monotonic() - known[1] > _FRESH_SECONDS:
            return None
        return known[0].key

    async def get(self, kid: str) -> VerificationKey:
        """Return the key, loading it where needed.

        Raises:
            TokenInvalid: there is no such key.
            KeysUnavailable: it is not known and PostgreSQL is away.
        """
        # What no key of ours can be called is not looked for.
        if not _KID.fullmatch(kid) or self._absent.get(kid, 0.0) > time.monotonic():
            raise TokenInvalid("there is no key of this name")
        try:
            found = await self._batcher.submit(kid)
        except Unavailable as error:
            return self._stale(kid, error)
        if found is None:
            self._known.pop(kid, None)
            self._remember_absent(kid)
            raise TokenInvalid("there is no key of this name")
        self._known[kid] = found, time.monotonic()
        self._known.move_to_end(kid)
        if len(self._known) > _MAX_KEYS:
            self._known.popitem(last=False)
        return found.key

    def _stale(self, kid: str, error: Unavailable) -> VerificationKey:
        known = self._known.get(kid)
        if known is None or time.monotonic() - known[1] > _STALE_SECONDS:
            raise KeysUnavailable("the keys cannot be loaded") from error
        return known[0].key

    def _remember_absent(self, kid: str) -> None:
        self._absent[kid] = time.monotonic() + _ABSENT_SECONDS
        if len(self._absent) > _MAX_ABSENT:
            self._absent.popitem(last=False)

    async def _on_change(self, text: str) -> None:
        """Drop what may have been replaced, and with it every remembered verification."""
        self.generation += 1
        self._absent.clear()
        for kid in [kid for kid, (found, _) in self._known.items() if text in ("", str(found.client_id))]:
            found, _ = self._known[kid]
            # Aged, not dropped: it must be read again, unless PostgreSQL is away.
            self._known[kid] = found, time.monotonic() - _FRESH_SECONDS - 1


def public_keys(db: Database, bus: Bus, clock: Clock) -> StoredKeys:
    """Return the source of all clients' public keys."""

    async def load(kids: Sequence[str]) -> Sequence[OwnedKey | None]:
        async with db.platform() as tx:
            rows = await store.public_keys(tx, kids, clock.now())
        return _in_order(kids, [OwnedKey(row.client_id, read_jwk(json.loads(row.material))) for row in rows])

    return StoredKeys(frozenset({"RS256", "ES256", "EdDSA"}), load, bus)


def secrets(db: Database, bus: Bus, sealer: Sealer) -> StoredKeys:
    """Return the source of all clients' JWT secrets."""

    def opened(row: StoredKey) -> OwnedKey:
        sealed = row.material.encode() if isinstance(row.material, str) else row.material
        secret = HmacKey(sealer.open(sealed, row_of(Algorithm.HS256, row.kid)), kid=row.kid).find(row.kid)
        if secret is None:
            raise LookupError("a secret does not go by its own name")
        return OwnedKey(row.client_id, secret)

    async def load(kids: Sequence[str]) -> Sequence[OwnedKey | None]:
        async with db.platform() as tx:
            rows = await store.secrets(tx, kids)
        return _in_order(kids, [opened(row) for row in rows])

    return StoredKeys(frozenset({"HS256"}), load, bus)


def _in_order(kids: Sequence[str], found: Sequence[OwnedKey]) -> list[OwnedKey | None]:
    by_name = {owned.key.kid: owned for owned in found}
    return [by_name.get(kid) for kid in kids]
