"""Names of authenticators by AAGUID, from the committed table beside this module."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from uuid import UUID

_FILE = Path(__file__).with_name("authenticators.txt")


def authenticator_name(aaguid: UUID) -> str | None:
    """Return the name of the maker or model, None for one that is not in the table or does not tell."""
    return _names().get(aaguid)


@cache
def _names() -> dict[UUID, str]:
    lines = _FILE.read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" ", 1) for line in lines if line and not line.startswith("#"))
    return {UUID(aaguid): name for aaguid, name in pairs}
