"""Where links in mails of `identity` lead back to the hosted login page of `federation`."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlencode
from uuid import UUID

PASSWORD_CHANGED: Final = "/login/password-changed"  # noqa: S105 - a path
"""Where the browser goes after a reset that began on the login page."""

LOGIN_LINK: Final = "/login/link"
"""Where a mailed link logs in that was asked for on the login page."""

_HANDLE: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def is_handle(text: str) -> bool:
    """Whether a text can name a request that waits at the login page; it opens nothing by itself."""
    return _HANDLE.fullmatch(text) is not None


def way_back(path: str, client_id: UUID, handle: str, **parameters: str) -> str:
    """Return a path of ours with the request that waits, and the tenant whose page that is."""
    return f"{path}?{urlencode({'request': handle, 'client_id': str(client_id), **parameters})}"
