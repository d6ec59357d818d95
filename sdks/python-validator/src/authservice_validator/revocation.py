"""Revocations still in force, asked on every call."""

import heapq
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol

from authservice_validator.claims import VerifiedClaims

# A verifier accepts a token up to its leeway past `exp`, so an entry must outlive the tokens it names by as
# much.
MAX_LEEWAY_SECONDS: Final = 60

# Whose keys stand in every tenant's set.
_ISSUER: Final = "00000000-0000-0000-0000-000000000000"

# The last dead second, when it may be forgotten, and whose tokens it names (None: everybody's). A tenant that
# can sign chooses what stands in its tokens: what it revokes must not be another's that is called the same.
_Entry = tuple[int, float, frozenset[str] | None]


class RevocationKind(StrEnum):
    """What the id of a revocation names; the kinds of `auth.v1.Revocation`."""

    SESSION = "session"
    USER = "user"
    CLIENT = "client"
    TOKEN = "token"  # noqa: S105 - a word, not a secret
    KEY = "key"


class RevocationSet:
    """Knows which tokens were revoked before their time; asked in constant time.

    An entry kills every token that it names and that was issued at or before its `not_after`, in whole
    seconds: a token of the very second of the revocation is dead. Its size is bounded by time, not by number:
    an entry is dropped once the tokens it could name have expired by themselves, and never sooner, because
    forgetting one would revive them. Not safe for use from several threads at once.
    """

    __slots__ = ("_by_kind", "_clients", "_expiries", "_keys", "_sessions", "_size", "_tokens", "_users")

    def __init__(self) -> None:
        self._sessions: dict[str, _Entry] = {}
        self._users: dict[str, _Entry] = {}
        self._clients: dict[str, _Entry] = {}
        self._tokens: dict[str, _Entry] = {}
        self._keys: dict[str, _Entry] = {}
        self._by_kind = {
            RevocationKind.SESSION: self._sessions,
            RevocationKind.USER: self._users,
            RevocationKind.CLIENT: self._clients,
            RevocationKind.TOKEN: self._tokens,
            RevocationKind.KEY: self._keys,
        }
        self._expiries: list[tuple[float, RevocationKind, str]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(
        self,
        kind: RevocationKind | str,
        id: str,  # noqa: A002 - the field's name in `auth.v1.Revocation`
        not_after: datetime | float,
        expires_at: datetime | float,
        *,
        client_id: str | None = None,
    ) -> None:
        """Revoke what `id` names; a repeated or older message changes nothing, so any order will do.

        Args:
            kind: what `id` is; an unknown word is a ValueError, since ignoring it would leave tokens alive.
            id: session, user, tenant, token or key.
            not_after: tokens issued in this second or before are dead; aware time or Unix seconds.
            expires_at: when the last token it could name has expired; aware time or Unix seconds.
            client_id: the tenant whose tokens it names, where the set is of several; None for every tenant.
                A key of the issuer's own, whose id is nil, counts for every tenant.
        """
        kind = RevocationKind(kind)
        if kind is RevocationKind.KEY and client_id == _ISSUER:
            client_id = None
        entries = self._by_kind[kind]
        last_second, expiry = int(_seconds(not_after)), _seconds(expires_at) + MAX_LEEWAY_SECONDS
        owners = None if client_id is None else frozenset((client_id,))
        known = entries.get(id)
        if known is None:
            self._size += 1
        else:
            last_second, expiry = max(known[0], last_second), max(known[1], expiry)
            owners = None if owners is None or known[2] is None else owners | known[2]
        entries[id] = (last_second, expiry, owners)
        if known is None or expiry > known[1]:
            heapq.heappush(self._expiries, (expiry, kind, id))

    def is_revoked(self, claims: VerifiedClaims) -> bool:
        """Whether any entry in force names this token."""
        if not self._size:
            return False
        # Spelled out: this runs on every request, and a loop over five pairs costs three times as much.
        return (
            (bool(self._sessions) and _kills(self._sessions, claims.sid, claims))
            or (bool(self._users) and _kills(self._users, claims.sub, claims))
            or (bool(self._tokens) and _kills(self._tokens, claims.jti, claims))
            or (bool(self._clients) and _kills(self._clients, claims.client_id, claims))
            or (bool(self._keys) and _kills(self._keys, claims.kid, claims))
        )

    def forget_expired(self, now: float) -> int:
        """Drop the entries whose tokens have all expired; how many. Call it now and then.

        Args:
            now: Unix seconds.
        """
        dropped = 0
        while self._expiries and self._expiries[0][0] <= now:
            _, kind, name = heapq.heappop(self._expiries)
            entries = self._by_kind[kind]
            entry = entries.get(name)
            # An entry that was prolonged has a later line in the heap; this one is only its past.
            if entry is not None and entry[1] <= now:
                del entries[name]
                self._size -= 1
                dropped += 1
        return dropped


def _kills(entries: dict[str, _Entry], name: str | None, claims: VerifiedClaims) -> bool:
    entry = entries.get(name) if name is not None else None
    if entry is None or claims.iat > entry[0]:
        return False
    return entry[2] is None or claims.client_id in entry[2]


def _seconds(time: datetime | float) -> float:
    if isinstance(time, datetime):
        if time.tzinfo is None:
            raise ValueError("a revocation's time must be aware of its zone")
        return time.timestamp()
    return float(time)


class RevocationFeed(Protocol):
    """What fills a set and knows whether it is complete: a `RevocationStream`."""

    @property
    def revocations(self) -> RevocationSet:
        """The set that it fills."""
        ...

    def is_revoked(self, claims: VerifiedClaims) -> bool:
        """Whether this token was revoked; asked on every call.

        Raises:
            RevocationsUnavailable: nobody knows.
        """
        ...
