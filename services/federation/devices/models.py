"""A device's request as its user meets it: the slice's values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from contracts.apps import App
from contracts.clients import Client


@dataclass(frozen=True, slots=True)
class DeviceCode:
    """What a device gets: its own code and the one for its user; times are in seconds."""

    device_code: str
    user_code: str
    expires_in: int
    interval: int


@dataclass(frozen=True, slots=True)
class DeviceRequest:
    """What waits under a user code; `ip` is from where the device asked."""

    user_code: str
    client_id: UUID
    app_id: str
    scopes: tuple[str, ...]
    resources: tuple[str, ...]
    ip: str
    expires_at: datetime

    def encode(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "user_code": self.user_code,
            "client": str(self.client_id),
            "app": self.app_id,
            "scopes": self.scopes,
            "resources": self.resources,
            "ip": self.ip,
            "until": self.expires_at.isoformat(),
        }

    @classmethod
    def decode(cls, members: dict[str, Any]) -> Self:
        """Read what `encode` wrote."""
        return cls(
            members["user_code"],
            UUID(members["client"]),
            members["app"],
            tuple(members["scopes"]),
            tuple(members["resources"]),
            members["ip"],
            datetime.fromisoformat(members["until"]),
        )


@dataclass(frozen=True, slots=True)
class WaitingDevice:
    """A device's request in the browser in which its code was typed; the login page serves it too."""

    handle: str
    request: DeviceRequest
    app: App
    form_token: str
    languages: tuple[str, ...]

    @property
    def client(self) -> Client:
        """The tenant."""
        return self.app.client

    @property
    def app_name(self) -> str:
        """What the user is logging in to."""
        return self.app.name

    @property
    def redirect_uri(self) -> str:
        """Nowhere: no answer leaves the issuer by this browser."""
        return ""

    @property
    def login_hint(self) -> str:
        """Nobody is expected."""
        return ""

    @property
    def demands_login(self) -> bool:
        """Whoever is logged in may go on; the page shows who that is."""
        return False

    @property
    def demands_two_factors(self) -> bool:
        """A device asks for no kind of login."""
        return False
