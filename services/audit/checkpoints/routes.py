"""HTTP face of the checkpoints."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field

from chassis.context import Access
from chassis.http import LISTED, Caller, Router
from chassis.models import AnswerModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter
from contracts.session import Time
from services.audit.checkpoints.models import Checkpoint
from services.audit.checkpoints.service import Checkpoints
from services.audit.ingest.models import PLATFORM


class CheckpointView(AnswerModel):
    """A signed checkpoint."""

    client_id: UUID | None = Field(description="Whose chain; null for the platform's own.")
    position: int
    hash: str = Field(description="The chain's hash at the position, hexadecimal.")
    created_at: Time
    kid: str = Field(description="Which of `keys` signed it.")
    signed: str = Field(
        description="JWS (compact, EdDSA) of `chain`, `position`, `hash`, `created_at` and `previous`, the "
        "SHA-256 of the chain's preceding `signed`."
    )


class PublicKey(AnswerModel):
    """A public key as JWK (RFC 8037)."""

    kty: str
    crv: str
    x: str
    kid: str
    alg: str
    use: str


class CheckpointPage(AnswerModel):
    """One page of checkpoints, and the public keys that verify them."""

    items: list[CheckpointView]
    next_cursor: str | None = None
    keys: list[PublicKey]


def routes(checkpoints: Checkpoints) -> Router:
    """The slice's routes."""
    router = Router(tag="Audit")

    @router.get(
        "/api/admin/audit-events/checkpoints",
        access=Access.ADMIN,
        permission="audit:read",
        scope=LISTED,
        limit="admin",
        responses={400: {"description": "`invalid_cursor`: not a cursor of this list."}},
    )
    async def list_checkpoints(
        caller: Caller,
        client_id: Annotated[
            UUID | None, Query(description="Of this client's chain; of all chains without it.")
        ] = None,
        limit: LimitParameter = DEFAULT_LIMIT,
        cursor: CursorParameter = None,
    ) -> CheckpointPage:
        """List signed checkpoints of the audit chains, newest first.

        Keep them elsewhere: whoever rewrites the log later, with whatever access, contradicts them. Errors:
        400 `invalid_cursor`, 422 `validation_failed`.
        """
        if client_id is not None:
            caller.check_client_scope(client_id)
        within = caller.client_scope if client_id is None else frozenset({client_id})
        found, next_cursor = await checkpoints.page(within, limit, cursor)
        key = await checkpoints.key()
        return CheckpointPage(
            items=[_view(checkpoint) for checkpoint in found],
            next_cursor=next_cursor,
            keys=[PublicKey(**key.jwk)],
        )

    return router


def _view(checkpoint: Checkpoint) -> CheckpointView:
    return CheckpointView(
        client_id=None if checkpoint.client_id == PLATFORM else checkpoint.client_id,
        position=checkpoint.position,
        hash=checkpoint.hash.hex(),
        created_at=checkpoint.created_at,
        kid=checkpoint.kid,
        signed=checkpoint.signed,
    )
