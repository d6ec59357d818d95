"""Mail: in the client's words, without a way into its headers, sent once, and tried again until it is."""

from __future__ import annotations

import asyncio
import email
import email.policy
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from string import Formatter
from typing import Any
from uuid import UUID

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from pydantic import ValidationError

from chassis.ids import new_id
from chassis.settings import ForeignSecret
from contracts.brand import LANGUAGES
from contracts.clients import Client, TokenMode
from services.identity.mail import words
from services.identity.mail.models import Letter, MailKind, QueuedMail
from services.identity.mail.senders import MailNotSent, MailRefused, ResendSender, SmtpSender, compose
from services.identity.mail.words import Words
from services.identity.tests.conftest import address, another_identity
from services.identity.tests.mailed import ask
from tests.fake_http import fake_http
from tests.harness import System, Tenant

LINK = "http://localhost:8080/x?token=abc&b=c"
CATALOGUE = Path(words.__file__).parent / "catalogue"


def fields(phrases: dict[str, Any]) -> set[str]:
    """The values that the words of one kind name."""
    texts = [phrases["subject"], phrases["button"], *phrases["body"]]
    return {name for text in texts for _, name, _, _ in Formatter().parse(text) if name}


ENGLISH = {
    kind: fields(phrases)
    for kind, phrases in json.loads((CATALOGUE / "en.json").read_text(encoding="utf-8")).items()
}
VALUES = {name: f"<{name}>" for name in set().union(*ENGLISH.values())} | {"link": LINK}
HOSTILE = 'x\r\nBcc: v@y.example\r\n\r\n<script>alert(1)</script> "\u2028{brand.__class__}'
WORDS = Words("Auth Service <noreply@auth.example>")


def client(**auth_ui: Any) -> Client:
    return Client(new_id(), "Acme", "acme", "active", TokenMode.ES256, (), {"auth_ui": auth_ui}, "")


def queued(kind: MailKind = MailKind.MAGIC_LINK) -> QueuedMail:
    return QueuedMail(new_id(), new_id(), kind, b"", "", 1)


def letter(locale: str | None = None, to: str = "ada@example.com", **values: str) -> Letter:
    return Letter(to, locale, {**VALUES, **values})


@pytest.mark.parametrize("language", LANGUAGES)
def test_mail_when_in_any_language_then_every_kind_has_words_for_it(language: str) -> None:
    subjects = set()
    for kind in MailKind:
        message = WORDS.message(queued(kind), letter(f"{language}-XX"), client(brand_name="Brand"))
        subjects.add(message.subject)
        catalogue = json.loads((CATALOGUE / f"{language}.json").read_text(encoding="utf-8"))
        assert fields(catalogue[kind]) == ENGLISH[kind]
        assert "Brand" in message.subject
        assert "{" not in message.text + message.subject
        assert f'lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}"' in message.html
        parsed = email.message_from_bytes(bytes(compose(message)), policy=email.policy.default)
        assert [part.get_content_type() for part in parsed.walk()] == [
            "multipart/alternative",
            "text/plain",
            "text/html",
        ]
        assert (LINK in message.text) is (LINK.replace("&", "&amp;") in message.html)
    assert len(subjects) == len(MailKind)


@pytest.mark.parametrize(
    ("user", "brand", "language"),
    [("de-AT", "fr", "de"), (None, "fr", "fr"), ("xx", "JA", "ja"), (None, None, "en"), ("xx", 7, "en")],
)
def test_mail_when_languages_are_wished_then_the_users_comes_first(
    user: str | None, brand: Any, language: str
) -> None:
    message = WORDS.message(queued(), letter(user), client(locale=brand))
    assert f'lang="{language}"' in message.html


def test_mail_when_names_are_hostile_then_no_header_and_no_markup_comes_of_them() -> None:
    for auth_ui in (
        {"brand_name": HOSTILE, "logo_url": 'https://x/"><script>', "primary_color": "red;}"},
        {"brand_name": HOSTILE, "logo_url": "javascript:alert(1)", "primary_color": "#12345"},
        {"brand_name": {"a": 1}, "logo_url": "http://cdn.example/logo.png", "primary_color": 7},
        {"brand_name": HOSTILE * 20, "logo_url": "https://cdn.example/\r\nx", "primary_color": "#FFFFFFF"},
    ):
        mail = queued(MailKind.INVITATION)
        values = letter(organization=HOSTILE, inviter=HOSTILE)
        message = WORDS.message(mail, values, client(**auth_ui))
        parsed = email.message_from_bytes(bytes(compose(message)), policy=email.policy.default)
        assert sorted(parsed.keys()) == sorted(
            ["From", "To", "Subject", "Message-ID", "Auto-Submitted", "MIME-Version", "Content-Type"]
        )
        assert parsed["To"] == "ada@example.com"
        assert parsed["From"].addresses[0].addr_spec == "noreply@auth.example"
        assert parsed["Message-ID"] == f"<{mail.id}@auth.example>"
        assert "<script" not in message.html
        assert "javascript:" not in message.html
        assert "#1f4fd8" in message.html
        assert "<img" not in message.html or 'src="https://x/&#34;&gt;' in message.html
    fine = client(logo_url="https://cdn.example/l.png", primary_color="#ffee00", brand_name="A & B")
    good = WORDS.message(queued(), letter(), fine)
    assert '<img src="https://cdn.example/l.png" alt="A &amp; B"' in good.html
    assert "background:#ffee00;color:#000000" in good.html
    with pytest.raises(ValueError, match="minutes"):
        WORDS.message(queued(), Letter("a@example.com", None, {"link": LINK}), client())


class Sink:
    """A mail server that keeps what it gets, after refusing as often as it is told."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.refusals: list[str] = []

    async def handle_DATA(  # noqa: N802 - the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        content = envelope.content
        assert isinstance(content, bytes)
        parsed = email.message_from_bytes(content, policy=email.policy.default)
        assert isinstance(parsed, EmailMessage)
        self.mails.append(parsed)
        self.recipients += envelope.rcpt_tos
        return "250 OK"


@pytest.fixture
async def smtp() -> AsyncIterator[tuple[Sink, str]]:
    """A mail server on this machine."""
    sink = Sink()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(sink, loop=loop, enable_SMTPUTF8=True, hostname="sink.example"), "127.0.0.1", 0
    )
    yield sink, f"smtp://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    await server.wait_closed()


async def test_mail_when_the_server_refuses_for_now_then_is_sent_later_and_once(
    system: System, tenant: Tenant, smtp: tuple[Sink, str]
) -> None:
    sink, url = smtp
    to = f"böb-{address()}"
    async with another_identity(system, email_provider="smtp", smtp_url=ForeignSecret(url)):
        # Another process has the consumer, too: both may be told of the mail, one sends it.
        sink.refusals = ["451 later"] * 2
        await ask(system, tenant, "magic-link/send", to, create_user=True)
        await system.mail_requests_done(tenant.id)
        seen = "SELECT status, attempts, sealed, id FROM mails WHERE client_id = $1"
        for _ in range(20):
            (row,) = await system.sql("identity", seen, tenant.id)
            if row["status"] == "sent":
                break
            with system.clock.advanced(timedelta(minutes=2)):
                await asyncio.sleep(0.3)
    (row,) = await system.sql("identity", seen, tenant.id)
    assert (row["status"], row["sealed"]) == ("sent", None)
    inbox = await system.mails(to, count=0)
    assert len(inbox) + len(sink.mails) == 1
    sent = await system.event("mail_sent", client_id=tenant.id)
    assert (sent.target_id, sent.data["template"]) == (str(row["id"]), "magic_link")
    assert to not in str([event.data for event in system.events if event.client_id == tenant.id])


async def test_smtp_when_a_mail_is_handed_over_then_has_both_parts_and_a_steady_id(
    smtp: tuple[Sink, str],
) -> None:
    sink, url = smtp
    sender, message = SmtpSender(url), WORDS.message(queued(), letter(to="böb@example.com"), client())
    sink.refusals = ["451 later", "554 never"]
    with pytest.raises(MailNotSent):
        await sender.send(message)
    with pytest.raises(MailRefused):
        await sender.send(message)
    await sender.send(message)
    await sender.send(message)
    assert sink.recipients == ["böb@example.com"] * 2
    first, second = sink.mails
    assert first["Message-ID"] == second["Message-ID"] == f"<{message.id}@auth.example>"
    body = first.get_body(("plain",))
    assert body is not None
    assert LINK in body.get_content()
    with pytest.raises(MailNotSent):
        await SmtpSender("smtp://127.0.0.1:1").send(message)
    with pytest.raises(MailNotSent):
        # A server that is not this machine must offer TLS, or it gets no mail.
        await SmtpSender(url.replace("127.0.0.1", "localhost.localdomain")).send(message)


async def test_resend_when_a_mail_is_handed_over_twice_then_says_that_it_is_the_same() -> None:
    async with fake_http() as resend:
        sender = ResendSender("re_key", resend.url)
        await sender.start()
        message = WORDS.message(queued(), letter(), client(brand_name="Brand"))
        await sender.send(message)
        for status in (500, 429, 401, 409):
            resend.status = status
            with pytest.raises(MailNotSent):
                await sender.send(message)
        resend.status = 422
        with pytest.raises(MailRefused):
            await sender.send(message)
        await sender.stop()
    told = {
        (one.headers["authorization"], one.headers["idempotency-key"], one.target) for one in resend.asked
    }
    assert told == {("Bearer re_key", str(message.id), "/emails")}
    content = resend.asked[0].json
    assert (content["from"], content["to"]) == ("Brand <noreply@auth.example>", ["ada@example.com"])
    assert content["headers"]["Message-ID"] == f"<{message.id}@auth.example>"
    assert LINK in content["text"]


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"email_provider": "local", "environment": "production"}, "EMAIL_PROVIDER is local"),
        ({"email_provider": "resend"}, "RESEND_API_KEY"),
        ({"email_provider": "smtp"}, "SMTP_URL"),
        ({"smtp_url": "ftp://x"}, "SMTP_URL must be"),
        ({"email_from": "A <a@x>\r\nBcc: v@y"}, "EMAIL_FROM"),
        ({"email_from": "nobody"}, "EMAIL_FROM"),
    ],
)
def test_settings_when_mail_cannot_work_then_refuse_to_start(
    system: System, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(ValidationError, match=named):
        system.settings("identity", base_url="https://auth.example.com", **settings)


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({}, "local"),
        ({"environment": "production"}, "none"),
        ({"environment": "production", "smtp_url": "smtp://relay"}, "smtp"),
        ({"smtp_url": "smtp://relay", "resend_api_key": "re_1"}, "resend"),
    ],
)
def test_settings_when_auto_then_take_what_is_there(
    system: System, settings: dict[str, Any], way: str
) -> None:
    assert system.settings("identity", base_url="https://auth.example.com", **settings).mail_way == way


async def test_mail_when_its_process_died_then_another_sends_it_and_a_sealed_copy_opens_nowhere_else(
    system: System, tenant: Tenant
) -> None:
    first, second = address(), address()
    for to in (first, second):
        await ask(system, tenant, "magic-link/send", to, create_user=True)
        await system.mails(to)
    rows = await system.sql("identity", "SELECT id, sealed FROM mails WHERE client_id = $1", tenant.id)
    assert [row["sealed"] for row in rows] == [None, None]
    # Left behind in the middle of a try, with what does not open in this row.
    await system.sql(
        "identity",
        "UPDATE mails SET status = 'sending', sealed = '\\x01', due_at = now() WHERE id = $1",
        rows[0]["id"],
    )
    failed = await system.event("mail_failed", client_id=tenant.id)
    assert failed.target_id == str(rows[0]["id"])
    (row,) = await system.sql("identity", "SELECT status FROM mails WHERE id = $1", UUID(failed.target_id))
    assert row["status"] == "failed"
