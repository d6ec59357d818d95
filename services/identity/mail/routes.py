"""HTTP face of the inbox of development; it does not exist in production."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

from fastapi import Query
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from chassis.context import Access
from chassis.database import Database
from chassis.errors import NotFound
from chassis.http import Router
from chassis.models import AnswerModel
from contracts.session import Time
from services.identity.mail import store
from services.identity.mail.models import InboxMail

_SHOWN = 100
_ELSEWHERE: dict[int | str, dict[str, Any]] = {
    404: {"description": "`not_found`: mail is sent here, or this is production"}
}
_PAGE: dict[int | str, dict[str, Any]] = {
    200: {"description": "The page.", "content": {"text/html": {"schema": {"type": "string"}}}}
}
_POLICY = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"


class MailView(AnswerModel):
    """A mail that would have been sent."""

    id: UUID
    client_id: UUID
    kind: str
    to: str
    sender: str
    subject: str
    text: str
    html: str
    created_at: Time


class MailList(AnswerModel):
    """The last mails, the newest first."""

    items: list[MailView]


def routes(db: Database, *, is_local: bool) -> Router:
    """The inbox's routes; they answer 404 unless mail stays on this machine."""
    router = Router(tag="Development")
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
    )

    async def last(to: str | None) -> list[InboxMail]:
        if not is_local:
            raise NotFound
        async with db.platform() as tx:
            return await store.inbox(tx, to, _SHOWN)

    @router.get(
        "/dev/mail",
        access=Access.PUBLIC,
        limit="public",
        response_model=None,
        responses={**_PAGE, **_ELSEWHERE},
    )
    async def show_inbox() -> HTMLResponse:
        """Show the last 100 mails as a page; development only."""
        page = templates.get_template("inbox.html").render(mails=await last(None))
        headers = {"content-security-policy": _POLICY, "referrer-policy": "no-referrer"}
        return HTMLResponse(page, headers=headers)

    @router.get("/dev/mail/messages", access=Access.PUBLIC, limit="public", responses=_ELSEWHERE)
    async def list_mail(
        to: Annotated[
            str | None, Query(max_length=320, pattern="^[^\\x00]*$", description="Only to this address.")
        ] = None,
    ) -> MailList:
        """Return the last 100 mails, the newest first; development only."""
        return MailList(items=[_view(mail) for mail in await last(to)])

    return router


def _view(mail: InboxMail) -> MailView:
    return MailView(
        id=mail.id,
        client_id=mail.client_id,
        kind=mail.kind,
        to=mail.recipient,
        sender=mail.sender,
        subject=mail.subject,
        text=mail.text,
        html=mail.html,
        created_at=mail.created_at,
    )
