"""The rules of logout: what a request may be believed, and when the user is asked first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from prometheus_client import Counter

from chassis.context import CallerContext
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App, AppDirectory, is_document_url
from services.federation.authorize.parameters import Parameters
from services.federation.grants import Grants
from services.federation.issuer_sessions.models import Login
from services.federation.logout.models import Hint, LogoutRequest

_MAX_LANGUAGES: Final = 10

LOGOUTS = Counter("logouts_total", "Requests to log out, by what came of them.", ["outcome"])


class LogoutService:
    """Reads requests. Nothing that it cannot believe ends anything, or leads anywhere."""

    def __init__(self, outbox: Outbox, apps: AppDirectory, grants: Grants) -> None:
        """Take who knows apps, and who reads ID tokens."""
        self._outbox = outbox
        self._apps = apps
        self._grants = grants

    async def read(
        self, caller: CallerContext, parameters: Parameters, tenants: frozenset[UUID]
    ) -> LogoutRequest:
        """Return what a request may be believed; `tenants` are those at which the browser is logged in.

        An `id_token_hint` counts when it is an ID token of ours, expired or not, for the app that a
        `client_id` beside it names. A redirect URI counts when it is registered for the app letter for
        letter (§3); of an app that is not active none is. Whatever does not count is as if it was not sent,
        and on record.

        Raises:
            Unavailable: it cannot be told now.
        """
        languages = parameters.words("ui_locales")[:_MAX_LANGUAGES]
        claims = await self._claims(caller, parameters)
        app = await self._app(str(claims["aud"]) if claims else parameters.get("client_id"), tenants)
        if app is None:
            if parameters.get("post_logout_redirect_uri"):
                await self._record(caller, None, "app_unknown")
            return LogoutRequest(languages=languages)
        asked = parameters.get("post_logout_redirect_uri")
        if asked and not (app.is_usable and asked in app.post_logout_redirect_uris):
            # Who asks for that is not to be believed in the rest either: the user is asked.
            await self._record(caller, app, "redirect_uri")
            return LogoutRequest(app.id, app.client.id, languages=languages)
        state = parameters.values.get("state")
        return LogoutRequest(app.id, app.client.id, _hint(claims), asked, state, languages)

    def is_certain(self, request: LogoutRequest, login: Login) -> bool:
        """Whether the user need not be asked: the app has shown the ID token of this very login."""
        hint = request.hint
        return hint is not None and (hint.user_id, hint.session_id) == (login.user_id, login.session_id)

    async def app_of(self, request: LogoutRequest) -> App | None:
        """Return the app of a request as it is now."""
        if not request.app_id or request.client_id is None:
            return None
        return await self._apps.find(request.app_id, client_id=request.client_id)

    async def _claims(self, caller: CallerContext, parameters: Parameters) -> Mapping[str, Any] | None:
        token = parameters.get("id_token_hint")
        if not token:
            return None
        claims = await self._grants.read_id_token(token)
        named = parameters.get("client_id")
        if claims is None or not isinstance(claims.get("aud"), str) or named not in ("", claims["aud"]):
            await self._record(caller, None, "id_token_hint")
            return None
        return claims

    async def _app(self, app_id: str, tenants: frozenset[UUID]) -> App | None:
        """Return an app; one that is a document is looked for at the tenants where the browser is known."""
        if not is_document_url(app_id):
            return await self._apps.find(app_id)
        found = [await self._apps.find(app_id, client_id=client_id) for client_id in sorted(tenants)]
        return next((app for app in found if app is not None), None)

    async def _record(self, caller: CallerContext, app: App | None, reason: str) -> None:
        LOGOUTS.labels("not_believed").inc()
        refused = events.LogoutRefused(target_id=app.id if app else None, reason=reason)
        await self._outbox.append(refused, caller, client_id=app.client.id if app else None)


def _hint(claims: Mapping[str, Any] | None) -> Hint | None:
    if claims is None:
        return None
    try:
        return Hint(UUID(str(claims["sub"])), UUID(str(claims["sid"])))
    except (KeyError, ValueError):
        return None
