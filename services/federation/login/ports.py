"""What the login page serves: requests that wait for a user, of whichever slice keeps them."""

from __future__ import annotations

from typing import Any, Protocol

from fastapi import Response

from contracts.clients import Client
from services.federation.issuer_sessions.models import Login


class Waiting(Protocol):
    """A request that waits for its user to log in."""

    @property
    def handle(self) -> str:
        """What names it in URLs; good for nothing without the browser's cookie."""
        ...

    @property
    def form_token(self) -> str:
        """What every form of this request must send; the page of another site cannot know it."""
        ...

    @property
    def client(self) -> Client:
        """The tenant, which is active."""
        ...

    @property
    def app_name(self) -> str:
        """What the user is logging in to; empty when it is not known yet."""
        ...

    @property
    def redirect_uri(self) -> str:
        """Where the answer goes: browsers count it as part of a form's submission (CSP `form-action`)."""
        ...

    @property
    def languages(self) -> tuple[str, ...]:
        """`ui_locales`, the most wanted first."""
        ...

    @property
    def login_hint(self) -> str:
        """Whom the app expects; an address, a user's id, or empty."""
        ...

    @property
    def demands_login(self) -> bool:
        """The user must prove itself anew (`prompt=login`, or `max_age` is over)."""
        ...

    @property
    def demands_two_factors(self) -> bool:
        """Nothing less than a second factor is acceptable (`acr_values`)."""
        ...


class WaitingRequests(Protocol):
    """Keeps such requests, each for one browser."""

    async def find(self, handle: str, browser_secret: str) -> Any:  # noqa: ANN401 - each has its own `Waiting`
        """Return a request of this browser.

        Raises:
            AuthorizationRequestGone: there is none.
        """
        ...

    async def proceed(self, waiting: Any, login: Login) -> Response:  # noqa: ANN401 - what `find` returned
        """Note who logged in, or chose to go on, and lead on (303).

        Raises:
            AuthorizationRequestGone: it waits no more.
        """
        ...

    async def refuse(self, waiting: Any, code: str) -> Response:  # noqa: ANN401 - what `find` returned
        """End the request with an error such as `access_denied`.

        Raises:
            AuthorizationRequestGone: it waits no more.
        """
        ...
