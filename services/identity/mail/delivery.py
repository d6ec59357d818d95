"""Delivery: what is queued is sent, by one process, and tried again until it is.

An event tells of each new mail, and a sweep finds what is due: mails to be tried again, and those of a
process that died with them. A mail is claimed by one UPDATE, so that of all processes one sends it. A process
that dies between handing a mail over and noting it makes the mail due again after its lease; it then goes out
under the same `Message-ID` and Resend `Idempotency-Key`, by which it is known to be the same. That is as much
"once" as SMTP allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import structlog
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import AppError
from chassis.events import DomainEvent, Event
from chassis.outbox import Outbox
from chassis.sealing import SealBroken, Sealer
from contracts import events
from contracts.clients import ClientDirectory
from services.identity.mail import store
from services.identity.mail.models import Letter, MailStatus, QueuedMail
from services.identity.mail.senders import MailNotSent, MailRefused, Sender
from services.identity.mail.service import row_name
from services.identity.mail.words import Words

log = structlog.get_logger()

MAILS = Counter("mails_total", "Mails, by kind and what became of them.", ["kind", "outcome"])

_LEASE = timedelta(minutes=1)
_FIRST_RETRY = timedelta(seconds=5)
_RETRY_FACTOR = 4
_MAX_ATTEMPTS = 6
_SWEEP_SECONDS = 2.0
_SWEEP_BATCH = 20
_AT_ONCE = 5
_KEPT = timedelta(days=30)
_PURGE_SECONDS = 3600.0


class Delivery:
    """Sends what the mailer queued."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        sealer: Sealer,
        clients: ClientDirectory,
        words: Words,
        sender: Sender,
    ) -> None:
        """Take the way out, and who puts mails into words."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._sealer = sealer
        self._clients = clients
        self._words = words
        self._sender = sender
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def on_queued(self, queued: Sequence[Event]) -> None:
        """Send the mails that events tell of; those that somebody has are left alone."""
        await asyncio.gather(*[self._claim_and_send(UUID(str(event.target_id))) for event in queued])

    async def sweep(self) -> None:
        """Send what is due, for ever; a job of the service."""
        while True:
            if not await self.round():
                await asyncio.sleep(_SWEEP_SECONDS)

    async def round(self) -> int:
        """Send some of what is due and return how many mails that was."""
        now = self._clock.now()
        async with self._db.platform() as tx:
            due = await store.claim_due(tx, now, now + _LEASE, _SWEEP_BATCH)
        await asyncio.gather(*[self._send(mail) for mail in due])
        return len(due)

    async def purge(self) -> None:
        """Forget mails of long ago, for ever; a job of the service."""
        while True:
            async with self._db.platform() as tx:
                await store.purge(tx, self._clock.now() - _KEPT)
            await asyncio.sleep(_PURGE_SECONDS)

    async def start(self) -> None:
        """Open the way out."""
        await self._sender.start()

    async def stop(self) -> None:
        """Close it."""
        await self._sender.stop()

    async def _claim_and_send(self, mail_id: UUID) -> None:
        async with self._free:
            async with self._db.platform() as tx:
                mail = await store.claim(tx, mail_id, self._clock.now() + _LEASE)
            if mail is not None:
                await self._send(mail)

    async def _send(self, mail: QueuedMail) -> None:
        try:
            letter = self._open(mail)
            client = await self._clients.get(mail.client_id)
            await self._sender.send(self._words.message(mail, letter, client))
        except (MailRefused, SealBroken, ValueError) as error:
            await self._give_up(mail, str(error))
        except (MailNotSent, AppError) as error:
            if mail.attempts >= _MAX_ATTEMPTS:
                await self._give_up(mail, str(error))
                return
            log.warning("mail waits", mail_id=str(mail.id), attempts=mail.attempts, reason=str(error))
            MAILS.labels(mail.kind, "retried").inc()
            wait = _FIRST_RETRY * _RETRY_FACTOR ** (mail.attempts - 1)
            async with self._db.tenant(mail.client_id) as tx:
                await store.postpone(tx, mail.id, self._clock.now() + wait)
        else:
            sent = events.MailSent(target_id=mail.id, template=mail.kind, email_hash=mail.email_hash)
            await self._finish(mail, MailStatus.SENT, sent)

    def _open(self, mail: QueuedMail) -> Letter:
        letter = Letter.decode(self._sealer.open(mail.sealed, row_name(mail.id)))
        if letter.useful_until is not None and letter.useful_until <= self._clock.now():
            raise MailRefused("not useful any more")
        return letter

    async def _give_up(self, mail: QueuedMail, reason: str) -> None:
        log.error("mail not sent", mail_id=str(mail.id), kind=mail.kind, reason=reason)
        failed = events.MailFailed(
            target_id=mail.id, template=mail.kind, email_hash=mail.email_hash, reason=reason[:200]
        )
        await self._finish(mail, MailStatus.FAILED, failed)

    async def _finish(self, mail: QueuedMail, status: MailStatus, event: DomainEvent) -> None:
        async with self._db.tenant(mail.client_id) as tx:
            if await store.finish(tx, mail.id, status, self._clock.now()):
                await self._outbox.emit(tx, event, None, client_id=mail.client_id)
                tx.after_commit(MAILS.labels(mail.kind, status).inc)
