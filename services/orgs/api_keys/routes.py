"""HTTP face of API keys."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

from pydantic import AwareDatetime, Field

from chassis.context import Access, KeyKind
from chassis.http import Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter, Page
from contracts.session import Time
from contracts.step_up import REFUSALS
from services.orgs.api_keys.models import ApiKey, KeyStatus
from services.orgs.api_keys.service import ApiKeyService
from services.orgs.clients.requests import Name

MAX_GRACE_SECONDS = 7 * 86400

GraceSeconds = Annotated[
    int, Field(ge=0, le=MAX_GRACE_SECONDS, strict=True, description="Seconds the old keys go on working.")
]


class CreateApiKeyRequest(RequestModel):
    """A new key: `secret` for servers, `publishable` for browsers and apps; without end by default."""

    name: Name
    kind: KeyKind = KeyKind.SECRET
    expires_at: AwareDatetime | None = None


class RotateApiKeyRequest(RequestModel):
    """How long the old secret keys go on working; by default they die at once."""

    grace_seconds: GraceSeconds = 0


class ApiKeyView(AnswerModel):
    """A key, without what makes it one. `last_used_at` is exact to a minute or two."""

    id: UUID
    client_id: UUID
    kind: KeyKind
    name: str
    prefix: str
    status: KeyStatus
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None

    @classmethod
    def of(cls, key: ApiKey, now: datetime) -> ApiKeyView:
        """Show a key."""
        return cls(
            id=key.id,
            client_id=key.client_id,
            kind=key.kind,
            name=key.name,
            prefix=key.prefix,
            status=key.status(now),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
        )


class ApiKeyCreatedView(AnswerModel):
    """A new key."""

    key: ApiKeyView
    api_key: str = Field(description="The key itself. Shown once.")


class ApiKeyRotatedView(AnswerModel):
    """The secret key that replaces the others."""

    api_key: str = Field(description="The key itself. Shown once.")


def routes(api_keys: ApiKeyService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: API keys")
    keys_path = "/api/admin/clients/{client_id}/api-keys"

    @router.get(
        keys_path,
        access=Access.ADMIN,
        permission="keys:read",
        limit="admin",
        responses={
            400: {"description": "`invalid_cursor`: not a cursor of this list."},
            404: {"description": "`client_not_found`"},
        },
    )
    async def list_api_keys(
        client_id: UUID, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> Page[ApiKeyView]:
        """List a client's API keys, dead ones too, the newest first."""
        found, following = await api_keys.page(client_id, limit=limit, cursor=cursor)
        return Page(items=[ApiKeyView.of(key, api_keys.now()) for key in found], next_cursor=following)

    @router.post(
        keys_path,
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        idempotent=True,
        status_code=201,
        responses={
            **REFUSALS,
            404: {"description": "`client_not_found`"},
            409: {"description": "`too_many_api_keys`: revoke one first."},
        },
    )
    async def create_api_key(
        client_id: UUID, request: CreateApiKeyRequest, caller: Caller, step_up_token: StepUpToken
    ) -> ApiKeyCreatedView:
        """Add an API key to a client. The key itself is shown only here."""
        new = await api_keys.create(
            caller,
            client_id,
            name=request.name,
            kind=request.kind,
            expires_at=request.expires_at,
            step_up_token=step_up_token,
        )
        return ApiKeyCreatedView(key=ApiKeyView.of(new.key, api_keys.now()), api_key=new.raw)

    @router.delete(
        keys_path + "/{key_id}",
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        status_code=204,
        responses={
            **REFUSALS,
            404: {"description": "`api_key_not_found`: the client has no such key, or not any more."},
        },
    )
    async def revoke_api_key(
        client_id: UUID, key_id: UUID, caller: Caller, step_up_token: StepUpToken
    ) -> None:
        """Revoke an API key: it opens nothing from the moment of this answer."""
        await api_keys.revoke(caller, client_id, key_id, step_up_token=step_up_token)

    async def rotate_api_key(
        client_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        request: RotateApiKeyRequest | None = None,
    ) -> ApiKeyRotatedView:
        """Replace all secret keys of a client by a new one, shown only here.

        The old ones die at once, or after `grace_seconds`. Publishable keys stay. `rotate-key` is an alias.
        """
        wanted = request or RotateApiKeyRequest()
        new = await api_keys.rotate(
            caller, client_id, grace=timedelta(seconds=wanted.grace_seconds), step_up_token=step_up_token
        )
        return ApiKeyRotatedView(api_key=new.raw)

    for name in ("rotate-api-key", "rotate-key"):
        router.post(
            f"/api/admin/clients/{{client_id}}/{name}",
            access=Access.ADMIN,
            permission="keys:write",
            limit="admin",
            idempotent=True,
            responses={**REFUSALS, 404: {"description": "`client_not_found`"}},
        )(rotate_api_key)

    return router
