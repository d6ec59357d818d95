"""Every statement on mails."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Tx
from services.identity.mail.models import InboxMail, MailKind, Message, QueuedMail


async def insert(
    tx: Tx, mail_id: UUID, kind: MailKind, sealed: bytes, email_hash: str, *, now: datetime, due_at: datetime
) -> None:
    """Queue a mail of the current client; the sweep takes it from `due_at` on."""
    await tx.execute(
        """
        INSERT INTO mails (id, client_id, kind, sealed, email_hash, due_at, created_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6)
        """,
        mail_id,
        kind,
        sealed,
        email_hash,
        due_at,
        now,
    )


async def claim(tx: Tx, mail_id: UUID, lease_until: datetime) -> QueuedMail | None:
    """Take a new mail for this process; None when another has it, or had it."""
    row = await tx.fetchrow(
        """
        UPDATE mails SET status = 'sending', attempts = attempts + 1, due_at = $2
        WHERE id = $1 AND status = 'queued' AND attempts = 0
        RETURNING id, client_id, kind, sealed, email_hash, attempts
        """,
        mail_id,
        lease_until,
    )
    return QueuedMail(**{**row, "kind": MailKind(row["kind"])}) if row else None


async def claim_due(tx: Tx, now: datetime, lease_until: datetime, limit: int) -> list[QueuedMail]:
    """Take mails whose time has come: to be tried again, or left behind by a process that died."""
    rows = await tx.fetch(
        """
        UPDATE mails SET status = 'sending', attempts = attempts + 1, due_at = $2
        WHERE id IN (
            SELECT id FROM mails WHERE status IN ('queued', 'sending') AND due_at <= $1
            ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
        )
        RETURNING id, client_id, kind, sealed, email_hash, attempts
        """,
        now,
        lease_until,
        limit,
    )
    return [QueuedMail(**{**row, "kind": MailKind(row["kind"])}) for row in rows]


async def finish(tx: Tx, mail_id: UUID, status: str, now: datetime) -> bool:
    """Note that a mail was sent or given up, and forget what it said; false when that was noted before."""
    finished = await tx.fetchval(
        """
        UPDATE mails
        SET status = $2, sealed = NULL, sent_at = CASE WHEN $2 = 'sent' THEN $3::timestamptz END
        WHERE id = $1 AND status = 'sending' RETURNING true
        """,
        mail_id,
        status,
        now,
    )
    return bool(finished)


async def postpone(tx: Tx, mail_id: UUID, due_at: datetime) -> None:
    """Give a mail back, to be tried again at a time."""
    await tx.execute(
        "UPDATE mails SET status = 'queued', due_at = $2 WHERE id = $1 AND status = 'sending'",
        mail_id,
        due_at,
    )


async def purge(tx: Tx, older_than: datetime) -> None:
    """Forget mails of long ago, and what the inbox of development still shows of them."""
    await tx.execute("DELETE FROM mails WHERE created_at < $1 AND status IN ('sent', 'failed')", older_than)
    await tx.execute("DELETE FROM local_inbox WHERE created_at < $1", older_than)


async def put_into_inbox(tx: Tx, message: Message, now: datetime) -> None:
    """Put a mail into the inbox of development; once, whatever is tried again."""
    await tx.execute(
        """
        INSERT INTO local_inbox
            (id, client_id, kind, recipient, sender, subject, text, html, created_at)
        VALUES ($1, current_client(), $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING
        """,
        message.id,
        message.kind,
        message.recipient,
        f"{message.sender_name} <{message.sender_address}>",
        message.subject,
        message.text,
        message.html,
        now,
    )


async def inbox(tx: Tx, recipient: str | None, limit: int) -> list[InboxMail]:
    """Return the last mails of all clients, the newest first; those to one recipient when it is given."""
    rows = await tx.fetch(
        """
        SELECT id, client_id, kind, recipient, sender, subject, text, html, created_at
        FROM local_inbox WHERE $1::text IS NULL OR recipient = $1
        ORDER BY created_at DESC, id DESC LIMIT $2
        """,
        recipient,
        limit,
    )
    return [InboxMail(**row) for row in rows]
