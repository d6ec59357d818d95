"""What an app may be: the rules that are of more than one of its fields, and of its tenant."""

from __future__ import annotations

from collections.abc import Iterable

from chassis.errors import FieldError, UnprocessableRequest
from contracts.apps import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, DEVICE_CODE, REFRESH_TOKEN, TOKEN_EXCHANGE
from services.orgs.apps.models import AppFields, ApplicationType, AuthMethod
from services.orgs.apps.tenant import OidcSettings
from services.orgs.apps.uris import PublicUrls, has_private_scheme


def check_fields(fields: AppFields, tenant: OidcSettings, urls: PublicUrls) -> None:
    """Check an app as a whole, against what its tenant allows.

    Raises:
        UnprocessableRequest: a rule is broken; `errors` names the fields as the faces call them.
    """
    faults = [
        FieldError(field=field, code=code, detail=detail)
        for field, code, detail in (
            *_faults_of_uris(fields),
            *_faults_of_grants(fields),
            *_excess(fields, tenant),
        )
    ]
    if faults:
        raise UnprocessableRequest(errors=tuple(faults))
    urls.check(
        (name, getattr(fields, name))
        for name in ("backchannel_logout_uri", "logo_uri", "client_uri", "policy_uri", "tos_uri")
    )


def _faults_of_uris(fields: AppFields) -> Iterable[tuple[str, str, str]]:
    if AUTHORIZATION_CODE in fields.grant_types and not fields.redirect_uris:
        yield "redirect_uris", "redirect_uri_missing", "must not be empty with the grant authorization_code"
    is_native = fields.application_type is ApplicationType.NATIVE and fields.auth_method is AuthMethod.NONE
    for name in ("redirect_uris", "post_logout_redirect_uris"):
        if not is_native and any(map(has_private_scheme, getattr(fields, name))):
            yield (
                name,
                "redirect_uri_scheme",
                "may have a private scheme only for a native app without a secret",
            )


def _faults_of_grants(fields: AppFields) -> Iterable[tuple[str, str, str]]:
    method, grants = fields.auth_method, set(fields.grant_types)
    if not grants:
        yield "grant_types", "grant_type_missing", "must hold at least one that the app may use"
    if method is AuthMethod.PRIVATE_KEY_JWT and fields.jwks_json is None:
        yield "jwks", "jwks_missing", "must be given with private_key_jwt"
    if method is AuthMethod.NONE:
        for grant in sorted(grants & {CLIENT_CREDENTIALS, TOKEN_EXCHANGE}):
            yield "grant_types", "grant_type_not_allowed", f"must not hold {grant} without a credential"
        if not fields.requires_pkce:
            yield "require_pkce", "pkce_required", "cannot be false for an app without a credential"
    if REFRESH_TOKEN in grants and not grants & {AUTHORIZATION_CODE, DEVICE_CODE}:
        yield "grant_types", "grant_type_not_allowed", "must hold what gives the first refresh token"


def _excess(fields: AppFields, tenant: OidcSettings) -> Iterable[tuple[str, str, str]]:
    for scope in fields.scopes or ():
        if scope not in tenant.allowed_scopes:
            yield "scopes", "scope_not_allowed", "must hold only scopes that the client's settings allow"
            break
    for audience in fields.audiences or ():
        if audience not in tenant.audiences:
            yield "audiences", "audience_not_allowed", "must hold only audiences of the client's settings"
            break
