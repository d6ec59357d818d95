"""Adding, changing and removing admins, never beyond one's own rights. Knows no HTTP and no SQL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from chassis.bus import Bus
from chassis.clock import Clock
from chassis.context import ALL, CallerContext
from chassis.database import Database, Tx
from chassis.errors import Unauthenticated
from chassis.ids import new_id
from chassis.outbox import Outbox
from chassis.paging import Cursors
from contracts import events
from contracts.admin_directory import INVALIDATE
from contracts.admin_roles import Role
from services.identity.admins import store
from services.identity.admins.models import Admin, AdminStatus, SsoIdentity
from services.identity.admins.rights import EVERYTHING, Rights
from services.identity.errors import AdminExists, AdminNotFound, LastOwner, RightsTooNarrow
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.policy import PasswordPolicy
from services.identity.users.email import Email


@dataclass(frozen=True, slots=True)
class NewAdmin:
    """What is given of a new admin."""

    email: str
    display_name: str
    password: str | None
    roles: tuple[Role, ...]
    scopes: tuple[str, ...]
    mfa_required: bool
    sso: SsoIdentity | None


@dataclass(frozen=True, slots=True)
class AdminChange:
    """What is to change: the members of `fields`, and no others; `password` and `reset_mfa` where given."""

    fields: dict[str, Any]
    password: str | None = None
    reset_mfa: bool = False


class AdminService:
    """The rules of admins."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        bus: Bus,
        clock: Clock,
        *,
        hasher: PasswordHasher,
        policy: PasswordPolicy,
        cursors: Cursors,
    ) -> None:
        """Take the parts, all built in `app.py`."""
        self._db = db
        self._outbox = outbox
        self._bus = bus
        self._clock = clock
        self._hasher = hasher
        self._policy = policy
        self._cursors = cursors

    async def page(
        self, caller: CallerContext, *, limit: int, cursor: str | None
    ) -> tuple[list[Admin], str | None]:
        """Return one page of the admins in the caller's scope, the newest first, and the next one's cursor.

        Raises:
            InvalidCursor: the cursor is not one of this list.
        """
        within = None if caller.client_scope is None else sorted(caller.admin_scopes)
        scope = f"admins|{within}"
        before = UUID(str(self._cursors.read(cursor, scope)[0])) if cursor else None
        async with self._db.platform() as tx:
            found = await store.page(tx, within=within, before=before, limit=limit + 1)
        shown = found[:limit]
        more = len(found) > limit
        return shown, self._cursors.make([str(shown[-1].id)], scope) if more else None

    async def get(self, caller: CallerContext, admin_id: UUID) -> Admin:
        """Return an admin in the caller's scope.

        Raises:
            AdminNotFound: there is none.
        """
        async with self._db.platform() as tx:
            return await self._seen(tx, await self._rights(tx, caller), admin_id)

    async def create(self, caller: CallerContext, new: NewAdmin) -> Admin:
        """Add an admin.

        Raises:
            InvalidEmail, WeakPassword: a rule is broken.
            RightsTooNarrow: it would have rights that the caller has not.
            AdminExists: another one has its address or its identity at a provider.
        """
        email = Email.parse(new.email)
        now = self._clock.now()
        admin = Admin(
            id=new_id(),
            email=email.address,
            email_normalized=email.normalized,
            display_name=new.display_name,
            password_hash=await self._hash(new.password, email, new.display_name),
            roles=new.roles,
            scopes=new.scopes,
            status=AdminStatus.ACTIVE,
            mfa_required=new.mfa_required,
            totp_secret=None,
            totp_pending=None,
            sso=new.sso,
            token_epoch=0,
            created_at=now,
            updated_at=now,
            last_login_at=None,
        )
        async with self._db.platform() as tx:
            await store.serialize(tx)
            if not (await self._rights(tx, caller)).covers(_rights_of(admin)):
                raise RightsTooNarrow
            if not await store.insert(tx, admin):
                raise AdminExists
            created = events.AdminCreated(target_id=admin.id, after=admin.for_audit())
            await self._outbox.emit(tx, created, caller)
        return admin

    async def change(self, caller: CallerContext, admin_id: UUID, change: AdminChange) -> Admin:
        """Change an admin; its tokens follow from the moment this returns.

        A new password, or a second factor that was taken away, ends its logins.

        Raises:
            AdminNotFound: there is none in the caller's scope.
            RightsTooNarrow: it has, or would have, rights that the caller has not.
            LastOwner: nobody would own the installation any more.
            AdminExists: another one has its identity at a provider.
            WeakPassword: the new password breaks the policy.
        """
        known = await self.get(caller, admin_id)
        name = change.fields.get("display_name", known.display_name)
        new_hash = await self._hash(change.password, Email(known.email, known.email_normalized), name)
        async with self._db.platform() as tx:
            await store.serialize(tx)
            rights = await self._rights(tx, caller)
            before = await self._seen(tx, rights, admin_id, is_to_change=True)
            after = self._changed(before, change, new_hash)
            if not (rights.covers(_rights_of(before)) and rights.covers(_rights_of(after))):
                raise RightsTooNarrow
            await self._keep_an_owner(tx, before, after)
            if after.sso and await store.is_sso_taken(tx, after.sso, by_other_than=admin_id):
                raise AdminExists
            await store.update(tx, after)
            await self._outbox.emit(tx, _updated(before, after, change), caller)
        await self._bus.tell_all(INVALIDATE, str(admin_id))
        return after

    async def delete(self, caller: CallerContext, admin_id: UUID) -> None:
        """Remove an admin; its tokens are dead when this returns.

        Raises:
            AdminNotFound, RightsTooNarrow, LastOwner: as `change`.
        """
        async with self._db.platform() as tx:
            await store.serialize(tx)
            rights = await self._rights(tx, caller)
            before = await self._seen(tx, rights, admin_id, is_to_change=True)
            if not rights.covers(_rights_of(before)):
                raise RightsTooNarrow
            await self._keep_an_owner(tx, before, None)
            await store.delete(tx, admin_id)
            deleted = events.AdminDeleted(target_id=admin_id, before=before.for_audit())
            await self._outbox.emit(tx, deleted, caller)
        await self._bus.tell_all(INVALIDATE, str(admin_id))

    async def _rights(self, tx: Tx, caller: CallerContext) -> Rights:
        """Return the caller's rights as they are stored now: those it came with may be seconds old."""
        if caller.is_break_glass:
            return EVERYTHING
        admin = await store.find(tx, caller.admin_id) if caller.admin_id else None
        if admin is None or not admin.is_active:
            raise Unauthenticated
        return _rights_of(admin)

    async def _seen(self, tx: Tx, rights: Rights, admin_id: UUID, *, is_to_change: bool = False) -> Admin:
        admin = await (store.lock if is_to_change else store.find)(tx, admin_id)
        if admin is None or not rights.sees(_rights_of(admin)):
            raise AdminNotFound
        return admin

    async def _hash(self, password: str | None, email: Email, display_name: str) -> str | None:
        if password is None:
            return None
        self._policy.check(password, email=email, display_name=display_name, field="password")
        return await self._hasher.hash(password)

    def _changed(self, before: Admin, change: AdminChange, new_hash: str | None) -> Admin:
        after = replace(before, **change.fields)
        if new_hash is not None:
            after = replace(after, password_hash=new_hash)
        if change.reset_mfa:
            after = replace(after, totp_secret=None, totp_pending=None)
        ends = new_hash is not None or change.reset_mfa or (before.is_active and not after.is_active)
        return replace(after, token_epoch=before.token_epoch + int(ends), updated_at=self._clock.now())

    async def _keep_an_owner(self, tx: Tx, before: Admin, after: Admin | None) -> None:
        is_owner_after = after is not None and _owns(after)
        if _owns(before) and not is_owner_after and not await store.has_owner_beside(tx, before.id):
            raise LastOwner


def _owns(admin: Admin) -> bool:
    return admin.is_active and Role.OWNER in admin.roles and ALL in admin.scopes


def _rights_of(admin: Admin) -> Rights:
    return Rights.of(admin.roles, admin.scopes)


def _updated(before: Admin, after: Admin, change: AdminChange) -> events.AdminUpdated:
    """Show what changed; of a password and of secrets only that they did."""
    shown_before, shown_after = before.for_audit(), after.for_audit()
    differing = {name for name in shown_after if shown_before[name] != shown_after[name]}
    changed = {"sso_identity" if name == "sso" else name for name in change.fields}
    changed |= {"password"} if change.password else set()
    changed |= {"mfa"} if change.reset_mfa else set()
    return events.AdminUpdated(
        target_id=after.id,
        changed=tuple(sorted(changed)),
        before={name: shown_before[name] for name in sorted(differing)},
        after={name: shown_after[name] for name in sorted(differing)},
    )
