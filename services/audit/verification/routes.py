"""HTTP face of verification."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Query
from pydantic import Field

from chassis.context import Access
from chassis.http import LISTED, Caller, Router
from chassis.models import AnswerModel
from chassis.outbox import Outbox
from contracts.events import AuditChainChecked
from contracts.session import Time
from services.audit.ingest.models import PLATFORM
from services.audit.verification.models import Reason, Verdict
from services.audit.verification.service import Verification

_MAX_POSITION = 2**62


class BreakView(AnswerModel):
    """Where a chain is first not as it was written, and how."""

    position: int
    reason: Reason
    event_id: UUID | None = Field(description="Of the row that stands there now, if one does.")


class ChainVerdict(AnswerModel):
    """What was checked, and whether it is as it was written."""

    intact: bool
    client_id: UUID | None = Field(description="Whose chain; null for the platform's own.")
    checked: int = Field(description="Entries that verified.")
    first_position: int
    last_position: int
    head_hash: str | None
    checkpoints_checked: int
    verified_at: Time
    broken: BreakView | None = None


def routes(verification: Verification, outbox: Outbox) -> Router:
    """The slice's routes."""
    router = Router(tag="Audit")

    @router.get(
        "/api/admin/audit-events/chain/verify",
        access=Access.ADMIN,
        permission="audit:read",
        scope=LISTED,
        limit="admin",
    )
    async def verify_chain(
        caller: Caller,
        client_id: Annotated[
            UUID | None, Query(description="Whose chain; the platform's own without it.")
        ] = None,
        from_position: Annotated[int, Query(ge=1, le=_MAX_POSITION)] = 1,
        to_position: Annotated[int | None, Query(ge=1, le=_MAX_POSITION)] = None,
    ) -> ChainVerdict:
        """Verify a client's audit chain: each row's keyed hash, the head, and the signed checkpoints.

        A chain that is not as it was written answers `intact: false` and names the first position and the
        reason. Verify a chain of millions in ranges. Errors: 422 `validation_failed`, 422 `range_reversed`.
        """
        caller.check_client_scope(client_id)
        verdict = await verification.verify(client_id or PLATFORM, from_position, to_position)
        intact = verdict.broken is None
        await outbox.append(
            AuditChainChecked(intact=intact, target_id=client_id), caller, client_id=client_id
        )
        return _view(verdict)

    return router


def _view(verdict: Verdict) -> ChainVerdict:
    broken = verdict.broken
    return ChainVerdict(
        intact=broken is None,
        client_id=None if verdict.client_id == PLATFORM else verdict.client_id,
        checked=verdict.checked,
        first_position=verdict.first_position,
        last_position=verdict.last_position,
        head_hash=verdict.head_hash.hex() if verdict.head_hash is not None else None,
        checkpoints_checked=verdict.checkpoints_checked,
        verified_at=verdict.verified_at,
        broken=BreakView(position=broken.position, reason=broken.reason, event_id=broken.event_id)
        if broken
        else None,
    )
