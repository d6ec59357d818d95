"""The ways a mail leaves: Resend, SMTP, or the inbox of development."""

from __future__ import annotations

import ipaddress
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from typing import Protocol
from urllib.parse import unquote, urlsplit

import aiosmtplib
import httpx

from chassis.clock import Clock
from chassis.database import Database
from services.identity.mail import store
from services.identity.mail.models import Message

_SECONDS = 10.0
_TRY_AGAIN = frozenset({408, 409, 423, 425, 429})


class MailNotSent(Exception):
    """The mail could not be handed over now; another try may succeed. The text names no recipient."""


class MailRefused(Exception):
    """The mail will never be taken as it is: another try would be refused as this one was."""


class Sender(Protocol):
    """A way to send."""

    async def send(self, message: Message) -> None:
        """Hand a message over; handed over twice, it names itself by the same id.

        Raises:
            MailNotSent, MailRefused: it was not taken.
        """
        ...

    async def start(self) -> None:
        """Open what it needs."""
        ...

    async def stop(self) -> None:
        """Close it."""
        ...


def compose(message: Message) -> EmailMessage:
    """Return the message as RFC 5322 has it, with a plain and an HTML part.

    The library refuses line breaks in headers, which `words` has taken out before; nothing that a user or a
    client wrote can begin another header.
    """
    is_ascii = message.recipient.isascii() and message.sender_address.isascii()
    composed = EmailMessage(policy=SMTP if is_ascii else SMTPUTF8)
    local, _, domain = message.sender_address.rpartition("@")
    composed["From"] = Address(message.sender_name, local, domain)
    to_local, _, to_domain = message.recipient.rpartition("@")
    composed["To"] = Address("", to_local, to_domain)
    composed["Subject"] = message.subject
    composed["Message-ID"] = f"<{message.id}@{domain}>"
    composed["Auto-Submitted"] = "auto-generated"  # RFC 3834 §5
    composed.set_content(message.text)
    composed.add_alternative(message.html, subtype="html")
    return composed


class SmtpSender:
    """Sends by a mail server. Passwords go over TLS only, unless the server is this machine."""

    def __init__(self, url: str) -> None:
        """Read `smtp://user:password@host:port` (STARTTLS) or `smtps://…` (TLS at once)."""
        parts = urlsplit(url)
        self._host = parts.hostname or ""
        self._is_tls = parts.scheme == "smtps"
        self._port = parts.port or (465 if self._is_tls else 587)
        self._user = unquote(parts.username) if parts.username else None
        self._password = unquote(parts.password) if parts.password else None

    async def send(self, message: Message) -> None:
        """Hand a message to the server; see `Sender`."""
        must_upgrade = not self._is_tls and not _is_this_machine(self._host)
        try:
            await aiosmtplib.send(
                compose(message),
                hostname=self._host,
                port=self._port,
                username=self._user,
                password=self._password,
                use_tls=self._is_tls,
                start_tls=True if must_upgrade else None,
                timeout=_SECONDS,
            )
        except aiosmtplib.SMTPRecipientsRefused as error:
            codes = [refused.code for refused in error.recipients]
            raise (MailRefused if all(code >= 500 for code in codes) else MailNotSent)(
                f"recipient refused {codes}"
            ) from None
        except (aiosmtplib.SMTPDataError, aiosmtplib.SMTPSenderRefused) as error:
            raise (MailRefused if error.code >= 500 else MailNotSent)(f"refused {error.code}") from None
        except (aiosmtplib.SMTPException, OSError, TimeoutError) as error:
            raise MailNotSent(type(error).__name__) from None

    async def start(self) -> None:
        """Each mail has a connection of its own."""

    async def stop(self) -> None:
        """Nothing stays open."""


class ResendSender:
    """Sends by Resend's HTTP API; its `Idempotency-Key` keeps a repeated try from becoming a second mail."""

    def __init__(self, api_key: str, base_url: str) -> None:
        """Take the key; connects at `start`."""
        self._key = api_key
        self._url = base_url.rstrip("/") + "/emails"
        self._http: httpx.AsyncClient | None = None

    async def send(self, message: Message) -> None:
        """Hand a message to Resend; see `Sender`."""
        if self._http is None:
            raise MailNotSent("not started")
        composed = compose(message)
        content = {
            "from": str(composed["From"]),
            "to": [message.recipient],
            "subject": message.subject,
            "text": message.text,
            "html": message.html,
            "headers": {"Message-ID": str(composed["Message-ID"]), "Auto-Submitted": "auto-generated"},
        }
        headers = {"authorization": f"Bearer {self._key}", "idempotency-key": str(message.id)}
        try:
            answer = await self._http.post(self._url, json=content, headers=headers)
        except (httpx.HTTPError, OSError) as error:
            raise MailNotSent(type(error).__name__) from None
        if answer.is_success:
            return
        # A bad key is the operator's to mend; mails wait for it.
        is_final = answer.is_client_error and answer.status_code not in _TRY_AGAIN | {401, 403}
        raise (MailRefused if is_final else MailNotSent)(f"answered {answer.status_code}")

    async def start(self) -> None:
        """Make the client."""
        self._http = httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, trust_env=True)

    async def stop(self) -> None:
        """Close it."""
        if self._http is not None:
            await self._http.aclose()


class InboxSender:
    """Keeps mails where developers read them; no mail leaves."""

    def __init__(self, db: Database, clock: Clock) -> None:
        """Take where they are kept."""
        self._db = db
        self._clock = clock

    async def send(self, message: Message) -> None:
        """Keep a message; see `Sender`."""
        compose(message)  # what could not be sent must not look fine here
        async with self._db.tenant(message.client_id) as tx:
            await store.put_into_inbox(tx, message, self._clock.now())

    async def start(self) -> None:
        """The database is started by others."""

    async def stop(self) -> None:
        """And stopped."""


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
