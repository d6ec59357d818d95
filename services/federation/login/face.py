"""What the routes of the hosted login share: the shape of their forms and answers, and what answers them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import Query, Request, Response
from fastapi.responses import RedirectResponse

from chassis.context import CallerContext
from chassis.forms import read_form
from services.federation.authorize.parameters import FORM
from services.federation.login.browsers import Browsers
from services.federation.login.faults import headers_of, status_of
from services.federation.login.service import Completed, Moved, Next, Visit
from services.federation.pages.contents import Page, RecoveryPage, Refusal
from services.federation.pages.render import languages_of, render

NO_STORE: Final = {"cache-control": "no-store", "referrer-policy": "no-referrer"}

_HTML: Final = {"text/html": {"schema": {"type": "string"}}}
SHOWN: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The page.", "content": _HTML},
    400: {"description": "A page: the request is answered, too old, or another browser's", "content": _HTML},
}
SHOWN_OR_MOVED: Final[dict[int | str, dict[str, Any]]] = {
    **SHOWN,
    303: {"description": "To the page of ours that comes first, or instead."},
}
FORM_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    **SHOWN,
    303: {"description": "On to the next page, or to the app."},
    403: {"description": "A page: the form is not our own, or the login was blocked", "content": _HTML},
    422: {"description": "The page again, with what was wrong", "content": _HTML},
    429: {"description": "The page again, with when to try again (`Retry-After`)", "content": _HTML},
    503: {"description": "A page: try again shortly", "content": _HTML},
}
Handle = Annotated[str, Query(alias="request", description="Names the request that waits.")]


def form_body(*fields: str) -> dict[str, Any]:
    """Describe a form of a page; `request` and `form_token` are part of every one."""
    properties = {name: {"type": "string"} for name in ("request", "form_token", *fields)}
    schema = {"type": "object", "required": ["request", "form_token"], "properties": properties}
    return {"required": True, "content": {FORM: {"schema": schema}}}


class Face:
    """Turns what the rules say into answers."""

    def __init__(self, browsers: Browsers) -> None:
        """Take who knows the pages of browsers."""
        self.browsers = browsers

    async def submitted(self, request: Request, caller: CallerContext) -> tuple[Visit, Mapping[str, str]]:
        """Return the visit that a form of a page belongs to, and the form; raises as `Browsers.submitted`."""
        form = await read_form(request)
        name, token = form.get("request", ""), form.get("form_token", "")
        return await self.browsers.submitted(request, caller, name, token), form

    def shown(self, visit: Visit, page: Page) -> Response:
        """Render a page."""
        refusal: Refusal | None = getattr(page, "refusal", None)
        languages = languages_of(visit.request, visit.waiting.languages)
        response = render(page, visit.waiting.client, languages, status=status_of(refusal))
        response.headers.update(headers_of(refusal))
        return response

    def next(self, visit: Visit, result: Next) -> Response:
        """Answer a form."""
        match result:
            case Completed():
                response = result.response
                if result.device_token:
                    self.browsers.devices.set(response, visit.client_id, result.device_token)
                if result.recovery_codes:
                    page = RecoveryPage(result.recovery_codes, response.headers["location"])
                    return with_cookies(self.shown(visit, page), response)
                return response
            case Moved():
                return RedirectResponse(result.path, status_code=303, headers=NO_STORE)
            case _:
                return self.shown(visit, result)


def with_cookies(answer: Response, carrier: Response) -> Response:
    """Return an answer that also sets the cookies of another."""
    answer.raw_headers += [pair for pair in carrier.raw_headers if pair[0] == b"set-cookie"]
    return answer
