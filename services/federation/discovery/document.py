"""The metadata: one table, which tests hold against what the endpoints do.

Nothing in it depends on a request, so no header can change an address in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contracts.apps import (
    AUTHORIZATION_CODE,
    CLIENT_CREDENTIALS,
    DEFAULT_SCOPES,
    DEVICE_CODE,
    REFRESH_TOKEN,
    TOKEN_EXCHANGE,
)
from contracts.brand import LANGUAGES
from contracts.oidc_claims import USER_CLAIMS
from services.federation.authorize.models import ACR_VALUES, Prompt, ResponseMode

_SIGNING: Final = ("RS256", "ES256", "EdDSA")
_SECRET_METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")

ENDPOINTS: Final[Mapping[str, str]] = {
    "authorization_endpoint": "/authorize",
    "token_endpoint": "/token",
    "userinfo_endpoint": "/userinfo",
    "jwks_uri": "/.well-known/jwks.json",
    "registration_endpoint": "/register",
    "pushed_authorization_request_endpoint": "/par",
    "device_authorization_endpoint": "/device_authorization",
    "introspection_endpoint": "/introspect",
    "revocation_endpoint": "/revoke",
    "end_session_endpoint": "/logout",
}
"""Metadata name → path at the issuer."""

CAPABILITIES: Final[Mapping[str, Any]] = {
    "scopes_supported": DEFAULT_SCOPES,
    "response_types_supported": ("code",),
    "response_modes_supported": tuple(ResponseMode),
    "grant_types_supported": (
        AUTHORIZATION_CODE,
        REFRESH_TOKEN,
        CLIENT_CREDENTIALS,
        DEVICE_CODE,
        TOKEN_EXCHANGE,
    ),
    "acr_values_supported": ACR_VALUES,
    "subject_types_supported": ("public",),
    "id_token_signing_alg_values_supported": _SIGNING,
    "token_endpoint_auth_methods_supported": (*_SECRET_METHODS, "none"),
    "token_endpoint_auth_signing_alg_values_supported": _SIGNING,
    "introspection_endpoint_auth_methods_supported": _SECRET_METHODS,
    "introspection_endpoint_auth_signing_alg_values_supported": _SIGNING,
    "introspection_signing_alg_values_supported": _SIGNING,
    "revocation_endpoint_auth_methods_supported": (*_SECRET_METHODS, "none"),
    "revocation_endpoint_auth_signing_alg_values_supported": _SIGNING,
    "dpop_signing_alg_values_supported": _SIGNING,
    "code_challenge_methods_supported": ("S256",),
    "prompt_values_supported": tuple(Prompt),
    "claim_types_supported": ("normal",),
    "claims_supported": (
        *("sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr", "azp", "at_hash", "sid"),
        *USER_CLAIMS,
    ),
    "ui_locales_supported": tuple(LANGUAGES),
    "claims_parameter_supported": True,
    "request_parameter_supported": False,
    "request_uri_parameter_supported": False,
    "require_pushed_authorization_requests": False,
    "authorization_response_iss_parameter_supported": True,
    "backchannel_logout_supported": True,
    "backchannel_logout_session_supported": True,
    "client_id_metadata_document_supported": True,
}
"""What is supported, and nothing that is not."""


def document(issuer: str) -> dict[str, Any]:
    """Return the metadata of an issuer; every endpoint is on its origin."""
    endpoints = {name: f"{issuer}{path}" for name, path in ENDPOINTS.items()}
    return {"issuer": issuer, **endpoints, **CAPABILITIES, "service_documentation": f"{issuer}/docs"}
