"""HTTP face of service accounts and their secrets, for admins."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.models import AnswerModel, RequestModel
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter, Page
from contracts.assertion_keys import check_assertion_keys
from contracts.session import Time
from contracts.step_up import REFUSALS
from services.token.service_accounts.models import (
    KeyStatus,
    ServiceAccount,
    ServiceAccountKey,
    ServiceAccountStatus,
)
from services.token.service_accounts.service import AccountFields, ServiceAccountService

MAX_GRACE_SECONDS = 7 * 86400
_MAX_SCOPES = 100
# RFC 6749 §3.3, bounded.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def _check_text(value: str) -> str:
    if _CONTROL.search(value):
        raise PydanticCustomError("text_invalid", "must not contain control or invisible characters")
    return value


def _check_scopes(value: list[str]) -> list[str]:
    for scope in value:
        if not _SCOPE.fullmatch(scope):
            raise PydanticCustomError("scope_invalid", "holds a scope that RFC 6749 §3.3 does not allow")
    return sorted(set(value))


Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=120), AfterValidator(_check_text)
]
Description = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=1000), AfterValidator(_check_text)
]
Scopes = Annotated[list[str], Field(max_length=_MAX_SCOPES), AfterValidator(_check_scopes)]
Jwks = Annotated[
    dict[str, Any] | None,
    Field(description="Public keys (RFC 7517) that `private_key_jwt` assertions are signed with."),
    AfterValidator(check_assertion_keys),
]
GraceSeconds = Annotated[
    int, Field(ge=0, le=MAX_GRACE_SECONDS, strict=True, description="Seconds the old key goes on working.")
]


class CreateServiceAccountRequest(RequestModel):
    """A new service account; `scopes` are all it may ever ask for."""

    name: Name
    description: Description = ""
    scopes: Scopes = Field(default=[])
    jwks: Jwks = None


class UpdateServiceAccountRequest(RequestModel):
    """Changes of a service account: only members that are sent change anything."""

    # Factories instead of `| None`: absent is fine, null is not; which were sent is in `model_fields_set`.
    name: Name = Field(default_factory=str)
    description: Description = Field(default_factory=str)
    scopes: Scopes = Field(default_factory=list)
    status: ServiceAccountStatus = Field(default_factory=lambda: ServiceAccountStatus.ACTIVE)
    jwks: Jwks = None

    @model_validator(mode="after")
    def _refuse_empty(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty_patch", "must change at least one field")
        return self

    def changes(self) -> dict[str, Any]:
        """Return what was sent, as `ServiceAccount` calls it."""
        sent = {name: getattr(self, name) for name in self.model_fields_set}
        if "scopes" in sent:
            sent["scopes"] = tuple(sent["scopes"])
        if "jwks" in sent:
            sent["jwks_json"] = _jwks_json(sent.pop("jwks"))
        return sent


class CreateKeyRequest(RequestModel):
    """Another secret; without end by default."""

    name: Name = "key"
    expires_at: AwareDatetime | None = None


class RotateKeyRequest(RequestModel):
    """How long the old secret goes on working; by default it dies at once, and its tokens with it."""

    grace_seconds: GraceSeconds = 0


class ServiceAccountView(AnswerModel):
    """A service account. Its `id` is the `client_id` of the token endpoint."""

    id: UUID
    client_id: UUID
    name: str
    description: str
    scopes: list[str]
    status: ServiceAccountStatus
    jwks: dict[str, Any] | None
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, account: ServiceAccount) -> ServiceAccountView:
        """Show an account."""
        return cls(
            id=account.id,
            client_id=account.client_id,
            name=account.name,
            description=account.description,
            scopes=list(account.scopes),
            status=account.status,
            jwks=json.loads(account.jwks_json) if account.jwks_json else None,
            created_at=account.created_at,
            updated_at=account.updated_at,
        )


class ServiceAccountKeyView(AnswerModel):
    """A secret, without what makes it one. `last_used_at` is exact to a minute or two."""

    id: UUID
    name: str
    prefix: str
    status: KeyStatus
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None

    @classmethod
    def of(cls, key: ServiceAccountKey, now: datetime) -> ServiceAccountKeyView:
        """Show a secret."""
        return cls(
            id=key.id,
            name=key.name,
            prefix=key.prefix,
            status=key.status(now),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            last_used_at=key.last_used_at,
        )


class ServiceAccountCreatedView(AnswerModel):
    """A new service account and its first secret."""

    service_account: ServiceAccountView
    key: ServiceAccountKeyView
    client_secret: str = Field(description="The secret itself. Shown once.")


class KeyCreatedView(AnswerModel):
    """A new secret."""

    key: ServiceAccountKeyView
    client_secret: str = Field(description="The secret itself. Shown once.")


class KeyList(AnswerModel):
    """All secrets of an account; there are few enough for one page. `keys` is the same list."""

    items: list[ServiceAccountKeyView]
    keys: list[ServiceAccountKeyView]
    next_cursor: None = None


_ACCOUNTS = "/api/admin/clients/{client_id}/service-accounts"
_ACCOUNT = _ACCOUNTS + "/{account_id}"
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "`service_account_not_found`"}}


def routes(accounts: ServiceAccountService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: service accounts")
    _declare_accounts(router, accounts)
    _declare_keys(router, accounts)
    return router


def _declare_accounts(router: Router, accounts: ServiceAccountService) -> None:
    @router.get(
        _ACCOUNTS,
        access=Access.ADMIN,
        limit="admin",
        permission="machines:read",
        responses={404: {"description": "`client_not_found`"}},
    )
    async def list_service_accounts(
        client_id: UUID, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> Page[ServiceAccountView]:
        """List a client's service accounts, the newest first."""
        found, following = await accounts.page(client_id, limit=limit, cursor=cursor)
        return Page(items=[ServiceAccountView.of(account) for account in found], next_cursor=following)

    @router.post(
        _ACCOUNTS,
        access=Access.ADMIN,
        limit="admin",
        permission="machines:write",
        body_limit=64 * KIB,
        idempotent=True,
        status_code=201,
        responses={
            **REFUSALS,
            404: {"description": "`client_not_found`"},
            409: {"description": "`too_many_service_accounts`: delete one first."},
        },
    )
    async def create_service_account(
        client_id: UUID,
        request: CreateServiceAccountRequest,
        caller: Caller,
        step_up_token: StepUpToken,
    ) -> ServiceAccountCreatedView:
        """Create a service account. Its first secret is shown only here.

        A machine uses the account's `id` as `client_id` and the secret as `client_secret` at
        `POST /oauth/token`.
        """
        fields = AccountFields(
            name=request.name,
            description=request.description,
            scopes=tuple(request.scopes),
            status=ServiceAccountStatus.ACTIVE,
            jwks_json=_jwks_json(request.jwks),
        )
        account, new = await accounts.create(caller, client_id, fields, step_up_token=step_up_token)
        return ServiceAccountCreatedView(
            service_account=ServiceAccountView.of(account),
            key=ServiceAccountKeyView.of(new.key, accounts.now()),
            client_secret=new.raw,
        )

    @router.get(
        _ACCOUNT, access=Access.ADMIN, limit="admin", permission="machines:read", responses=_NOT_FOUND
    )
    async def get_service_account(client_id: UUID, account_id: UUID) -> ServiceAccountView:
        """Show a service account."""
        return ServiceAccountView.of(await accounts.get(client_id, account_id))

    @router.patch(
        _ACCOUNT,
        access=Access.ADMIN,
        limit="admin",
        permission="machines:write",
        body_limit=64 * KIB,
        responses={**_NOT_FOUND, **REFUSALS},
    )
    async def update_service_account(
        client_id: UUID,
        account_id: UUID,
        request: UpdateServiceAccountRequest,
        caller: Caller,
        step_up_token: StepUpToken,
    ) -> ServiceAccountView:
        """Change a service account; members that are not sent stay.

        A disabled account gets no tokens, and those it has are dead from the moment of this answer. Scopes
        that are taken away stay in tokens that are out, which live for minutes.
        """
        changed = await accounts.change(
            caller, client_id, account_id, request.changes(), step_up_token=step_up_token
        )
        return ServiceAccountView.of(changed)

    @router.delete(
        _ACCOUNT,
        access=Access.ADMIN,
        limit="admin",
        permission="machines:write",
        status_code=204,
        responses=_NOT_FOUND,
    )
    async def delete_service_account(client_id: UUID, account_id: UUID, caller: Caller) -> None:
        """Delete a service account; its secrets and tokens are dead from the moment of this answer."""
        await accounts.delete(caller, client_id, account_id)


def _declare_keys(router: Router, accounts: ServiceAccountService) -> None:
    @router.get(
        _ACCOUNT + "/keys",
        access=Access.ADMIN,
        limit="admin",
        permission="machines:read",
        responses=_NOT_FOUND,
    )
    async def list_service_account_keys(client_id: UUID, account_id: UUID) -> KeyList:
        """List a service account's secrets, dead ones too, the newest first."""
        now = accounts.now()
        views = [ServiceAccountKeyView.of(key, now) for key in await accounts.keys(client_id, account_id)]
        return KeyList(items=views, keys=views)

    @router.post(
        _ACCOUNT + "/keys",
        access=Access.ADMIN,
        limit="admin",
        permission="machines:write",
        idempotent=True,
        status_code=201,
        responses={
            **REFUSALS,
            **_NOT_FOUND,
            409: {"description": "`too_many_service_account_keys`: revoke one first."},
        },
    )
    async def create_service_account_key(
        client_id: UUID,
        account_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        request: CreateKeyRequest | None = None,
    ) -> KeyCreatedView:
        """Give a service account another secret, shown only here."""
        wanted = request or CreateKeyRequest()
        new = await accounts.add_key(
            caller,
            client_id,
            account_id,
            name=wanted.name,
            expires_at=wanted.expires_at,
            step_up_token=step_up_token,
        )
        return KeyCreatedView(key=ServiceAccountKeyView.of(new.key, accounts.now()), client_secret=new.raw)

    @router.delete(
        _ACCOUNT + "/keys/{key_id}",
        access=Access.ADMIN,
        limit="admin",
        permission="machines:write",
        status_code=204,
        responses={404: {"description": "`service_account_key_not_found`"}},
    )
    async def revoke_service_account_key(
        client_id: UUID, account_id: UUID, key_id: UUID, caller: Caller
    ) -> None:
        """Revoke a secret, and the tokens that were got with it, from the moment of this answer."""
        await accounts.revoke_key(caller, client_id, account_id, key_id)

    @router.post(
        _ACCOUNT + "/keys/{key_id}/rotate",
        access=Access.ADMIN,
        limit="admin",
        permission="machines:write",
        idempotent=True,
        responses={
            **REFUSALS,
            404: {"description": "`service_account_not_found`, `service_account_key_not_found`"},
        },
    )
    async def rotate_service_account_key(
        client_id: UUID,
        account_id: UUID,
        key_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        request: RotateKeyRequest | None = None,
    ) -> KeyCreatedView:
        """Replace a secret by a new one, shown only here.

        The old one dies at once, and its tokens with it; or after `grace_seconds`, and then its tokens live
        to their own end.
        """
        grace = timedelta(seconds=(request or RotateKeyRequest()).grace_seconds)
        new = await accounts.rotate_key(
            caller, client_id, account_id, key_id, grace=grace, step_up_token=step_up_token
        )
        return KeyCreatedView(key=ServiceAccountKeyView.of(new.key, accounts.now()), client_secret=new.raw)


def _jwks_json(jwks: dict[str, Any] | None) -> str | None:
    return json.dumps(jwks, separators=(",", ":")) if jwks else None
