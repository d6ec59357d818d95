"""The rules of remembered devices: who is known again, who is trusted, and what ends trust.

A browser is known by a random token in an HttpOnly cookie, bound to one user of one client. Each login gives
it another one, so that a copy dies with the owner's next login; and a token that was replaced before ends the
trust of the device that it names, because somebody has a copy. Trust is also bound to the kind of browser, to
the user's `auth_epoch` (a changed password, a suspension) and to time.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.errors import NotFound
from chassis.ids import new_secret
from chassis.outbox import Outbox
from chassis.user_agents import device_names
from contracts import events
from contracts.clients import ClientDirectory
from contracts.security_policy import SecurityPolicy
from services.identity.devices import store
from services.identity.devices.models import Device, Seen
from services.identity.errors import DeviceTrustOff, MfaSessionRequired
from services.identity.users.email import Email
from services.identity.users.models import User

_TOKEN = re.compile(r"dev_([0-9a-f]{32})_[A-Za-z0-9_-]{43}")
_MAX_USER_AGENT = 512
_KEPT_UNTRUSTED = 20
_LISTED = 100
_KEPT = timedelta(days=400)
_PURGE_SECONDS = 86_400.0
_MFA = "mfa"

COPIES = Counter("device_copies_total", "Logins with a device token that was replaced before: a copy.")


class DeviceService:
    """Knows browsers again, and keeps the list that their owner manages."""

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, clients: ClientDirectory) -> None:
        """Take where devices are kept, and who knows how long they may be trusted."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients

    async def recognise(
        self, tx: Tx, caller: CallerContext, user: User, device_token: str | None
    ) -> Device | None:
        """Return the user's device behind the cookie of a login; trusted only for the browser that it was.

        A token that was replaced before is a copy: it is no device, and its device is not trusted any more.
        """
        device_id = device_of(device_token)
        if device_token is None or device_id is None:
            return None
        now = self._clock.now()
        found = await store.find_by_token(tx, user.id, device_id, token_hash(device_token), now)
        if found is None:
            return None
        device, is_present = found
        if not is_present:
            COPIES.inc()
            if device.trusted_until is not None:
                await store.trust(tx, device.id, None)
                copied = events.DeviceDistrusted(target_id=device.id, user_id=str(user.id), reason="copied")
                await self._outbox.emit(tx, copied, caller)
            return None
        if device.trusted_until is not None and not await _is_same_browser(device, caller):
            device = replace(device, trusted_until=None)
        return device

    async def id_at(self, tx: Tx, email: Email, device_token: str | None) -> UUID | None:
        """Return the id of the device that a login shows, before anything else is known of who logs in."""
        device_id = device_of(device_token)
        if device_token is None or device_id is None:
            return None
        is_known = await store.is_at(tx, email.normalized, device_id, token_hash(device_token))
        return device_id if is_known else None

    async def remember(
        self,
        tx: Tx,
        caller: CallerContext,
        user: User,
        device_id: UUID,
        *,
        session_id: UUID,
        trust_days: int,
    ) -> str:
        """Give the device of a login, known or new, its next token and return that.

        `trust_days` trusts it anew for as long; 0 leaves its trust as it is.
        """
        token, now = new_secret(f"dev_{device_id.hex}_"), self._clock.now()
        seen = Seen(
            device_id=device_id,
            token_hash=token_hash(token),
            user_agent=caller.user_agent[:_MAX_USER_AGENT],
            ip=caller.ip,
            session_id=session_id,
            now=now,
            trusted_until=now + timedelta(days=trust_days) if trust_days else None,
        )
        await store.see(tx, user.id, seen, _KEPT_UNTRUSTED)
        if trust_days:
            trusted = events.DeviceTrusted(target_id=device_id, user_id=str(user.id), days=trust_days)
            await self._outbox.emit(tx, trusted, caller)
        return token

    async def listed(self, caller: CallerContext) -> list[tuple[Device, str]]:
        """Return the calling user's devices, the last seen first, each with the name it goes by."""
        async with self._db.tenant(caller.require_client()) as tx:
            found = await store.find_all(tx, caller.require_user(), self._clock.now(), _LISTED)
        parsed = await device_names(device.user_agent for device in found)
        return [(device, device.name or name) for device, name in zip(found, parsed, strict=True)]

    async def change(
        self,
        caller: CallerContext,
        device_id: UUID,
        *,
        fields: frozenset[str],
        name: str | None,
        trusted: bool,
    ) -> tuple[Device, str]:
        """Rename, trust or distrust one of the calling user's devices: what is named in `fields`.

        Raises:
            NotFound: the user has no such device.
            MfaSessionRequired: only who has just shown a second factor may say where none is needed.
            DeviceTrustOff: the client's policy trusts no devices.
        """
        client_id, user_id = caller.require_client(), caller.require_user()
        days = 0
        if "trusted" in fields and trusted:
            if _MFA not in caller.amr:
                raise MfaSessionRequired
            days = SecurityPolicy.of((await self._clients.get(client_id)).settings).mfa.remember_device_days
            if not days:
                raise DeviceTrustOff
        now = self._clock.now()
        async with self._db.tenant(client_id) as tx:
            if await store.find(tx, user_id, device_id, now) is None:
                raise NotFound("You have no such device.")
            if "name" in fields:
                await store.rename(tx, device_id, name)
            if "trusted" in fields:
                await store.trust(tx, device_id, now + timedelta(days=days) if trusted else None)
                event = (
                    events.DeviceTrusted(target_id=device_id, user_id=str(user_id), days=days)
                    if trusted
                    else events.DeviceDistrusted(target_id=device_id, user_id=str(user_id), reason="by_owner")
                )
                await self._outbox.emit(tx, event, caller)
            device = await store.find(tx, user_id, device_id, now)
        if device is None:
            raise NotFound("You have no such device.")
        (parsed,) = await device_names([device.user_agent])
        return device, device.name or parsed

    async def forget(self, caller: CallerContext, device_id: UUID) -> None:
        """Forget one of the calling user's devices: its next login is one from a new device.

        Raises:
            NotFound: the user has no such device.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            if not await store.delete(tx, caller.require_user(), device_id):
                raise NotFound("You have no such device.")
            removed = events.DeviceRemoved(target_id=device_id, user_id=str(caller.require_user()))
            await self._outbox.emit(tx, removed, caller)

    async def purge(self) -> None:
        """Forget devices that nobody has used for as long as a browser keeps the cookie; a job."""
        while True:
            async with self._db.platform() as tx:
                await store.purge(tx, self._clock.now() - _KEPT)
            await asyncio.sleep(_PURGE_SECONDS)


def token_hash(device_token: str) -> bytes:
    """Return what is stored of a token of 256 random bits."""
    return hashlib.sha256(device_token.encode("utf-8", "surrogatepass")).digest()


def device_of(device_token: str | None) -> UUID | None:
    """Return the device that a token names, unchecked; None for what is no token."""
    match = _TOKEN.fullmatch(device_token) if device_token else None
    return UUID(match[1]) if match else None


async def _is_same_browser(device: Device, caller: CallerContext) -> bool:
    """Whether a user agent is of the same browser and system, in whatever version."""
    if caller.user_agent[:_MAX_USER_AGENT] == device.user_agent:
        return True
    before, now = await device_names([device.user_agent, caller.user_agent])
    return before == now != "Unknown device"
