"""HTTP face of consents for the users who gave them."""

from __future__ import annotations

from uuid import UUID

from chassis.context import Access
from chassis.http import Caller, Router
from chassis.models import AnswerModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, Cursors, LimitParameter, Page
from contracts.session import Time
from services.federation.consents.models import Consent
from services.federation.consents.service import ConsentService


class AppView(AnswerModel):
    """The app; `id` is its OAuth `client_id`."""

    id: str
    name: str


class ConsentView(AnswerModel):
    """What the user has agreed that an app may do."""

    id: UUID
    app: AppView
    scopes: list[str]
    resources: list[str]
    granted_at: Time
    updated_at: Time


def routes(consents: ConsentService, cursors: Cursors) -> Router:
    """The slice's routes."""
    router = Router(tag="Consents")

    @router.get(
        "/api/auth/consents",
        access=Access.USER,
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list."}},
    )
    async def list_consents(
        caller: Caller, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> Page[ConsentView]:
        """List which apps may do what in the user's name, the newest first.

        Apps that the tenant trusts are not asked about, and not in the list unless they asked all the same.
        """
        scope = f"consents|{caller.client_id}|{caller.user_id}"
        before = UUID(str(cursors.read(cursor, scope)[0])) if cursor else None
        found = await consents.list(
            caller.require_client(), caller.require_user(), before=before, limit=limit + 1
        )
        shown = found[:limit]
        following = cursors.make([str(shown[-1].id)], scope) if len(found) > limit else None
        return Page(items=[_view(consent) for consent in shown], next_cursor=following)

    @router.delete(
        "/api/auth/consents/{consent_id}",
        access=Access.USER,
        status_code=204,
        responses={404: {"description": "`consent_not_found`"}},
    )
    async def withdraw_consent(consent_id: UUID, caller: Caller) -> None:
        """Take a consent back: the app's tokens of this user end, and it must ask again."""
        await consents.withdraw(caller, consent_id)

    return router


def _view(consent: Consent) -> ConsentView:
    return ConsentView(
        id=consent.id,
        app=AppView(id=consent.app_id, name=consent.app_name),
        scopes=list(consent.scopes),
        resources=list(consent.resources),
        granted_at=consent.granted_at,
        updated_at=consent.updated_at,
    )
