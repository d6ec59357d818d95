"""A user's own profile."""

from __future__ import annotations

from typing import Any

import structlog

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import AppError, FieldError, Unauthenticated, UnprocessableRequest
from chassis.outbox import Outbox
from contracts import events
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import DutyKind
from services.identity.users import store
from services.identity.users.fields import metadata_json
from services.identity.users.models import ProfileChange, User

log = structlog.get_logger()

_NULLABLE = frozenset({"locale", "phone"})


class ProfileService:
    """Reads and changes what users may write about themselves; never email, role or status."""

    def __init__(self, db: Database, outbox: Outbox, clock: Clock, duties: SessionDuties) -> None:
        """Take where users are kept, and who tells the token service."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._duties = duties

    async def get(self, caller: CallerContext) -> User:
        """Return the calling user.

        Raises:
            Unauthenticated: it does not exist any more, or is suspended.
        """
        async with self._db.tenant(caller.require_client()) as tx:
            user = await store.find(tx, caller.require_user())
        if user is None or not user.is_active:
            raise Unauthenticated
        return user

    async def change(self, caller: CallerContext, fields: dict[str, Any]) -> User:
        """Change the named fields (checked values of `users.fields`) and return the user.

        The token service is told before the answer, so that the next refresh shows the change; when it is
        away a job tells it later.

        Raises:
            UnprocessableRequest: no field is named, or one is null that cannot be.
            Unauthenticated: the user does not exist any more, or is suspended.
        """
        change = _change_of(fields)
        async with self._db.tenant(caller.require_client()) as tx:
            user = await store.change_profile(tx, caller.require_user(), change, self._clock.now())
            if user is None:
                raise Unauthenticated
            event = events.UserUpdated(target_id=user.id, changed=tuple(sorted(change.fields)))
            await self._outbox.emit(tx, event, caller)
            duty = await self._duties.owe(tx, DutyKind.PUT_USER, caller)
        try:
            await self._duties.fulfil(duty, caller)
        except AppError as error:
            log.warning("token service not told of a changed user", code=error.code)
        return user


def _change_of(fields: dict[str, Any]) -> ProfileChange:
    if not fields:
        raise UnprocessableRequest(
            "Name at least one of display_name, metadata, locale, phone.",
            errors=(FieldError("body", "empty", "No field to change is named."),),
        )
    missing = [name for name, value in fields.items() if value is None and name not in _NULLABLE]
    if missing:
        raise UnprocessableRequest(
            errors=tuple(FieldError(name, "null", "It cannot be null.") for name in missing)
        )
    metadata = fields.get("metadata")
    return ProfileChange(
        fields=frozenset(fields),
        display_name=fields.get("display_name"),
        metadata_json=metadata_json(metadata) if metadata is not None else None,
        locale=fields.get("locale"),
        phone=fields.get("phone"),
    )
