"""Clients as administrators see them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from chassis.models import AnswerModel
from contracts.clients import TokenMode
from contracts.session import Time
from services.orgs.clients.documents import masked_for_reading
from services.orgs.clients.models import Client, ClientStatus


class ClientView(AnswerModel):
    """A client (tenant). Settings that hold secrets are shown as `********`; sending that back keeps them."""

    id: UUID
    name: str
    slug: str
    status: ClientStatus
    token_mode: TokenMode
    allowed_origins: list[str]
    webhook_url: str | None
    settings: dict[str, Any]
    cell: str
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, client: Client) -> ClientView:
        """Show a client."""
        return cls(
            id=client.id,
            name=client.name,
            slug=client.slug,
            status=client.status,
            token_mode=client.token_mode,
            allowed_origins=list(client.allowed_origins),
            webhook_url=client.webhook_url,
            settings=masked_for_reading(client.settings),
            cell=client.cell,
            created_at=client.created_at,
            updated_at=client.updated_at,
        )


class ClientCreatedView(AnswerModel):
    """A new client with its first keys, which are shown here and never again."""

    client: ClientView
    api_key: str = Field(description="The secret key, for servers. Shown once.")
    publishable_key: str = Field(description="The publishable key, for browsers and apps. Shown once.")
