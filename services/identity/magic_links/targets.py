"""Where a login may return to: pages at an origin that the client allows, and nowhere else."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

from chassis.errors import FieldError
from contracts.clients import Client
from services.identity.errors import RedirectNotAllowed

CODE_PARAMETER: Final = "auth_code"
_MAX_LENGTH = 2048
# Narrow on purpose: what a browser might read another way than we do (backslashes, spaces, users) is out.
_URL = re.compile(
    r"(https?)://(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(?::([0-9]{1,5}))?([/?][!-\[\]-~]*)?", re.IGNORECASE
)
_DEFAULT_PORTS = {"http": "80", "https": "443"}


def check_target(url: str, client: Client) -> str:
    """Return a URL that a login of the client may return to, as it was given.

    Raises:
        RedirectNotAllowed: its origin is not exactly one that the client allows, or it has a fragment.
    """
    if origin_of_target(url) not in client.allowed_origins:
        fault = FieldError("redirect_url", RedirectNotAllowed.code, "It is not at an allowed origin.")
        raise RedirectNotAllowed(errors=(fault,))
    return url


def origin_of_target(url: str) -> str | None:
    """Return the origin of an absolute URL as browsers write it; None for what is none."""
    match = _URL.fullmatch(url) if len(url) <= _MAX_LENGTH and "#" not in url else None
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3]
    port = str(int(port)) if port else _DEFAULT_PORTS[scheme]
    return f"{scheme}://{host}" + ("" if port == _DEFAULT_PORTS[scheme] else f":{port}")


def with_code(url: str, code: str) -> str:
    """Return the URL with a code, which replaces one that it has."""
    parts = urlsplit(url)
    kept = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if pair[0] != CODE_PARAMETER]
    return parts._replace(path=parts.path or "/", query=urlencode([*kept, (CODE_PARAMETER, code)])).geturl()
