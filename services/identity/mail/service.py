"""The mailer: where every slice says that a user is to get a mail."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Tx
from chassis.ids import new_id
from chassis.one_time import FeatureUnavailable
from chassis.outbox import Outbox
from chassis.sealing import Sealer
from contracts import events
from services.identity.mail import store
from services.identity.mail.models import Letter, MailKind
from services.identity.users.email import Email, EmailHasher
from services.identity.users.models import User

_OWN_TRY = timedelta(seconds=15)
"""How long the event that tells of a new mail has before the sweep looks after it."""


class Mailer:
    """Queues mails. What it queues is sent once the transaction has committed, and not at all otherwise."""

    def __init__(
        self, outbox: Outbox, clock: Clock, sealer: Sealer, emails: EmailHasher, *, is_on: bool
    ) -> None:
        """Take what a mail is sealed by; `is_on` says whether there is a way to send any."""
        self._outbox = outbox
        self._clock = clock
        self._sealer = sealer
        self._emails = emails
        self.is_on = is_on

    def require(self) -> None:
        """Check that mail can be sent, for features that are nothing without it.

        Raises:
            FeatureUnavailable: no way to send mail is configured.
        """
        if not self.is_on:
            raise FeatureUnavailable("Mail is not set up here.")

    async def send(
        self,
        tx: Tx,
        caller: CallerContext | None,
        user: User,
        kind: MailKind,
        variables: Mapping[str, str],
        *,
        to: str | None = None,
        useful_until: datetime | None = None,
    ) -> None:
        """Queue a mail to a user of the transaction's client, in the user's language.

        `variables` are the values that the kind's words name (`link`, `minutes`, …; see `catalogue/en.json`).
        It goes to the user's address unless another is given. A mail that cannot be sent before
        `useful_until` is not sent at all. Without a way to send mail nothing happens.
        """
        letter = Letter(to or user.email, user.locale, variables, useful_until)
        await self.send_to(tx, caller, user.client_id, letter, kind)

    async def send_to(
        self, tx: Tx, caller: CallerContext | None, client_id: UUID, letter: Letter, kind: MailKind
    ) -> None:
        """Queue a mail to somebody who need not be a user."""
        if not self.is_on:
            return
        now = self._clock.now()
        mail_id = new_id()
        email_hash = self._emails.hash(Email.parse(letter.recipient)).hex()
        sealed = self._sealer.seal(letter.encode(), row_name(mail_id))
        await store.insert(tx, mail_id, kind, sealed, email_hash, now=now, due_at=now + _OWN_TRY)
        queued = events.MailQueued(target_id=mail_id, template=kind, email_hash=email_hash)
        await self._outbox.emit(tx, queued, caller, client_id=client_id)


def row_name(mail_id: UUID) -> str:
    """Return what the sealed words of a mail are bound to."""
    return f"mail:{mail_id}"
