"""HTTP face of single signing keys, of a client and of the issuer: which there are, and their revocation."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import Path
from pydantic import Field

from chassis.context import Access
from chassis.http import Caller, Router, StepUpToken
from chassis.models import AnswerModel
from contracts.session import Time
from contracts.step_up import REFUSALS
from services.token.signing.models import KeyStatus, RevokedKey, SigningKey
from services.token.signing.service import SigningService

Kid = Annotated[str, Path(max_length=64, description="Name of the key, as in the header of its tokens.")]


class SigningKeyView(AnswerModel):
    """A signing key; its private half is never shown."""

    kid: str
    alg: str
    status: KeyStatus = Field(
        description="`active` signs, `next` takes over, `retiring` is published for the tokens it has signed."
    )
    created_at: Time = Field(description="Since when it is published.")
    activated_at: Time | None = Field(description="Since when it signs.")
    due_at: Time | None = Field(description="When the schedule lets the next key take over.")
    retires_at: Time | None = Field(description="Until when it is published.")


class SigningKeyList(AnswerModel):
    """Signing keys: what signs first."""

    items: list[SigningKeyView]


class SigningKeyRevokedView(AnswerModel):
    """A revoked key, where it stood, and its owner's keys since then."""

    kid: str
    alg: str
    status: KeyStatus
    active_kid: str | None
    next_kid: str | None


def declare_keys(router: Router, signing: SigningService) -> None:
    """Declare the routes."""
    _declare_lists(router, signing)
    _declare_revocation(router, signing)


def _declare_lists(router: Router, signing: SigningService) -> None:
    @router.get(
        "/api/admin/clients/{client_id}/signing-keys",
        access=Access.ADMIN,
        permission="keys:read",
        limit="admin",
        responses={404: {"description": "`client_not_found`"}},
    )
    async def list_signing_keys(client_id: UUID, _caller: Caller) -> SigningKeyList:
        """Answer the client's signing keys; none where its tokens are signed with its JWT secret."""
        return _list(await signing.signing_keys(client_id))

    @router.get("/api/admin/signing-keys", access=Access.ADMIN, permission="keys:read", limit="admin")
    async def list_issuer_keys(_caller: Caller) -> SigningKeyList:
        """Answer the issuer's own keys, which sign ID tokens and logout tokens and never an access token."""
        return _list(await signing.signing_keys(None))


def _declare_revocation(router: Router, signing: SigningService) -> None:
    @router.post(
        "/api/admin/clients/{client_id}/signing-keys/{kid}/revoke",
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        idempotent=True,
        responses={**REFUSALS, 404: {"description": "`client_not_found`, `signing_key_not_found`"}},
    )
    async def revoke_signing_key(
        client_id: UUID, kid: Kid, caller: Caller, step_up_token: StepUpToken
    ) -> SigningKeyRevokedView:
        """Destroy a signing key that somebody else may have, and with it every token that it has signed.

        It signs nothing more and is published no longer. Gateways and validators that follow revocations
        refuse its tokens within a second; others when they next fetch the key set, after five minutes at
        most. The next key takes the place of an active one at once, and a new next key is made. Sessions go
        on: a refresh gets a token under the key that took over. Is the next key suspect too, revoke it first.
        """
        return _view(await signing.revoke_signing_key(caller, client_id, kid, step_up_token=step_up_token))

    @router.post(
        "/api/admin/signing-keys/{kid}/revoke",
        access=Access.ADMIN,
        permission="keys:write",
        limit="admin",
        idempotent=True,
        responses={**REFUSALS, 404: {"description": "`signing_key_not_found`"}},
    )
    async def revoke_issuer_key(
        kid: Kid, caller: Caller, step_up_token: StepUpToken
    ) -> SigningKeyRevokedView:
        """Destroy one of the issuer's own keys; relying parties that fetch the key set know it no longer."""
        return _view(await signing.revoke_signing_key(caller, None, kid, step_up_token=step_up_token))


def _list(keys: list[SigningKey]) -> SigningKeyList:
    return SigningKeyList(
        items=[
            SigningKeyView(
                kid=key.kid,
                alg=key.alg,
                status=key.status,
                created_at=key.created_at,
                activated_at=key.activated_at,
                due_at=key.due_at,
                retires_at=key.retires_at,
            )
            for key in keys
        ]
    )


def _view(revoked: RevokedKey) -> SigningKeyRevokedView:
    return SigningKeyRevokedView(
        kid=revoked.kid,
        alg=revoked.algorithm,
        status=revoked.status,
        active_kid=revoked.active_kid,
        next_kid=revoked.next_kid,
    )
