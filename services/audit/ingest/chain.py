"""The keyed hash chain: what one link covers, and how a head proves itself.

    hash(n) = HMAC-SHA256(key of the chain, hash(n - 1) | canonical text of row n)

The key is derived from the master key for each client, so whoever holds the database alone can rewrite rows
but not their hashes. Each row names the master key it was written under, and stays verifiable after that key
was replaced for as long as it is configured as a previous one.
"""

from __future__ import annotations

import hmac
import json
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from chassis.sealing import SealBroken, Sealer
from services.audit.errors import ChainKeyMissing
from services.audit.ingest.models import GENESIS, Head, Link, Record

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MAX_CACHED_KEYS = 10_000
_UNPROVEN = b""


class Chains:
    """Computes and checks links and heads. Reads no database."""

    def __init__(self, sealer: Sealer) -> None:
        """Take the master keys."""
        self._sealer = sealer
        self._keys: OrderedDict[tuple[str, UUID, bytes], bytes] = OrderedDict()

    def extend(self, head: Head, records: Iterable[Record]) -> tuple[list[Link], Head]:
        """Link the records behind the head, in order; return the links and the new head.

        A head that does not prove itself is extended too, since recording must go on, but the new one is
        unproven and says from which position on: signing it would hide that someone changed it.

        Raises:
            ChainKeyMissing: whether the head proves itself cannot be told here.
        """
        if not self.can_tell(head):
            raise ChainKeyMissing
        broken = head.broken_position
        if broken is None and not self.proves(head):
            broken = head.position + 1
        key_id = self._sealer.key_id
        key = self._key("audit-chain", head.client_id, key_id)
        position, previous, links = head.position, head.hash, []
        for record in records:
            position += 1
            previous = _digest(key, previous, record, position, key_id)
            links.append(Link(record, position, key_id, previous))
        grown = replace(head, position=position, hash=previous, broken_position=broken)
        return links, self.seal(grown)

    def follows(self, link: Link, previous: bytes, position: int | None = None) -> bytes:
        """Return the hash the link should have behind `previous`, at its own position or another.

        Raises:
            SealBroken: the master key it was written under is not configured.
        """
        key = self._key("audit-chain", link.record.client_id, link.key_id)
        return _digest(
            key, previous, link.record, link.position if position is None else position, link.key_id
        )

    def begin(self, client_id: UUID) -> Head:
        """Return the proven head of an empty chain."""
        return self.seal(Head(client_id, 0, GENESIS, 0, b"", b"", None))

    def seal(self, head: Head) -> Head:
        """Return the head with its proof; one that is broken gets none."""
        key_id = self._sealer.key_id
        named = replace(head, key_id=key_id)
        mac = _UNPROVEN if head.broken_position is not None else self._mac(named)
        return replace(named, mac=mac)

    @property
    def key_ids(self) -> frozenset[bytes]:
        """The names of the master keys that are configured."""
        return self._sealer.key_ids

    def can_tell(self, head: Head) -> bool:
        """Whether the key is configured that the head is proven under; a broken one needs none."""
        return head.broken_position is not None or head.key_id in self.key_ids

    def proves(self, head: Head) -> bool:
        """Tell whether the head is one that this service wrote, unbroken, under a key that is configured."""
        if head.broken_position is not None:
            return False
        try:
            return hmac.compare_digest(head.mac, self._mac(head))
        except SealBroken:
            return False

    def _mac(self, head: Head) -> bytes:
        text = json.dumps([str(head.client_id), head.position, head.hash.hex(), head.checkpoint_position])
        return hmac.digest(self._key("audit-head", head.client_id, head.key_id), text.encode(), "sha256")

    def _key(self, purpose: str, client_id: UUID, key_id: bytes) -> bytes:
        name = purpose, client_id, key_id
        key = self._keys.get(name)
        if key is None:
            key = self._sealer.derive(f"{purpose}:{client_id}", key_id)
            self._keys[name] = key
            if len(self._keys) > _MAX_CACHED_KEYS:
                self._keys.popitem(last=False)
        return key


def _digest(key: bytes, previous: bytes, record: Record, position: int, key_id: bytes) -> bytes:
    return hmac.digest(key, previous + canonical(record, position, key_id), "sha256")


def canonical(record: Record, position: int, key_id: bytes) -> bytes:
    """Return the text of a row that its hash covers: one JSON array, so that no two rows share a text.

    `previous` is always 32 bytes long, so putting the two together is unambiguous as well.
    """
    return json.dumps(
        [
            "audit-event-v1",
            str(record.client_id),
            position,
            str(record.event_id),
            record.type,
            record.service,
            _micros(record.occurred_at),
            _micros(record.recorded_at),
            record.actor_type,
            record.actor_id,
            record.target_type,
            record.target_id,
            str(record.session_id) if record.session_id else None,
            record.ip,
            record.user_agent,
            record.request_id,
            record.data,
            key_id.hex(),
        ],
        separators=(",", ":"),
        ensure_ascii=False,
    ).encode()


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND
