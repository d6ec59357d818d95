"""Admin tokens: issued by identity, verified by the gateway, with one secret that both know.

A token says who an admin is, and nothing of what it may do: that is asked of the `AdminDirectory`. The header
is one constant text, and the signature is made anew and compared as text, so that nothing of what was sent is
decoded before it has been found to be ours.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Self
from uuid import UUID

from pydantic import Field, SecretStr, model_validator

from chassis.ids import new_id
from chassis.settings import Duration, Settings

AUDIENCE: Final = "authservice-admin"
TOKEN_USE: Final = "admin"  # noqa: S105 - a claim's value
_MAX_LENGTH: Final = 4096
_MIN_SECRET: Final = 32
_DERIVED: Final = b"authservice admin tokens"
_CLOCK_DIFFERENCE: Final = 60


def _encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


_HEADER: Final = _encoded(b'{"alg":"HS256","typ":"admin+jwt"}')


class AdminTokenRefused(Exception):
    """The text is not a token of ours that is good now; `is_expired` says that it was."""

    def __init__(self, *, is_expired: bool = False) -> None:
        """Say whether it is only too old."""
        super().__init__("expired" if is_expired else "not ours")
        self.is_expired = is_expired


@dataclass(frozen=True, slots=True)
class AdminClaims:
    """What a token says: times are Unix seconds, `epoch` is the admin's when it was issued."""

    admin_id: UUID
    epoch: int
    amr: tuple[str, ...]
    issued_at: int
    expires_at: int


class AdminTokenSettings(Settings):
    """Settings of the two processes that know admin tokens."""

    admin_token_secret: SecretStr | None = Field(
        None, description="Signs admin tokens (HS256); not set, a key derived from ADMIN_API_KEY does."
    )

    @model_validator(mode="after")
    def _refuse_short_secret(self) -> Self:
        secret = self.admin_token_secret
        if secret is not None and len(secret.get_secret_value()) < _MIN_SECRET:
            raise ValueError(f"ADMIN_TOKEN_SECRET must have at least {_MIN_SECRET} characters")
        return self

    def admin_token_key(self, admin_api_key: SecretStr | None) -> bytes | None:
        """Return the key of the MAC, None where neither secret is known.

        It is never the break-glass key itself: who sees a token could try to guess that.
        """
        if self.admin_token_secret is not None:
            return self.admin_token_secret.get_secret_value().encode()
        if admin_api_key is None:
            return None
        return hmac.digest(admin_api_key.get_secret_value().encode(), _DERIVED, "sha256")


class AdminTokens:
    """Issues and verifies tokens."""

    def __init__(self, key: bytes, *, issuer: str) -> None:
        """Take the key and the installation's name.

        Raises:
            ValueError: the key is shorter than HS256 needs (RFC 7518 §3.2).
        """
        if len(key) < hashlib.sha256().digest_size:
            raise ValueError("the key of admin tokens is too short")
        self._key = key
        self._issuer = issuer

    def issue(self, admin_id: UUID, epoch: int, amr: tuple[str, ...], now: int, ttl: timedelta) -> str:
        """Return a token that lives for `ttl` from `now` on, in Unix seconds."""
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": str(admin_id),
            "jti": str(new_id()),
            "iat": now,
            "exp": now + int(ttl.total_seconds()),
            "epoch": epoch,
            "amr": amr,
            "token_use": TOKEN_USE,
        }
        signed = f"{_HEADER}.{_encoded(json.dumps(claims, separators=(',', ':')).encode())}"
        return f"{signed}.{self._signature(signed)}"

    def verify(self, token: str, now: float) -> AdminClaims:
        """Return what a good token says.

        Raises:
            AdminTokenRefused: it is not one.
        """
        signed, _, signature = token.rpartition(".")
        header, _, payload = signed.partition(".")
        if len(token) > _MAX_LENGTH or not token.isascii() or header != _HEADER:
            raise AdminTokenRefused
        if not hmac.compare_digest(signature, self._signature(signed)):
            raise AdminTokenRefused
        try:
            claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
            return self._read(claims, now)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise AdminTokenRefused from None

    def _read(self, claims: dict[str, Any], now: float) -> AdminClaims:
        # Whatever else the secret may sign is not an admin token.
        kind = (claims.get("iss"), claims.get("aud"), claims.get("token_use"))
        if kind != (self._issuer, AUDIENCE, TOKEN_USE) or claims["iat"] > now + _CLOCK_DIFFERENCE:
            raise AdminTokenRefused
        if claims["exp"] <= now:
            raise AdminTokenRefused(is_expired=True)
        return AdminClaims(
            admin_id=UUID(claims["sub"]),
            epoch=int(claims["epoch"]),
            amr=tuple(claims["amr"]),
            issued_at=int(claims["iat"]),
            expires_at=int(claims["exp"]),
        )

    def _signature(self, signed: str) -> str:
        return _encoded(hmac.digest(self._key, signed.encode(), "sha256"))


class AdminLoginSettings(AdminTokenSettings):
    """Settings of who issues the tokens."""

    admin_api_key: SecretStr | None = Field(
        None, description="Only where ADMIN_TOKEN_SECRET is not set: what the gateway has, to derive from."
    )
    admin_access_ttl: Duration = Field(timedelta(hours=8), description="Life of an admin token.")
