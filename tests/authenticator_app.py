"""A user's authenticator app (RFC 6238), by the clock of the services under test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pyotp

from tests.harness import System

STEP_SECONDS = 30


@dataclass(slots=True)
class App:
    """An authenticator app: shows a fresh code each time, or that of a certain step."""

    system: System
    secret: str
    shown: int = 0

    @property
    def present(self) -> int:
        """The step that it is now."""
        return int(self.system.clock.now().timestamp()) // STEP_SECONDS

    def at(self, offset: int) -> str:
        """The code of a step beside the present one."""
        return pyotp.TOTP(self.secret).generate_otp(self.present + offset)

    def code(self) -> str:
        """A code that it has not shown before; moves the clock on where the window has none left.

        One that is about to leave the window is not shown: a busy machine might take it too late.
        """
        into_step = self.system.clock.now().timestamp() % STEP_SECONDS
        step = max(self.shown + 1, self.present - (into_step < STEP_SECONDS / 2))
        while step > self.present + 1:
            self.system.clock.offset += timedelta(seconds=STEP_SECONDS)
        self.shown = step
        return pyotp.TOTP(self.secret).generate_otp(step)

    def wrong(self) -> str:
        """Six digits that are no code near now."""
        near = {self.at(offset) for offset in range(-4, 5)}
        return next(code for number in range(20) if (code := f"{number:06d}") not in near)
