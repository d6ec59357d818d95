"""The password policy: what a new password must be (NIST SP 800-63B-4 §3.1.1: length and known-bad words)."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from chassis.errors import FieldError
from contracts.password_policy import PasswordPolicySetting
from services.identity.errors import WeakPassword
from services.identity.passwords.hasher import normalize
from services.identity.passwords.predictability import LEAST_SURPRISES, surprises
from services.identity.users.email import Email

_COMMON_FILE = Path(__file__).with_name("common_passwords.txt")
_LEAST_TOKEN_LENGTH = 3
_WORDS = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class PolicyRules:
    """The configured bounds: length in characters at least, in bytes at most."""

    min_length: int
    max_bytes: int
    min_unique: int
    block_common: bool
    block_user_info: bool
    block_low_entropy: bool


_NOTHING_MORE = PasswordPolicySetting()


class PasswordPolicy:
    """Judges new passwords."""

    def __init__(self, rules: PolicyRules) -> None:
        """Read the committed list of common passwords, whose source its first lines name."""
        self._rules = rules
        self._common = _read_common()

    def check(
        self,
        password: str,
        *,
        email: Email,
        display_name: str,
        field: str,
        own: PasswordPolicySetting = _NOTHING_MORE,
    ) -> None:
        """Check a new password in its NFC form; `field` is the request's name for it.

        `own` is what the client asks for beyond the installation's rules.

        Raises:
            WeakPassword: with every rule it breaks.
        """
        rules = _tightened(self._rules, own)
        encoded = normalize(password)
        text = encoded.decode()
        folded = text.casefold()
        broken: list[tuple[str, str]] = []
        if len(text) < rules.min_length:
            broken.append(("password_too_short", f"It must have at least {rules.min_length} characters."))
        if len(encoded) > rules.max_bytes:
            broken.append(("password_too_long", f"It must have at most {rules.max_bytes} bytes as UTF-8."))
        if len({character for character in text if not character.isspace()}) < rules.min_unique:
            broken.append(
                ("password_too_uniform", f"It must have at least {rules.min_unique} different characters.")
            )
        if rules.block_common and folded in self._common:
            broken.append(("password_too_common", "It is one of the most used passwords."))
        if not broken and rules.block_low_entropy and surprises(folded) < LEAST_SURPRISES:
            broken.append(
                ("password_too_predictable", "It consists of sequences, repetitions or keyboard rows.")
            )
        if rules.block_user_info and any(token in folded for token in _user_tokens(email, display_name)):
            broken.append(("password_contains_user_info", "It must not contain your name or email address."))
        if broken:
            raise WeakPassword(errors=tuple(FieldError(field, code, detail) for code, detail in broken))


def _tightened(rules: PolicyRules, own: PasswordPolicySetting) -> PolicyRules:
    """Return the stricter of both rules, each by itself."""
    return PolicyRules(
        min_length=max(rules.min_length, own.min_length or 0),
        max_bytes=rules.max_bytes,
        min_unique=max(rules.min_unique, own.min_unique or 0),
        block_common=rules.block_common or own.block_common,
        block_user_info=rules.block_user_info or own.block_user_info,
        block_low_entropy=rules.block_low_entropy or own.block_low_entropy,
    )


def _user_tokens(email: Email, display_name: str) -> set[str]:
    """Return the user's own words that a password must not contain."""
    words = {email.local, *_WORDS.split(unicodedata.normalize("NFC", display_name).casefold())}
    return {word for word in words if len(word) >= _LEAST_TOKEN_LENGTH}


def _read_common() -> frozenset[str]:
    lines = _COMMON_FILE.read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("# "))
