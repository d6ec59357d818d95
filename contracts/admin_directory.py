"""What an admin may do now, as the gateway asks identity: cached for seconds, dropped at once on change."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from uuid import UUID

from chassis.bus import Bus
from chassis.errors import AppError, Kind
from chassis.rpc import Channel
from contracts.admin_roles import permissions_of
from contracts.gen.internal.identity.v1 import admins_pb2
from contracts.gen.internal.identity.v1.admins_pb2_grpc import AdminDirectoryServiceStub

INVALIDATE = "invalidate.admin"
"""Plain subject; the text is the id of the admin that changed."""

_FRESH_SECONDS = 30.0
_MAX_ENTRIES = 2_000


@dataclass(frozen=True, slots=True)
class AdminRights:
    """An admin as it is now; tokens of an earlier epoch are dead."""

    id: UUID
    is_active: bool
    token_epoch: int
    permissions: tuple[str, ...]
    scopes: tuple[str, ...]


class AdminDirectory:
    """Looks admins up by id. Nothing stale is served: while identity is away, admins wait."""

    def __init__(self, channel: Channel, bus: Bus) -> None:
        """Take the way to identity, and the bus that tells of changes."""
        self._stub = AdminDirectoryServiceStub(channel.for_stubs)
        self._entries: OrderedDict[UUID, tuple[AdminRights, float]] = OrderedDict()
        self._generation = 0
        bus.on(INVALIDATE, self._drop)

    async def get(self, admin_id: UUID) -> AdminRights | None:
        """Return an admin, None when there is none.

        Raises:
            Unavailable: identity is away.
        """
        known = self._entries.get(admin_id)
        if known is not None and time.monotonic() - known[1] < _FRESH_SECONDS:
            return known[0]
        generation, asked_at = self._generation, time.monotonic()
        try:
            found = await self._stub.GetAdmin(admins_pb2.GetAdminRequest(admin_id=str(admin_id)))
        except AppError as error:
            if error.kind is Kind.NOT_FOUND:
                self._entries.pop(admin_id, None)
                return None
            raise
        rights = AdminRights(
            id=UUID(found.id),
            is_active=found.status == "active",
            token_epoch=found.token_epoch,
            permissions=tuple(sorted(permissions_of(found.roles))),
            scopes=tuple(found.scopes),
        )
        # An answer that was asked for before a change may be older than it: use it, but do not keep it.
        if generation == self._generation:
            self._entries[admin_id] = (rights, asked_at)
            if len(self._entries) > _MAX_ENTRIES:
                self._entries.popitem(last=False)
        return rights

    async def _drop(self, text: str) -> None:
        self._generation += 1
        if text:
            self._entries.pop(UUID(text), None)
        else:
            self._entries.clear()
