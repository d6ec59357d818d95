"""What an app asks for, who is logged in, and the answer: the slice's values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Self
from uuid import UUID

from contracts.apps import App
from contracts.clients import Client
from services.federation.issuer_sessions.models import Login

OPENID: Final = "openid"
OFFLINE_ACCESS: Final = "offline_access"

ONE_FACTOR: Final = "urn:authservice:acr:1fa"
TWO_FACTORS: Final = "urn:authservice:acr:2fa"
ACR_VALUES: Final = (ONE_FACTOR, TWO_FACTORS)
"""What `acr` says of a login, the weakest first; as `identity` opens sessions with."""


class ResponseMode(StrEnum):
    """How the answer reaches the app (OAuth 2.0 Multiple Response Types §2.1, Form Post Response Mode)."""

    QUERY = "query"
    FRAGMENT = "fragment"
    FORM_POST = "form_post"


class Prompt(StrEnum):
    """What the app wants the user to be asked (OIDC Core §3.1.2.1, Initiating User Registration)."""

    NONE = "none"
    LOGIN = "login"
    CONSENT = "consent"
    SELECT_ACCOUNT = "select_account"
    CREATE = "create"


@dataclass(frozen=True, slots=True)
class AuthorizationRequest:
    """A request that is acceptable in all it says; the user's word on it is still to come.

    `redirect_uri` is one of the app's. Texts are empty where the app sent nothing, but `state`, which is
    answered exactly when it was sent. `scopes` are what the app may have of what it asked for.
    `hinted_user_id` is the `sub` of its `id_token_hint`. `claims_json` is the `claims` parameter, checked;
    `claimed_scopes` are those of what it asks for by name.
    `known_session_id` is of the session in which the browser asked, if there was one: only another is a
    fresh login.
    """

    app: App
    redirect_uri: str
    response_mode: ResponseMode
    state: str | None
    scopes: tuple[str, ...]
    nonce: str
    code_challenge: str
    prompt: frozenset[Prompt]
    max_age: int | None
    acr_values: tuple[str, ...]
    login_hint: str
    hinted_user_id: UUID | None
    claims_json: str
    claimed_scopes: tuple[str, ...]
    resources: tuple[str, ...]
    dpop_jkt: str
    ui_locales: tuple[str, ...]
    created_at: datetime
    known_session_id: UUID | None = None

    @property
    def client(self) -> Client:
        """The app's tenant."""
        return self.app.client

    @property
    def disclosed_scopes(self) -> tuple[str, ...]:
        """What the user is asked for: the scopes, and those of the claims that are asked for by name."""
        return tuple(dict.fromkeys((*self.scopes, *self.claimed_scopes)))

    @property
    def wants_two_factors(self) -> bool:
        """Whether nothing less than a second factor is acceptable."""
        return self.acr_values == (TWO_FACTORS,)

    def is_fresh(self, login: Login) -> bool:
        """Whether a login was made to answer this request."""
        return login.session_id != self.known_session_id and login.auth_time >= int(
            self.created_at.timestamp()
        )

    def known_in(self, login: Login | None) -> Self:
        """Return the request as made in a browser with that login."""
        return replace(self, known_session_id=login.session_id if login else None)

    def encode(self) -> dict[str, Any]:
        """Write it as JSON values; of the app only the id and the tenant's."""
        return {
            "app": self.app.id,
            "client": str(self.client.id),
            "redirect_uri": self.redirect_uri,
            "response_mode": self.response_mode,
            "state": self.state,
            "scopes": self.scopes,
            "nonce": self.nonce,
            "code_challenge": self.code_challenge,
            "prompt": sorted(self.prompt),
            "max_age": self.max_age,
            "acr_values": self.acr_values,
            "login_hint": self.login_hint,
            "hinted_user_id": str(self.hinted_user_id) if self.hinted_user_id else None,
            "claims_json": self.claims_json,
            "claimed_scopes": self.claimed_scopes,
            "resources": self.resources,
            "dpop_jkt": self.dpop_jkt,
            "ui_locales": self.ui_locales,
            "created_at": self.created_at.isoformat(),
            "known_session_id": str(self.known_session_id) if self.known_session_id else None,
        }

    @classmethod
    def decode(cls, members: dict[str, Any], app: App) -> Self:
        """Read what `encode` wrote, of an app that was looked up again."""
        return cls(
            app=app,
            redirect_uri=members["redirect_uri"],
            response_mode=ResponseMode(members["response_mode"]),
            state=members["state"],
            scopes=tuple(members["scopes"]),
            nonce=members["nonce"],
            code_challenge=members["code_challenge"],
            prompt=frozenset(map(Prompt, members["prompt"])),
            max_age=members["max_age"],
            acr_values=tuple(members["acr_values"]),
            login_hint=members["login_hint"],
            hinted_user_id=_id(members["hinted_user_id"]),
            claims_json=members["claims_json"],
            claimed_scopes=tuple(members["claimed_scopes"]),
            resources=tuple(members["resources"]),
            dpop_jkt=members["dpop_jkt"],
            ui_locales=tuple(members["ui_locales"]),
            created_at=datetime.fromisoformat(members["created_at"]),
            known_session_id=_id(members["known_session_id"]),
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A request that waits for its user, as a page of ours found it by the handle of its URL.

    `form_token` must be in every form that the page sends; `requests.check_form_token` compares it.
    `demands_login` says that the user must prove itself anew, whoever is logged in. `session_id` is of the
    login that answered it, once one has.
    """

    handle: str
    request: AuthorizationRequest
    form_token: str
    browser_hash: str
    demands_login: bool
    session_id: UUID | None = None

    @property
    def client(self) -> Client:
        """The tenant, which is active."""
        return self.request.client

    @property
    def app_name(self) -> str:
        """What the user logs in to."""
        return self.request.app.name

    @property
    def redirect_uri(self) -> str:
        """Where the answer goes."""
        return self.request.redirect_uri

    @property
    def languages(self) -> tuple[str, ...]:
        """`ui_locales`, the most wanted first."""
        return self.request.ui_locales

    @property
    def login_hint(self) -> str:
        """Whom the app expects; an address, a user's id, or empty."""
        return self.request.login_hint

    @property
    def demands_choice(self) -> bool:
        """The user must be asked which account it is (`prompt=select_account`)."""
        return Prompt.SELECT_ACCOUNT in self.request.prompt

    @property
    def demands_two_factors(self) -> bool:
        """Nothing less than a second factor is acceptable (`acr_values`, RFC 9470)."""
        return self.request.wants_two_factors


def _id(text: str | None) -> UUID | None:
    return UUID(text) if text else None
