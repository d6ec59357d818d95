"""HTTP face of apps and their secrets, for admins."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from chassis.context import Access
from chassis.http import KIB, Caller, Router, StepUpToken
from chassis.paging import DEFAULT_LIMIT, CursorParameter, LimitParameter, Page
from contracts.step_up import REFUSALS
from services.orgs.apps.requests import (
    CreateAppRequest,
    CreateSecretRequest,
    RotateSecretRequest,
    UpdateAppRequest,
)
from services.orgs.apps.service import AppService
from services.orgs.apps.views import AppCreatedView, AppSecretView, AppView, SecretCreatedView, SecretList

_APPS = "/api/admin/clients/{client_id}/apps"
_APP = _APPS + "/{app_id}"
_NOT_FOUND: dict[int | str, dict[str, Any]] = {404: {"description": "`app_not_found`"}}


def routes(apps: AppService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: apps")
    _declare_apps(router, apps)
    _declare_secrets(router, apps)
    return router


def _declare_apps(router: Router, apps: AppService) -> None:
    @router.get(
        _APPS,
        access=Access.ADMIN,
        limit="admin",
        permission="apps:read",
        responses={404: {"description": "`client_not_found`"}},
    )
    async def list_apps(
        client_id: UUID, limit: LimitParameter = DEFAULT_LIMIT, cursor: CursorParameter = None
    ) -> Page[AppView]:
        """List a client's OAuth apps, the newest first; also those that registered themselves."""
        found, following = await apps.page(client_id, limit=limit, cursor=cursor)
        return Page(items=[AppView.of(app) for app in found], next_cursor=following)

    @router.post(
        _APPS,
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        body_limit=64 * KIB,
        idempotent=True,
        status_code=201,
        responses={
            **REFUSALS,
            404: {"description": "`client_not_found`"},
            409: {"description": "`too_many_apps`: delete one first."},
        },
    )
    async def create_app(
        client_id: UUID, request: CreateAppRequest, caller: Caller, step_up_token: StepUpToken
    ) -> AppCreatedView:
        """Create an OAuth app of a client. Its first secret, if it proves itself by one, is shown only here.

        Redirect URIs are kept and compared letter for letter. They use https, or http to `127.0.0.1`, `[::1]`
        (any port then) or `localhost`; a native app without a secret may use a private scheme that is a
        reversed domain name, such as `com.example.app:/callback`.
        """
        app, new = await apps.create(caller, client_id, request.fields_of_app(), step_up_token=step_up_token)
        return AppCreatedView(
            app=AppView.of(app),
            secret=AppSecretView.of(new.secret, apps.now()) if new else None,
            client_secret=new.raw if new else None,
        )

    @router.get(_APP, access=Access.ADMIN, limit="admin", permission="apps:read", responses=_NOT_FOUND)
    async def get_app(client_id: UUID, app_id: UUID) -> AppView:
        """Show an OAuth app."""
        return AppView.of(await apps.get(client_id, app_id))

    @router.patch(
        _APP,
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        body_limit=64 * KIB,
        responses={**_NOT_FOUND, **REFUSALS},
    )
    async def update_app(
        client_id: UUID, app_id: UUID, request: UpdateAppRequest, caller: Caller, step_up_token: StepUpToken
    ) -> AppView:
        """Change an OAuth app; members that are not sent stay. Every process follows before this answers."""
        status = request.status if "status" in request.model_fields_set else None
        changed = await apps.change(
            caller, client_id, app_id, request.changes(), status=status, step_up_token=step_up_token
        )
        return AppView.of(changed)

    @router.delete(
        _APP,
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        status_code=204,
        responses=_NOT_FOUND,
    )
    async def delete_app(client_id: UUID, app_id: UUID, caller: Caller) -> None:
        """Delete an OAuth app; nobody can use it from the moment of this answer."""
        await apps.delete(caller, client_id, app_id)


def _declare_secrets(router: Router, apps: AppService) -> None:
    @router.get(
        _APP + "/secrets", access=Access.ADMIN, limit="admin", permission="apps:read", responses=_NOT_FOUND
    )
    async def list_app_secrets(client_id: UUID, app_id: UUID) -> SecretList:
        """List an app's secrets, dead ones too, the newest first."""
        now = apps.now()
        found = await apps.secrets(client_id, app_id)
        return SecretList(items=[AppSecretView.of(secret, now) for secret in found])

    @router.post(
        _APP + "/secrets",
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        idempotent=True,
        status_code=201,
        responses={
            **REFUSALS,
            **_NOT_FOUND,
            409: {"description": "`too_many_app_secrets`: revoke one first; `app_without_secrets`"},
        },
    )
    async def create_app_secret(
        client_id: UUID,
        app_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        request: CreateSecretRequest | None = None,
    ) -> SecretCreatedView:
        """Give an app another secret, shown only here."""
        wanted = request or CreateSecretRequest()
        new = await apps.add_secret(
            caller,
            client_id,
            app_id,
            name=wanted.name,
            expires_at=wanted.expires_at,
            step_up_token=step_up_token,
        )
        return SecretCreatedView.of(new, apps.now())

    @router.delete(
        _APP + "/secrets/{secret_id}",
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        status_code=204,
        responses={404: {"description": "`app_secret_not_found`"}},
    )
    async def revoke_app_secret(client_id: UUID, app_id: UUID, secret_id: UUID, caller: Caller) -> None:
        """Revoke a secret of an app, from the moment of this answer."""
        await apps.revoke_secret(caller, client_id, app_id, secret_id)

    @router.post(
        _APP + "/secrets/{secret_id}/rotate",
        access=Access.ADMIN,
        limit="admin",
        permission="apps:write",
        idempotent=True,
        responses={**REFUSALS, 404: {"description": "`app_not_found`, `app_secret_not_found`"}},
    )
    async def rotate_app_secret(
        client_id: UUID,
        app_id: UUID,
        secret_id: UUID,
        caller: Caller,
        step_up_token: StepUpToken,
        request: RotateSecretRequest | None = None,
    ) -> SecretCreatedView:
        """Replace a secret by a new one, shown only here; the old one dies now, or after `grace_seconds`."""
        grace = timedelta(seconds=(request or RotateSecretRequest()).grace_seconds)
        new = await apps.rotate_secret(
            caller, client_id, app_id, secret_id, grace=grace, step_up_token=step_up_token
        )
        return SecretCreatedView.of(new, apps.now())
