"""Forms of our own pages: read only when no other site sent them."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

from chassis.errors import Forbidden, InvalidRequest

_OWN_PAGES = frozenset({"same-origin", "none"})
_MAX_FIELDS = 20


async def read_form(request: Request) -> dict[str, str]:
    """Return the fields of a form that one of our own pages sent, of a field that comes twice the first.

    Raises:
        Forbidden: the browser says that another site sent it.
        InvalidRequest: it is no form.
    """
    check_own_page(request)
    body = await request.body()
    try:
        fields = parse_qs(
            body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=_MAX_FIELDS
        )
    except (ValueError, UnicodeDecodeError):
        raise InvalidRequest("The form cannot be read.") from None
    return {name: values[0] for name, values in fields.items()}


def check_own_page(request: Request) -> None:
    """Check that no other site's page sent a request (Fetch Metadata, `Sec-Fetch-Site`).

    A browser too old to say so, and a program, pass: what a form changes must also need a secret of its own.

    Raises:
        Forbidden: the browser says that one did.
    """
    if request.headers.get("sec-fetch-site", "none") not in _OWN_PAGES:
        raise Forbidden("This form is for our own page only.")
