"""What follows when somebody has shown that they read a user's mail."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Tx
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from services.identity.sessions.duties import SessionDuties
from services.identity.sessions.models import Duty, DutyKind
from services.identity.users import store as users
from services.identity.users.models import User


class Credentials(Protocol):
    """A kind of credential that may have been planted in an account before its owner came."""

    async def __call__(self, tx: Tx, user: User) -> None:
        """Delete what the user has of it."""
        ...


class MailboxProofs:
    """Marks addresses as verified, and takes accounts back from whoever was there before the owner."""

    def __init__(
        self, outbox: Outbox, clock: Clock, duties: SessionDuties, void_unproven: Sequence[Credentials]
    ) -> None:
        """Take the kinds of credentials that are void when an account is taken back."""
        self._outbox = outbox
        self._clock = clock
        self._duties = duties
        self._void_unproven = void_unproven

    async def verify(self, tx: Tx, caller: CallerContext, user: User) -> tuple[User, list[Duty]]:
        """Note that the user's address is its own; what it set up before stays."""
        verified = await users.mark_verified(tx, user.id, self._clock.now())
        if verified is None:
            return user, []
        await self._emit(tx, caller, verified, was_taken_back=False)
        return verified, [await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=verified)]

    async def take_back(self, tx: Tx, caller: CallerContext, user: User) -> tuple[User, list[Duty]]:
        """Note that the user's address is its own, and void every credential of before, where it was not yet.

        Anybody can sign up with an address that is not theirs and wait for its owner to come ("account
        pre-hijacking", Sudhodanan and Paverd, USENIX Security 2022). The owner who comes by mail must not
        share the account with them: password, second factors, passkeys, trusted devices and sessions go. The
        duties are to be fulfilled before a session is opened, because one of them ends all there are.
        """
        taken = await users.take_back(tx, user.id, self._clock.now())
        if taken is None:
            return user, []
        for void in self._void_unproven:
            await void(tx, taken)
        await self._emit(tx, caller, taken, was_taken_back=True)
        put = await self._duties.owe(tx, DutyKind.PUT_USER, caller, of=taken)
        if user.last_login_at is None:
            return taken, [put]
        end = await self._duties.owe(tx, DutyKind.END_SESSIONS, caller, reason="mailbox_proven", of=taken)
        return taken, [end, put]

    async def _emit(self, tx: Tx, caller: CallerContext, user: User, *, was_taken_back: bool) -> None:
        event = events.EmailVerified(target_id=user.id, was_taken_back=was_taken_back)
        await self._outbox.emit(tx, event, caller, actor=Actor(ActorType.USER, str(user.id)))
