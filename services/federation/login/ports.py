"""What the login page needs of the authorization request that it stands in; `authorize` has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from fastapi import Response

from contracts.clients import Client


@dataclass(frozen=True, slots=True)
class Login:
    """A user who has just logged in, or chose to go on as who it is: `session_id` is the issuer session."""

    user_id: UUID
    session_id: UUID


class Waiting(Protocol):
    """An authorization request that waits for its user."""

    @property
    def handle(self) -> str:
        """What names it in URLs; good for nothing without the browser's cookie."""

    @property
    def form_token(self) -> str:
        """What every form of this request must send; the page of another site cannot know it."""

    @property
    def client(self) -> Client:
        """The tenant, which is active."""

    @property
    def app_name(self) -> str:
        """What the user is logging in to."""

    @property
    def redirect_uri(self) -> str:
        """Where the answer goes: browsers count it as part of a form's submission (CSP `form-action`)."""

    @property
    def languages(self) -> tuple[str, ...]:
        """`ui_locales`, the most wanted first."""

    @property
    def login_hint(self) -> str:
        """Whom the app expects; an address, a user's id, or empty."""

    @property
    def demands_login(self) -> bool:
        """The user must prove itself anew (`prompt=login`, or `max_age` is over)."""

    @property
    def demands_choice(self) -> bool:
        """The user must be asked which account it is (`prompt=select_account`)."""


class AuthorizationRequests(Protocol):
    """Keeps authorization requests, each for one browser."""

    async def find(self, handle: str, browser_secret: str) -> Waiting:
        """Return a request of this browser; raises `AuthorizationRequestGone` for any other."""

    async def proceed(self, request: Waiting, login: Login) -> Response:
        """Note the login, give request and browser new secrets, and lead on to `/authorize/resume` (303)."""

    async def refuse(self, request: Waiting, error: str) -> Response:
        """End the request, and tell the app an error such as `access_denied` (RFC 6749 §4.1.2.1)."""
