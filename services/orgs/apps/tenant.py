"""The tenant itself as an app: its `oidc_*` settings, checked when they are written and read as an app."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from chassis.errors import UnprocessableRequest
from chassis.models import field_error
from contracts.apps import DEFAULT_SCOPES
from services.orgs.apps.uris import has_private_scheme, parse_redirect_uri, parse_resource, parse_web_url

PREFIX = "oidc_"
MAX_URIS = 100
MAX_SCOPES = 100
# RFC 6749 §3.3, bounded.
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}")


def _check_scope(value: str) -> str:
    if not _SCOPE.fullmatch(value):
        raise PydanticCustomError("scope_invalid", "is not a scope that RFC 6749 §3.3 allows")
    return value


def without_repeats(values: list[str]) -> list[str]:
    """Return a list's members in their order, each once."""
    return list(dict.fromkeys(values))


RedirectUris = Annotated[
    list[Annotated[str, AfterValidator(parse_redirect_uri)]],
    Field(max_length=MAX_URIS),
    AfterValidator(without_repeats),
]
"""Where authorization answers, or browsers after a logout, may be sent."""

Scopes = Annotated[
    list[Annotated[str, AfterValidator(_check_scope)]],
    Field(max_length=MAX_SCOPES),
    AfterValidator(without_repeats),
]
"""Scopes, each once."""

Resources = Annotated[
    list[Annotated[str, AfterValidator(parse_resource)]],
    Field(max_length=MAX_URIS),
    AfterValidator(without_repeats),
]
"""Resource indicators (RFC 8707)."""

WebUrl = Annotated[str, AfterValidator(parse_web_url)]
"""A URL that we call or show; whether its host is public is checked with the whole."""


class OidcSettings(BaseModel):
    """The `oidc_*` settings of a tenant, without the prefix. An app of the tenant gets no more than these."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    redirect_uris: RedirectUris = []
    post_logout_redirect_uris: RedirectUris = []
    allowed_scopes: Scopes = list(DEFAULT_SCOPES)
    audiences: Resources = []
    trusted: StrictBool = True
    require_consent: StrictBool = False
    require_pkce: StrictBool = True
    public_client: StrictBool = False
    backchannel_logout_uri: WebUrl | None = None
    require_par: StrictBool = False
    dpop_bound_access_tokens: StrictBool = False
    client_id_metadata_documents: StrictBool = False

    @model_validator(mode="after")
    def _check_whole(self) -> Self:
        if self.public_client and not self.require_pkce:
            raise PydanticCustomError("pkce_required", "a public client cannot do without PKCE")
        if not self.public_client and any(map(has_private_scheme, self.redirect_uris)):
            raise PydanticCustomError(
                "redirect_uri_scheme", "only a public client may have redirect URIs with a private scheme"
            )
        return self

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> OidcSettings:
        """Read a tenant's settings; what was stored unchecked once, and breaks a rule, counts as absent."""
        present = _present(settings)
        try:
            return cls.model_validate(present)
        except ValidationError as error:
            broken = {str(fault["loc"][0]) for fault in error.errors() if fault["loc"]}
            kept = {name: value for name, value in present.items() if name not in broken}
        try:
            return cls.model_validate(kept)
        except ValidationError:
            return cls()


def check_oidc_settings(settings: Mapping[str, Any]) -> OidcSettings:
    """Check the `oidc_*` settings that somebody wants to store, the whole of them.

    Raises:
        UnprocessableRequest: one breaks its rules; `errors` names the path of each fault.
    """
    try:
        return OidcSettings.model_validate(_present(settings))
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise UnprocessableRequest(
            errors=tuple(field_error(fault, ("settings", *_named(fault["loc"]))) for fault in faults)
        ) from None


def _present(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name.removeprefix(PREFIX): value
        for name, value in settings.items()
        if name.startswith(PREFIX) and value is not None
    }


def _named(where: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return (f"{PREFIX}{where[0]}", *where[1:]) if where else ()
