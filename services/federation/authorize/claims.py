"""The `claims` parameter (OpenID Connect Core §5.5): bounded, and what it says of the login itself."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from contracts.oidc_claims import SCOPE_OF
from services.federation.authorize.answers import AuthorizationRefused

_TARGETS: Final = ("id_token", "userinfo")
_MAX_CLAIMS: Final = 50
_MAX_VALUES: Final = 20


@dataclass(frozen=True, slots=True)
class RequestedClaims:
    """`text` is the parameter as it is kept. `sub` is the only user who will do, `acr_values` such logins.

    `scopes` are those that what is asked for by name is of.
    """

    text: str = ""
    scopes: tuple[str, ...] = ()
    sub: str | None = None
    acr_values: tuple[str, ...] = ()
    is_acr_essential: bool = False

    @property
    def user_id(self) -> UUID | None:
        """The only user who will do; None for any. What is no id of ours is an id that nobody has."""
        try:
            return UUID(self.sub) if self.sub is not None else None
        except ValueError:
            return UUID(int=0)


def read_claims(text: str, allowed_scopes: Collection[str]) -> RequestedClaims:
    """Read the parameter; claims that nobody knows, or that the app may not have, are ignored.

    Raises:
        AuthorizationRefused: `invalid_request`: it is not of the form that the specification gives.
    """
    if not text:
        return RequestedClaims()
    try:
        document = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _malformed() from None
    if not isinstance(document, dict):
        raise _malformed()
    asked = {name: _target(document[name]) for name in _TARGETS if document.get(name) is not None}
    targets = {
        where: {
            name: wish for name, wish in wishes.items() if SCOPE_OF.get(name, "") in ("", *allowed_scopes)
        }
        for where, wishes in asked.items()
    }
    of_id_token = targets.get("id_token", {})
    acr = of_id_token.get("acr") or {}
    return RequestedClaims(
        text=json.dumps(targets, separators=(",", ":")),
        scopes=tuple(
            {SCOPE_OF[name]: None for wishes in targets.values() for name in wishes if name in SCOPE_OF}
        ),
        sub=next((_sub(target) for target in targets.values() if _sub(target) is not None), None),
        acr_values=tuple(value for value in _values(acr) if isinstance(value, str)),
        is_acr_essential=acr.get("essential") is True,
    )


def _target(members: object) -> dict[str, dict[str, Any] | None]:
    if not isinstance(members, dict) or len(members) > _MAX_CLAIMS:
        raise _malformed()
    for wish in members.values():
        if wish is not None and not isinstance(wish, dict):
            raise _malformed()
        if wish is not None and len(_values(wish)) > _MAX_VALUES:
            raise _malformed()
    return members


def _values(wish: Mapping[str, Any]) -> list[Any]:
    values = wish.get("values", [])
    if not isinstance(values, list):
        raise _malformed()
    return [wish["value"], *values] if "value" in wish else values


def _sub(target: Mapping[str, dict[str, Any] | None]) -> str | None:
    found = (target.get("sub") or {}).get("value")
    if found is not None and not isinstance(found, str):
        raise _malformed()
    return found


def _refuse(constant: str) -> float:
    raise ValueError(constant)


def _malformed() -> AuthorizationRefused:
    return AuthorizationRefused("invalid_request", "The claims parameter is malformed.")
