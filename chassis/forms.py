"""Forms of our own pages: read only when no other site sent them."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

from chassis.errors import Forbidden, InvalidRequest

_OWN_PAGES = frozenset({"same-origin", "none"})
_MAX_FIELDS = 20


async def read_form(request: Request, own_origin: str | None = None) -> dict[str, str]:
    """Return the fields of a form that one of our own pages sent, of a field that comes twice the first.

    Browsers tell who sent a form by `Sec-Fetch-Site`. Of those too old for it the `Origin` must be
    `own_origin`, where one is given.

    Raises:
        Forbidden: the browser says that another site sent it.
        InvalidRequest: it is no form.
    """
    check_own_page(request, own_origin)
    body = await request.body()
    try:
        fields = parse_qs(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_MAX_FIELDS
        )
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequest("The form cannot be read.") from None
    return {name: values[0] for name, values in fields.items()}


def check_own_page(request: Request, own_origin: str | None = None) -> None:
    """Check that no other site's page sent a request; `own_origin` is as for `read_form`.

    Raises:
        Forbidden: the browser says that one did.
    """
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    is_own = site in _OWN_PAGES if site is not None else origin is None or own_origin in (None, origin)
    if not is_own:
        raise Forbidden("This form is for our own page only.")
