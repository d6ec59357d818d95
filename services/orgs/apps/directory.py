"""Apps as other processes know them (`contracts.apps.App`): the stored ones, and tenants themselves."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from chassis.database import Database
from contracts.apps import AUTHORIZATION_CODE, DEVICE_CODE, REFRESH_TOKEN, TOKEN_EXCHANGE
from contracts.gen.internal.orgs.v1 import apps_pb2
from services.orgs.apps import store
from services.orgs.apps.models import AppStatus, AuthMethod, IdTokenAlgorithm, StoredApp
from services.orgs.apps.tenant import OidcSettings
from services.orgs.clients import store as client_store
from services.orgs.clients.models import Client
from services.orgs.clients.rpc import encode_client
from services.orgs.errors import AppNotFound

Hash = tuple[UUID, bytes, datetime | None]


class AppAnswers:
    """Answers what an app is, with what its tenant allows it now."""

    def __init__(self, db: Database) -> None:
        """Take where apps and tenants are."""
        self._db = db

    async def find(self, app_id: UUID) -> apps_pb2.App:
        """Return an app, or the tenant that has the id, active or not.

        Raises:
            AppNotFound: there is none of both.
        """
        async with self._db.platform() as tx:
            app = await store.resolve(tx, app_id)
            client = await client_store.find(tx, app.client_id if app else app_id)
            hashes = await store.secret_hashes(tx, app_id) if app else []
        if client is None:
            raise AppNotFound
        return _encode(app, client, hashes) if app else _encode_tenant(client)


def _encode(app: StoredApp, client: Client, hashes: list[Hash]) -> apps_pb2.App:
    fields, allowed = app.fields, OidcSettings.of(client.settings)
    method = AuthMethod.BASIC if fields.auth_method.has_secret else fields.auth_method
    return apps_pb2.App(
        id=str(app.id),
        client=encode_client(client),
        name=fields.name,
        is_active=app.status is AppStatus.ACTIVE,
        is_tenant=False,
        auth_method=method,
        secrets=[
            apps_pb2.AppSecret(id=str(one), sha256=digest, expires_at=int(end.timestamp()) if end else 0)
            for one, digest, end in hashes
            if fields.auth_method.has_secret
        ],
        jwks_json=fields.jwks_json or "",
        redirect_uris=fields.redirect_uris,
        post_logout_redirect_uris=fields.post_logout_redirect_uris,
        grant_types=fields.grant_types,
        scopes=narrowed(fields.scopes, allowed.allowed_scopes),
        audiences=narrowed(fields.audiences, allowed.audiences),
        is_trusted=fields.is_trusted,
        requires_consent=fields.requires_consent,
        requires_pkce=fields.requires_pkce or fields.auth_method is AuthMethod.NONE,
        requires_par=fields.requires_par,
        is_dpop_bound=fields.is_dpop_bound,
        backchannel_logout_uri=fields.backchannel_logout_uri,
        id_token_alg=fields.id_token_alg,
        logo_uri=fields.logo_uri,
        client_uri=fields.client_uri,
        policy_uri=fields.policy_uri,
        tos_uri=fields.tos_uri,
    )


def _encode_tenant(client: Client) -> apps_pb2.App:
    own = OidcSettings.of(client.settings)
    grants = [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE]
    return apps_pb2.App(
        id=str(client.id),
        client=encode_client(client),
        name=client.name,
        is_active=True,
        is_tenant=True,
        auth_method=AuthMethod.NONE if own.public_client else AuthMethod.BASIC,
        redirect_uris=own.redirect_uris,
        post_logout_redirect_uris=own.post_logout_redirect_uris,
        grant_types=grants if own.public_client else [*grants, TOKEN_EXCHANGE],
        scopes=own.allowed_scopes,
        audiences=own.audiences,
        is_trusted=own.trusted,
        requires_consent=own.require_consent,
        requires_pkce=own.require_pkce,
        requires_par=own.require_par,
        is_dpop_bound=own.dpop_bound_access_tokens,
        backchannel_logout_uri=own.backchannel_logout_uri or "",
        id_token_alg=IdTokenAlgorithm.RS256,
    )


def narrowed(asked: tuple[str, ...] | None, allowed: list[str]) -> list[str]:
    """Return what was asked for of what is allowed now; None asks for all of it."""
    return allowed if asked is None else [one for one in asked if one in allowed]
