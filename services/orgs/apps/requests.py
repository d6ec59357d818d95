"""What admins may send about apps; everything else in a body is ignored."""

from __future__ import annotations

import json
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AwareDatetime, Field, StrictBool, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from chassis.models import RequestModel
from contracts.apps import AUTHORIZATION_CODE, GRANT_TYPES, REFRESH_TOKEN
from contracts.assertion_keys import check_assertion_keys
from services.orgs.apps.models import AppFields, ApplicationType, AppStatus, AuthMethod, IdTokenAlgorithm
from services.orgs.apps.tenant import RedirectUris, Resources, Scopes, WebUrl, without_repeats
from services.orgs.clients.requests import Name, check_name

MAX_GRACE_SECONDS = 7 * 86400
_MAX_CONTACTS = 10
_RENAMED = {
    "token_endpoint_auth_method": "auth_method",
    "jwks": "jwks_json",
    "trusted": "is_trusted",
    "require_consent": "requires_consent",
    "require_pkce": "requires_pkce",
    "require_par": "requires_par",
    "dpop_bound_access_tokens": "is_dpop_bound",
    "id_token_signed_response_alg": "id_token_alg",
}


def _check_grant_type(value: str) -> str:
    if value not in GRANT_TYPES:
        raise PydanticCustomError("grant_type_unknown", "is not a grant type that is supported")
    return value


def jwks_json(jwks: dict[str, Any] | None) -> str | None:
    """Return a JWK set as it is stored."""
    return json.dumps(jwks, separators=(",", ":")) if jwks else None


GrantTypes = Annotated[
    list[Annotated[str, AfterValidator(_check_grant_type)]],
    Field(max_length=len(GRANT_TYPES)),
    AfterValidator(without_repeats),
]
Jwks = Annotated[
    dict[str, Any] | None,
    Field(description="Public keys (RFC 7517) that `private_key_jwt` assertions are signed with."),
    AfterValidator(check_assertion_keys),
]
Text = Annotated[str, StringConstraints(max_length=200), AfterValidator(check_name)]
Contacts = Annotated[list[Text], Field(max_length=_MAX_CONTACTS)]
GraceSeconds = Annotated[
    int, Field(ge=0, le=MAX_GRACE_SECONDS, strict=True, description="Seconds the old secret goes on working.")
]


class _AppMembers(RequestModel):
    """What may be said of an app at any time; the defaults are those of a new one."""

    application_type: ApplicationType = ApplicationType.WEB
    token_endpoint_auth_method: AuthMethod = AuthMethod.BASIC
    jwks: Jwks = None
    redirect_uris: RedirectUris = Field(default=[])
    post_logout_redirect_uris: RedirectUris = Field(default=[])
    grant_types: GrantTypes = Field(default=[AUTHORIZATION_CODE, REFRESH_TOKEN])
    scopes: Scopes | None = Field(None, description="What it may ask for; null for all the client allows.")
    audiences: Resources | None = Field(
        None, description="Resources (RFC 8707) it may ask for; null for all the client has."
    )
    trusted: StrictBool = Field(False, description="Users are not asked for consent.")
    require_consent: StrictBool = Field(False, description="Users are asked at every authorization.")
    require_pkce: StrictBool = True
    require_par: StrictBool = Field(False, description="Only pushed requests (RFC 9126) are accepted.")
    dpop_bound_access_tokens: StrictBool = Field(False, description="Only DPoP tokens (RFC 9449) are given.")
    backchannel_logout_uri: WebUrl | None = None
    id_token_signed_response_alg: IdTokenAlgorithm = IdTokenAlgorithm.RS256
    logo_uri: WebUrl | None = None
    client_uri: WebUrl | None = None
    policy_uri: WebUrl | None = None
    tos_uri: WebUrl | None = None
    contacts: Contacts = Field(default=[])
    software_id: Text = ""
    software_version: Text = ""

    def members(self, names: set[str]) -> dict[str, Any]:
        """Return the members with these names, as `AppFields` calls and holds them."""
        found: dict[str, Any] = {}
        for name in names & set(_AppMembers.model_fields) | names & {"name"}:
            value = getattr(self, name)
            if name == "jwks":
                value = jwks_json(value)
            elif name.endswith("_uri"):
                value = value or ""
            found[_RENAMED.get(name, name)] = tuple(value) if isinstance(value, list) else value
        return found


class CreateAppRequest(_AppMembers):
    """A new app. Without more than a name and a redirect URI it is a server that logs users in."""

    name: Name

    def fields_of_app(self) -> AppFields:
        """Return the app that is asked for."""
        return AppFields(**self.members(set(_AppMembers.model_fields) | {"name"}))


class UpdateAppRequest(_AppMembers):
    """Changes of an app: only members that are sent change anything, and at least one must be."""

    # A factory instead of `| None`: absent is fine, null is not.
    name: Name = Field(default_factory=str)
    status: AppStatus = Field(default_factory=lambda: AppStatus.ACTIVE)

    @model_validator(mode="after")
    def _refuse_empty(self) -> Self:
        if not self.model_fields_set:
            raise PydanticCustomError("empty_patch", "must change at least one field")
        return self

    def changes(self) -> dict[str, Any]:
        """Return what was sent of the fields, as `AppFields` calls it."""
        return self.members(self.model_fields_set)


class CreateSecretRequest(RequestModel):
    """Another secret; without end by default."""

    name: Name = "secret"
    expires_at: AwareDatetime | None = None


class RotateSecretRequest(RequestModel):
    """How long the old secret goes on working; by default it dies at once."""

    grace_seconds: GraceSeconds = 0
