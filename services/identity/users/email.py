"""Email addresses: strict syntax, and one normal form for all spellings of the same address.

The normal form decides uniqueness and look-ups; mail goes to the stored address only, never to what was
typed, so that two mailboxes with one normal form cannot be confused (CVE-2019-19844 and the like).
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import idna

from services.identity.errors import EmailDomainBlocked, InvalidEmail

MAX_TYPED_LENGTH = 320
_MAX_BYTES = 254  # RFC 5321 §4.5.3.1.3, less the angle brackets
_MAX_LOCAL_BYTES = 64  # RFC 5321 §4.5.3.1.1
_SPECIALS = re.compile(r"[\s\"(),:;<>\[\\\]]")
_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_TLD = re.compile(r"[a-z][a-z0-9-]*[a-z0-9]")
_COMBINING_DOT = "\u0307"
_DOMAINS_FILE = Path(__file__).with_name("disposable_domains.txt")


@dataclass(frozen=True, slots=True)
class Email:
    """A well-formed address: as it is shown and mailed, and in its normal form."""

    address: str
    normalized: str

    @classmethod
    def parse(cls, typed: str) -> Self:
        """Read what a user typed.

        Spaces around it are dropped and compatibility forms folded (NFKC). One `@`, a dot-atom before it (RFC
        5322 §3.2.3, non-ASCII letters allowed, RFC 6531) and a registered-looking domain after it (IDNA, UTS
        #46). No quoted names, comments, lists or address literals.

        Raises:
            InvalidEmail: it is anything else.
        """
        if len(typed) > MAX_TYPED_LENGTH:
            raise InvalidEmail("It is too long.")
        address = unicodedata.normalize("NFKC", typed).strip(" ")
        if any(unicodedata.category(character) in _UNSAFE_CATEGORIES for character in address):
            raise InvalidEmail("It contains a character that cannot be shown.")
        local, at, domain = address.partition("@")
        if not at or "@" in domain or _SPECIALS.search(address):
            raise InvalidEmail("It must be one address of the form name@domain.")
        if not local or local.startswith(".") or local.endswith(".") or ".." in local:
            raise InvalidEmail("The part before @ is not valid.")
        ascii_domain = _ascii_domain(domain)
        normalized = f"{_fold(local)}@{ascii_domain}"
        if (
            len(local.encode()) > _MAX_LOCAL_BYTES
            or len(address.encode()) > _MAX_BYTES
            or len(normalized) > _MAX_BYTES
        ):
            raise InvalidEmail("It is too long.")
        return cls(address, normalized)

    @property
    def local(self) -> str:
        """The part before `@`, normalised."""
        return self.normalized.partition("@")[0]

    @property
    def domain(self) -> str:
        """The part after `@`, as ASCII."""
        return self.normalized.partition("@")[2]


def search_prefix(typed: str) -> str:
    """Return the beginning of normal forms that the beginning of an address stands for; checks nothing."""
    local, at, domain = unicodedata.normalize("NFKC", typed).strip(" ").partition("@")
    return f"{_fold(local)}{at}{domain.lower()}"


class EmailHasher:
    """Keyed hash of a normal form: names an address in counters and events without revealing it."""

    def __init__(self, key: bytes) -> None:
        """Take a key that is used for nothing else."""
        self._key = key

    def hash(self, email: Email) -> bytes:
        """Return 32 bytes."""
        return self.hash_normalized(email.normalized)

    def hash_normalized(self, normalized: str) -> bytes:
        """Return 32 bytes for a normal form that was stored."""
        return hmac.new(self._key, normalized.encode(), hashlib.sha256).digest()


class DomainBlocklist:
    """Domains that may not sign up; their subdomains neither."""

    def __init__(self, domains: list[str] | None) -> None:
        """Take the operator's list, or the committed one, whose source its first lines name."""
        if domains is None:
            lines = _DOMAINS_FILE.read_text(encoding="utf-8").splitlines()
            domains = [line for line in lines if line and not line.startswith("#")]
        self._domains = frozenset(domain.strip().strip(".").lower() for domain in domains)

    def check(self, email: Email) -> None:
        """Check the domain and each domain it is under.

        Raises:
            EmailDomainBlocked: one of them is listed.
        """
        labels = email.domain.split(".")
        if any(".".join(labels[start:]) in self._domains for start in range(len(labels))):
            raise EmailDomainBlocked


def _ascii_domain(domain: str) -> str:
    try:
        encoded = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError):
        raise InvalidEmail("The part after @ is not a domain.") from None
    labels = encoded.split(".")
    if len(labels) < 2 or not _TLD.fullmatch(labels[-1]):
        raise InvalidEmail("The part after @ is not a domain.")
    return encoded


def _fold(text: str) -> str:
    """Fold case so that letters which some case mapping makes equal are equal: ı, İ, I with i, ſ with s."""
    folded = unicodedata.normalize("NFKC", text.upper().casefold())
    return folded.replace(f"i{_COMBINING_DOT}", "i")
