"""HTTP face of the user's own profile."""

from __future__ import annotations

from typing import Any

from fastapi import Request, Response

from chassis.context import Access
from chassis.http import KIB, Caller, Router, json_answer
from chassis.models import RequestModel
from contracts.session import UserView, user_view
from services.identity.users.encoding import encode_user
from services.identity.users.fields import DisplayName, Locale, Metadata, Phone
from services.identity.users.service import ProfileService

_REFUSALS: dict[int | str, dict[str, Any]] = {401: {"description": "`unauthenticated`"}}


class ProfileRequest(RequestModel):
    """The fields to change; those left out stay, `locale` and `phone` may be null."""

    display_name: DisplayName | None = None
    metadata: Metadata | None = None
    locale: Locale | None = None
    phone: Phone | None = None


def routes(profiles: ProfileService) -> Router:
    """The slice's routes."""
    router = Router(tag="Profile")

    async def at_hand(request: Request, _body: bytes) -> Response:
        return json_answer(user_view(encode_user(await profiles.get(request.scope["caller"]))))

    @router.get("/api/auth/me", access=Access.USER, shortcut=at_hand, responses=_REFUSALS)
    async def get_me(caller: Caller) -> UserView:
        """Return the profile of the user whom the access token names."""
        return user_view(encode_user(await profiles.get(caller)))

    @router.patch(
        "/api/auth/me",
        access=Access.USER,
        impersonation=True,
        body_limit=16 * KIB,
        responses={
            **_REFUSALS,
            422: {"description": "`validation_failed`: a field breaks its rule, or none is named"},
        },
    )
    async def patch_me(change: ProfileRequest, caller: Caller) -> UserView:
        """Change the own `display_name`, `metadata`, `locale` or `phone`; other members are ignored.

        `metadata` is replaced as a whole: an object of at most 8 KiB and 8 levels. `locale` is a language tag
        (BCP 47), `phone` an international number (E.164); null removes either.
        """
        fields = {name: getattr(change, name) for name in change.model_fields_set}
        return user_view(encode_user(await profiles.change(caller, fields)))

    return router
