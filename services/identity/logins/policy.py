"""When a login needs a second factor: a client's `adaptive_security` settings, as far as they are of MFA."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.clients import Client


class MfaMode(StrEnum):
    """`allow` (the default) asks the users who have set it up, `required` everybody, `off` nobody."""

    OFF = "off"
    ALLOW = "allow"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class MfaPolicy:
    """A client's rule."""

    mode: MfaMode

    @classmethod
    def of(cls, client: Client) -> MfaPolicy:
        """Read the rule of a client."""
        mfa = client.settings.get("adaptive_security", {}).get("mfa", {})
        return cls(MfaMode(mfa.get("mode", MfaMode.ALLOW)))

    def needs_second_factor(self, *, is_enrolled: bool) -> bool:
        """Whether a one-factor proof is not enough."""
        match self.mode:
            case MfaMode.OFF:
                return False
            case MfaMode.ALLOW:
                return is_enrolled
            case MfaMode.REQUIRED:
                return True
