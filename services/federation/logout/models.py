"""What an app asks for when it sends its user to log out: the slice's values."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Self
from uuid import UUID

from chassis.sealing import SealBroken, Sealer

TTL: Final = timedelta(minutes=30)
_ROW: Final = "logout request"


@dataclass(frozen=True, slots=True)
class Hint:
    """What a valid `id_token_hint` names: a user, and the login that the token was issued by."""

    user_id: UUID
    session_id: UUID


@dataclass(frozen=True, slots=True)
class LogoutRequest:
    """A request as far as it may be believed; `redirect_uri` is a registered one, or empty.

    `app_id` and `client_id` (the tenant) are of an app that exists. `hint` is None where there was none, or
    one that is not to be believed. `state` goes to the app with the redirect only.
    """

    app_id: str = ""
    client_id: UUID | None = None
    hint: Hint | None = None
    redirect_uri: str = ""
    state: str | None = None
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sealed:
    """A request that goes through the browser and comes back as it was.

    With a `session_id` it is of the page that asks the user who is logged in with it, in the browser whose
    secret has `browser_hash`; without, it is as good as the request itself.
    """

    request: LogoutRequest
    expires_at: datetime
    browser_hash: str = ""
    session_id: UUID | None = None

    def encode(self, sealer: Sealer) -> str:
        """Write it for a URL or a form."""
        request = self.request
        members = {
            "app": request.app_id,
            "client": _text(request.client_id),
            "user": _text(request.hint.user_id if request.hint else None),
            "login": _text(request.hint.session_id if request.hint else None),
            "uri": request.redirect_uri,
            "state": request.state,
            "languages": request.languages,
            "until": self.expires_at.isoformat(),
            "browser": self.browser_hash,
            "session": _text(self.session_id),
        }
        sealed = sealer.seal(json.dumps(members).encode(), _ROW)
        return base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str, sealer: Sealer) -> Self | None:
        """Read what `encode` wrote; None for whatever is not of ours."""
        try:
            sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            members: dict[str, Any] = json.loads(sealer.open(sealed, _ROW))
        except (SealBroken, binascii.Error, ValueError):
            return None
        user_id, login_id = _id(members["user"]), _id(members["login"])
        return cls(
            LogoutRequest(
                members["app"],
                _id(members["client"]),
                Hint(user_id, login_id) if user_id and login_id else None,
                members["uri"],
                members["state"],
                tuple(members["languages"]),
            ),
            datetime.fromisoformat(members["until"]),
            members["browser"],
            _id(members["session"]),
        )


def _text(value: UUID | None) -> str:
    return str(value) if value else ""


def _id(text: str) -> UUID | None:
    return UUID(text) if text else None
