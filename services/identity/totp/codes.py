"""TOTP by RFC 6238 as authenticator apps know it: SHA-1, six digits, steps of 30 seconds."""

from __future__ import annotations

import hmac
import io
from datetime import datetime

import pyotp
import segno

STEP_SECONDS = 30
CODE_PATTERN = r"^[0-9]{6}$"
"""Six ASCII digits, and nothing around them."""

_SECRET_CHARACTERS = 32  # of base32: 160 bits, RFC 4226 §4 R6
_WINDOW = (0, -1, 1)
"""Steps beside the present one whose code is taken: 90 seconds in all (RFC 6238 §5.2)."""


def new_secret() -> str:
    """Return a secret of 160 bits in base32."""
    return pyotp.random_base32(_SECRET_CHARACTERS)


def matching_step(secret: str, code: str, now: datetime) -> int | None:
    """Return the time step whose code this is, or None; the caller makes sure that a step is used once."""
    present = int(now.timestamp()) // STEP_SECONDS
    generator = pyotp.TOTP(secret, interval=STEP_SECONDS)
    found = None
    for offset in _WINDOW:
        if hmac.compare_digest(generator.generate_otp(present + offset).encode(), code.encode()):
            found = present + offset
    return found


def otpauth_url(secret: str, *, issuer: str, account: str) -> str:
    """Return what an authenticator app reads (Key Uri Format); issuer and account are percent-encoded."""
    return pyotp.TOTP(secret, interval=STEP_SECONDS, issuer=issuer, name=account).provisioning_uri()


def qr_svg(text: str) -> str:
    """Return a QR code as a self-contained SVG document; takes milliseconds of CPU."""
    document = io.BytesIO()
    segno.make(text, error="m", micro=False).save(
        document, kind="svg", scale=4, border=4, light="#fff", xmldecl=False, nl=False
    )
    return document.getvalue().decode()
