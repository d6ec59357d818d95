"""What an ID token and the userinfo answer say of a user, by scope and by the `claims` parameter.

OpenID Connect Core §5.1 names the claims, §5.4 the scopes, §5.5 the parameter.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Final, Literal

from contracts.gen.internal.identity.v1 import users_pb2

PROFILE_CLAIMS: Final = ("name", "locale", "updated_at")
EMAIL_CLAIMS: Final = ("email", "email_verified")
PHONE_CLAIMS: Final = ("phone_number",)
USER_CLAIMS: Final = (*PROFILE_CLAIMS, *EMAIL_CLAIMS, *PHONE_CLAIMS)
"""Every claim about a user that can be had; `claims_supported` of discovery names them beside `sub`."""

_OF_SCOPE: Final = {"profile": PROFILE_CLAIMS, "email": EMAIL_CLAIMS, "phone": PHONE_CLAIMS}
SCOPE_OF: Final = {
    **dict.fromkeys(PROFILE_CLAIMS, "profile"),
    **dict.fromkeys(EMAIL_CLAIMS, "email"),
    **dict.fromkeys(PHONE_CLAIMS, "phone"),
}
"""Claim → the scope it is of (§5.4): what an app needs, and a user agrees to, also to ask for it by name."""
_MICROSECONDS: Final = 1_000_000


def requested_claims(claims_json: str, where: Literal["id_token", "userinfo"]) -> frozenset[str]:
    """Return the names that a `claims` parameter, which was checked when it came, asks for in one place."""
    if not claims_json:
        return frozenset()
    members = json.loads(claims_json).get(where)
    return frozenset(members) if isinstance(members, dict) else frozenset()


def claims_within(claims_json: str, scopes: Collection[str]) -> str:
    """Return a `claims` parameter that was checked when it came, less what is of scopes not among these."""
    if not claims_json:
        return ""
    allowed = {None, *scopes}
    asked = {
        where: {name: value for name, value in members.items() if SCOPE_OF.get(name) in allowed}
        for where, members in json.loads(claims_json).items()
        if isinstance(members, dict)
    }
    return json.dumps(asked)


def user_claims(
    user: users_pb2.User, scopes: Collection[str], requested: Collection[str] = ()
) -> dict[str, object]:
    """Return the claims about a user that scopes and a request by name allow; what is not known is absent."""
    names = {name for scope in scopes for name in _OF_SCOPE.get(scope, ())} | set(requested)
    known: dict[str, object] = {
        "name": user.display_name,
        "locale": user.locale,
        "updated_at": user.updated_at // _MICROSECONDS,
        "email": user.email,
        "email_verified": user.email_verified,
        "phone_number": user.phone,
    }
    return {name: value for name, value in known.items() if name in names and value != ""}
