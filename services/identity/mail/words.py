"""Mails in words: the catalogue of six languages, in the client's brand, as plain text and as HTML."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from email.headerregistry import Address
from email.utils import parseaddr
from pathlib import Path
from typing import Final, TypedDict

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from contracts.brand import LANGUAGES, Brand, brand_of, direction_of, language_of, one_line
from contracts.clients import Client
from services.identity.mail.models import Letter, MailKind, Message, QueuedMail

_FOLDER: Final = Path(__file__).parent
_LINK: Final = "link"
# RFC 5322 §3.2.3. Quoted, they are safe until some program folds the header and forgets the quotes.
_PHRASE_SPECIALS: Final = re.compile(r'[()<>\[\]:;@\\,"]+')


class Phrases(TypedDict):
    """The words of one kind in one language; `button` is empty for a mail without a link."""

    subject: str
    body: list[str]
    button: str


class Words:
    """Puts mails into words."""

    def __init__(self, sender: str) -> None:
        """Take `EMAIL_FROM`, and read templates and catalogue once."""
        name, address = parseaddr(sender)
        self._sender = Address(name, addr_spec=address)
        self._templates = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"), autoescape=True, undefined=StrictUndefined
        )
        self._catalogue = {language: _read(language) for language in LANGUAGES}

    def message(self, mail: QueuedMail, letter: Letter, client: Client) -> Message:
        """Put a mail into words: the user's language, else the client's, else English.

        Raises:
            ValueError: a value that the words need is missing.
        """
        brand = brand_of(client.settings, client.name)
        language = language_of(letter.locale, brand.locale)
        values = {name: one_line(value) for name, value in letter.variables.items() if name != _LINK}
        phrases = self._phrases(mail.kind, language, {**values, "brand": brand.name})
        link = letter.variables.get(_LINK, "")
        return Message(
            id=mail.id,
            client_id=mail.client_id,
            kind=mail.kind,
            recipient=letter.recipient,
            sender_name=_PHRASE_SPECIALS.sub(" ", brand.name).strip() or self._sender.display_name,
            sender_address=self._sender.addr_spec,
            subject=one_line(phrases["subject"]),
            text=_as_text(phrases, link, brand),
            html=self._templates.get_template("mail.html").render(
                language=language,
                direction=direction_of(language),
                brand=brand,
                link=link,
                **phrases,
            ),
        )

    def _phrases(self, kind: MailKind, language: str, values: Mapping[str, str]) -> Phrases:
        words = self._catalogue[language][kind]
        try:
            return Phrases(
                subject=words["subject"].format_map(values),
                body=[line.format_map(values) for line in words["body"]],
                button=words["button"].format_map(values),
            )
        except KeyError as error:
            raise ValueError(f"the words of {kind} need {error}") from None


def _as_text(phrases: Phrases, link: str, brand: Brand) -> str:
    first, *rest = phrases["body"]
    parts = [first, f"{phrases['button']}:\n{link}" if link else "", *rest, f"-- \n{brand.name}"]
    return "\n\n".join(part for part in parts if part) + "\n"


def _read(language: str) -> dict[MailKind, Phrases]:
    words = json.loads((_FOLDER / "catalogue" / f"{language}.json").read_text(encoding="utf-8"))
    return {kind: words[kind] for kind in MailKind}
