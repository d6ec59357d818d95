"""Client metadata (RFC 7591 §2): what an app says of itself, parsed strictly, and shown again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, NoReturn, Self

from pydantic import AfterValidator, Field, StrictBool, StringConstraints, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from chassis.errors import AppError, FieldError, UnprocessableRequest
from chassis.models import RequestModel, field_error
from contracts.apps import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, TOKEN_EXCHANGE
from services.orgs.apps.directory import narrowed
from services.orgs.apps.models import AppFields, ApplicationType, AuthMethod, IdTokenAlgorithm, StoredApp
from services.orgs.apps.requests import Contacts, GrantTypes, Jwks, Text, jwks_json
from services.orgs.apps.tenant import RedirectUris, Scopes, WebUrl
from services.orgs.clients.requests import Name
from services.orgs.errors import InvalidClientMetadata, InvalidRedirectUri, UnapprovedSoftwareStatement

_DEFAULT_NAME: Final = "Unnamed app"
_MAX_SCOPE_LENGTH = 4096
# What an app that asks for it would rely on, and would not get.
_NOT_SUPPORTED: Final = (
    "jwks_uri",
    "sector_identifier_uri",
    "id_token_encrypted_response_alg",
    "userinfo_encrypted_response_alg",
    "request_object_encryption_alg",
)
# Nobody is asked for consent there, and an app that registered itself may be anybody's.
_WITHOUT_CONSENT: Final = frozenset({CLIENT_CREDENTIALS, TOKEN_EXCHANGE})
_OF_URIS: Final = frozenset({"redirect_uris", "post_logout_redirect_uris"})


def _check_asks_for_consent(value: list[str]) -> list[str]:
    for grant in value:
        if grant in _WITHOUT_CONSENT:
            raise PydanticCustomError(
                "grant_type_not_allowed", f"must not hold {grant}, which an admin alone may give"
            )
    return value


class ClientMetadata(RequestModel):
    """What an app may register; members that are not known are ignored, as RFC 7591 §2 wants."""

    redirect_uris: RedirectUris = Field(default=[])
    post_logout_redirect_uris: RedirectUris = Field(default=[])
    token_endpoint_auth_method: AuthMethod = AuthMethod.BASIC
    grant_types: Annotated[GrantTypes, AfterValidator(_check_asks_for_consent)] = Field(
        default=[AUTHORIZATION_CODE]
    )
    response_types: list[Literal["code"]] = Field(default=["code"], max_length=1)
    application_type: ApplicationType = ApplicationType.WEB
    client_name: Name = _DEFAULT_NAME
    scope: Annotated[str, StringConstraints(max_length=_MAX_SCOPE_LENGTH)] | None = None
    contacts: Contacts = Field(default=[])
    client_uri: WebUrl | None = None
    logo_uri: WebUrl | None = None
    policy_uri: WebUrl | None = None
    tos_uri: WebUrl | None = None
    jwks: Jwks = None
    software_id: Text = ""
    software_version: Text = ""
    backchannel_logout_uri: WebUrl | None = None
    id_token_signed_response_alg: IdTokenAlgorithm = IdTokenAlgorithm.RS256
    require_pushed_authorization_requests: StrictBool = False
    dpop_bound_access_tokens: StrictBool = False
    subject_type: Literal["public"] = "public"

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_supported(cls, value: object) -> object:
        if isinstance(value, dict):
            for name in _NOT_SUPPORTED:
                if value.get(name) is not None:
                    raise PydanticCustomError("not_supported", f"{name} is not supported")
        return value

    @model_validator(mode="after")
    def _check_types(self) -> Self:
        if AUTHORIZATION_CODE in self.grant_types and not self.response_types:
            raise PydanticCustomError(
                "response_types", "response_types must be [code] with authorization_code"
            )
        return self

    def fields_of_app(self, *, requires_consent: bool = True) -> AppFields:
        """Return the app that this describes: never trusted, always with PKCE."""
        return AppFields(
            name=self.client_name,
            application_type=self.application_type,
            auth_method=self.token_endpoint_auth_method,
            jwks_json=jwks_json(self.jwks),
            redirect_uris=tuple(self.redirect_uris),
            post_logout_redirect_uris=tuple(self.post_logout_redirect_uris),
            grant_types=tuple(self.grant_types),
            scopes=_scopes_of(self.scope),
            audiences=None,
            is_trusted=False,
            requires_consent=requires_consent,
            requires_pkce=True,
            requires_par=self.require_pushed_authorization_requests,
            is_dpop_bound=self.dpop_bound_access_tokens,
            backchannel_logout_uri=self.backchannel_logout_uri or "",
            id_token_alg=self.id_token_signed_response_alg,
            logo_uri=self.logo_uri or "",
            client_uri=self.client_uri or "",
            policy_uri=self.policy_uri or "",
            tos_uri=self.tos_uri or "",
            contacts=tuple(self.contacts),
            software_id=self.software_id,
            software_version=self.software_version,
        )


class _ScopeModel(RequestModel):
    scope: Scopes


def parse_document(text: str) -> dict[str, Any]:
    """Return the JSON object that an app sent.

    Raises:
        InvalidClientMetadata: it is none.
        UnapprovedSoftwareStatement: it has a software statement, and nobody's are trusted.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidClientMetadata("The body must be a JSON object.") from None
    if not isinstance(document, dict):
        raise InvalidClientMetadata("The body must be a JSON object.")
    if document.get("software_statement") is not None:
        raise UnapprovedSoftwareStatement
    return document


def parse_metadata(document: Mapping[str, Any]) -> ClientMetadata:
    """Return what an app says of itself.

    Raises:
        InvalidRedirectUri, InvalidClientMetadata: a member breaks its rule (RFC 7591 §3.2.2).
    """
    try:
        metadata = ClientMetadata.model_validate(document)
        if metadata.scope is not None:
            _ScopeModel(scope=metadata.scope.split(" ") if metadata.scope else [])
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        refuse(tuple(field_error(fault, fault["loc"]) for fault in faults))
    return metadata


def refuse(faults: Sequence[FieldError]) -> NoReturn:
    """Refuse metadata with the code of RFC 7591 §3.2.2 that fits the fields at fault."""
    raise _refusal_of(faults)


def as_registration_error(error: UnprocessableRequest) -> AppError:
    """Return the refusal of RFC 7591 §3.2.2 for a broken rule of apps."""
    return _refusal_of(error.errors)


def _refusal_of(faults: Sequence[FieldError]) -> AppError:
    detail = " ".join(f"{fault.field}: {fault.detail}." for fault in faults)
    is_of_uris = any(fault.field.partition(".")[0] in _OF_URIS for fault in faults)
    return InvalidRedirectUri(detail) if is_of_uris else InvalidClientMetadata(detail)


def replaced(app: StoredApp, metadata: ClientMetadata, allowed_scopes: list[str]) -> AppFields:
    """Return an app's fields after it replaced its metadata (RFC 7592 §2.2); what an admin decided stays.

    No replacement widens what the app has: scopes, once it has some of its own, and grants only become fewer,
    and pushed requests and DPoP stay required. `allowed_scopes` are the tenant's.
    """
    before, wanted = app.fields, metadata.fields_of_app(requires_consent=app.fields.requires_consent)
    scopes = wanted.scopes
    if before.scopes is not None:
        scopes = tuple(narrowed(before.scopes, allowed_scopes if scopes is None else list(scopes)))
    return replace(
        wanted,
        audiences=before.audiences,
        scopes=scopes,
        grant_types=tuple(grant for grant in wanted.grant_types if grant in before.grant_types),
        requires_par=before.requires_par or wanted.requires_par,
        is_dpop_bound=before.is_dpop_bound or wanted.is_dpop_bound,
    )


def shown_metadata(app: StoredApp, scopes: Sequence[str]) -> dict[str, Any]:
    """Return an app's metadata as RFC 7591 §3.2.1 has it; `scopes` are those it may ask for now."""
    fields = app.fields
    shown = {
        "client_id": str(app.id),
        "client_id_issued_at": int(app.created_at.timestamp()),
        "client_name": fields.name,
        "redirect_uris": list(fields.redirect_uris),
        "token_endpoint_auth_method": str(fields.auth_method),
        "grant_types": list(fields.grant_types),
        "response_types": ["code"] if AUTHORIZATION_CODE in fields.grant_types else [],
        "application_type": str(fields.application_type),
        "subject_type": "public",
        "scope": " ".join(scopes),
        "id_token_signed_response_alg": str(fields.id_token_alg),
        "require_pushed_authorization_requests": fields.requires_par,
        "dpop_bound_access_tokens": fields.is_dpop_bound,
    }
    optional: dict[str, Any] = {
        "post_logout_redirect_uris": list(fields.post_logout_redirect_uris),
        "contacts": list(fields.contacts),
        "jwks": json.loads(fields.jwks_json) if fields.jwks_json else None,
        **{
            name: getattr(fields, name)
            for name in ("client_uri", "logo_uri", "policy_uri", "tos_uri", "backchannel_logout_uri")
        },
        "software_id": fields.software_id,
        "software_version": fields.software_version,
    }
    return {**shown, **{name: value for name, value in optional.items() if value}}


def _scopes_of(scope: str | None) -> tuple[str, ...] | None:
    return None if scope is None else tuple(dict.fromkeys(scope.split(" "))) if scope else ()
