"""Apps and their secrets as admins see them."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import Field

from chassis.models import AnswerModel
from contracts.session import Time
from services.orgs.apps.models import (
    ApplicationType,
    AppStatus,
    AuthMethod,
    IdTokenAlgorithm,
    NewSecret,
    SecretStatus,
    StoredApp,
    StoredSecret,
)


class AppView(AnswerModel):
    """An app. Its `id` is the `client_id` of OAuth requests; `client_id` here is its tenant."""

    id: UUID
    client_id: UUID
    name: str
    status: AppStatus
    registered: bool = Field(description="It registered itself (RFC 7591).")
    application_type: ApplicationType
    token_endpoint_auth_method: AuthMethod
    jwks: dict[str, Any] | None
    redirect_uris: list[str]
    post_logout_redirect_uris: list[str]
    grant_types: list[str]
    scopes: list[str] | None
    audiences: list[str] | None
    trusted: bool
    require_consent: bool
    require_pkce: bool
    require_par: bool
    dpop_bound_access_tokens: bool
    backchannel_logout_uri: str | None
    id_token_signed_response_alg: IdTokenAlgorithm
    logo_uri: str | None
    client_uri: str | None
    policy_uri: str | None
    tos_uri: str | None
    contacts: list[str]
    software_id: str
    software_version: str
    created_at: Time
    updated_at: Time

    @classmethod
    def of(cls, app: StoredApp) -> AppView:
        """Show an app."""
        fields = app.fields
        return cls(
            id=app.id,
            client_id=app.client_id,
            name=fields.name,
            status=app.status,
            registered=app.is_registered,
            application_type=fields.application_type,
            token_endpoint_auth_method=fields.auth_method,
            jwks=json.loads(fields.jwks_json) if fields.jwks_json else None,
            redirect_uris=list(fields.redirect_uris),
            post_logout_redirect_uris=list(fields.post_logout_redirect_uris),
            grant_types=list(fields.grant_types),
            scopes=None if fields.scopes is None else list(fields.scopes),
            audiences=None if fields.audiences is None else list(fields.audiences),
            trusted=fields.is_trusted,
            require_consent=fields.requires_consent,
            require_pkce=fields.requires_pkce,
            require_par=fields.requires_par,
            dpop_bound_access_tokens=fields.is_dpop_bound,
            backchannel_logout_uri=fields.backchannel_logout_uri or None,
            id_token_signed_response_alg=fields.id_token_alg,
            logo_uri=fields.logo_uri or None,
            client_uri=fields.client_uri or None,
            policy_uri=fields.policy_uri or None,
            tos_uri=fields.tos_uri or None,
            contacts=list(fields.contacts),
            software_id=fields.software_id,
            software_version=fields.software_version,
            created_at=app.created_at,
            updated_at=app.updated_at,
        )


class AppSecretView(AnswerModel):
    """A secret, without what makes it one. `last_used_at` is exact to a minute or two."""

    id: UUID
    name: str
    prefix: str
    status: SecretStatus
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    last_used_at: Time | None

    @classmethod
    def of(cls, secret: StoredSecret, now: datetime) -> AppSecretView:
        """Show a secret."""
        return cls(
            id=secret.id,
            name=secret.name,
            prefix=secret.prefix,
            status=secret.status(now),
            created_at=secret.created_at,
            expires_at=secret.expires_at,
            revoked_at=secret.revoked_at,
            last_used_at=secret.last_used_at,
        )


class AppCreatedView(AnswerModel):
    """A new app, and its first secret where it proves itself by one."""

    app: AppView
    secret: AppSecretView | None
    client_secret: str | None = Field(description="The secret itself. Shown once.")


class SecretCreatedView(AnswerModel):
    """A new secret."""

    secret: AppSecretView
    client_secret: str = Field(description="The secret itself. Shown once.")

    @classmethod
    def of(cls, new: NewSecret, now: datetime) -> SecretCreatedView:
        """Show a new secret."""
        return cls(secret=AppSecretView.of(new.secret, now), client_secret=new.raw)


class SecretList(AnswerModel):
    """All secrets of an app; there are few enough for one page."""

    items: list[AppSecretView]
    next_cursor: None = None
