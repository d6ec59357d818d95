"""HTTP face of clients."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query

from chassis.context import Access
from chassis.http import LISTED, Caller, Router
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter, Page
from services.orgs.clients.models import ClientStatus
from services.orgs.clients.requests import CreateClientRequest, UpdateClientRequest
from services.orgs.clients.service import ClientService
from services.orgs.clients.views import ClientCreatedView, ClientView

SearchParameter = Annotated[
    str | None,
    Query(min_length=1, max_length=120, pattern=r"^[^\x00]+$", description="Part of the name or the slug."),
]
StatusParameter = Annotated[ClientStatus | None, Query(description="Only clients with this status.")]


def routes(clients: ClientService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: clients")

    @router.get(
        "/api/admin/clients",
        access=Access.ADMIN,
        scope=LISTED,
        permission="clients:read",
        limit="admin",
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list."}},
    )
    async def list_clients(
        caller: Caller,
        q: SearchParameter = None,
        status: StatusParameter = None,
        limit: LimitParameter = DEFAULT_LIMIT,
        cursor: CursorParameter = None,
    ) -> Page[ClientView]:
        """List clients, the newest first; an admin of some clients sees those."""
        found, following = await clients.page(caller, search=q, status=status, limit=limit, cursor=cursor)
        return Page(items=[ClientView.of(client) for client in found], next_cursor=following)

    @router.post(
        "/api/admin/clients",
        access=Access.ADMIN,
        permission="clients:write",
        limit="admin",
        idempotent=True,
        status_code=201,
        responses={
            409: {
                "description": "`slug_taken`: another client has the slug; `audience_taken`: or a resource."
            }
        },
    )
    async def create_client(request: CreateClientRequest, caller: Caller) -> ClientCreatedView:
        """Create a client with one secret and one publishable API key, both shown only here.

        Without a slug one is made of the name. `settings` is any JSON object of at most 32 KiB.
        """
        created = await clients.create(caller, request)
        return ClientCreatedView(
            client=ClientView.of(created.client),
            api_key=created.secret_key.raw,
            publishable_key=created.publishable_key.raw,
        )

    @router.get(
        "/api/admin/clients/{client_id}",
        access=Access.ADMIN,
        permission="clients:read",
        limit="admin",
        responses={404: {"description": "`client_not_found`"}},
    )
    async def get_client(client_id: UUID) -> ClientView:
        """Answer a client. Keys are never shown again, and settings that hold secrets are masked."""
        return ClientView.of(await clients.get(client_id))

    @router.patch(
        "/api/admin/clients/{client_id}",
        access=Access.ADMIN,
        permission="clients:write",
        limit="admin",
        responses={
            404: {"description": "`client_not_found`"},
            409: {
                "description": "`token_mode_downgrade`: needs `allow_token_mode_downgrade: true`;"
                " `audience_taken`: another client has a resource."
            },
        },
    )
    async def update_client(client_id: UUID, request: UpdateClientRequest, caller: Caller) -> ClientView:
        """Change a client: members that are not sent stay as they are.

        `settings` is merged at its top level and null removes a member. A suspended client's keys and tokens
        open nothing, from the moment of this answer. `id`, `slug` and keys cannot be changed and are ignored.
        """
        return ClientView.of(await clients.update(caller, client_id, request))

    return router
