"""What an authorization request must be, rule by rule; each refusal is told the app by redirect.

The app and its redirect URI were checked before: nothing here may decide where an answer goes.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit
from uuid import UUID

from contracts.apps import AUTHORIZATION_CODE, REFRESH_TOKEN, App
from services.federation.authorize.answers import AuthorizationRefused
from services.federation.authorize.claims import read_claims
from services.federation.authorize.models import (
    ACR_VALUES,
    OFFLINE_ACCESS,
    OPENID,
    AuthorizationRequest,
    Prompt,
    ResponseMode,
)
from services.federation.authorize.parameters import Parameters

_CODE: Final = "code"
_SHA256: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+(?: [!#-\[\]-~]+)*")
_SECONDS: Final = re.compile(r"[0-9]{1,9}")
_UNSUPPORTED: Final = {"request": "request_not_supported", "registration": "registration_not_supported"}
_MAX_WORDS: Final = 20


def response_mode_of(parameters: Parameters) -> ResponseMode:
    """Return how an answer travels, an error above all: as asked for, or else as the response type implies.

    What would be tokens in the URL has the fragment as its default (OAuth 2.0 Multiple Response Types §5).
    """
    asked = parameters.get("response_mode")
    if asked in set(ResponseMode):
        return ResponseMode(asked)
    of_tokens = {"token", "id_token"} & set(parameters.words("response_type"))
    return ResponseMode.FRAGMENT if of_tokens else ResponseMode.QUERY


def accept(
    app: App, parameters: Parameters, *, hinted_user_id: UUID | None, dpop_jkt: str, now: datetime
) -> AuthorizationRequest:
    """Return what an app asks for, when all of it is acceptable.

    `hinted_user_id` is whom the `id_token_hint` names. `dpop_jkt` is of the proof that a pushed request came
    with, or empty.

    Raises:
        AuthorizationRefused: it is not.
    """
    parameters.check()
    _check_response(app, parameters)
    claims = read_claims(parameters.get("claims"), app.scopes)
    if claims.user_id is not None and hinted_user_id not in (None, claims.user_id):
        raise AuthorizationRefused(
            "invalid_request", "The claims and the id_token_hint name different users."
        )
    asked = parameters.words("acr_values") or claims.acr_values
    acr_values = tuple(value for value in asked if value in ACR_VALUES)
    if claims.is_acr_essential and claims.acr_values and not acr_values:
        raise AuthorizationRefused("unmet_authentication_requirements", "No login here is of this acr.")
    return AuthorizationRequest(
        app=app,
        redirect_uri=parameters.get("redirect_uri"),
        response_mode=response_mode_of(parameters),
        state=parameters.values.get("state"),
        scopes=_scopes(app, parameters.get("scope")),
        nonce=parameters.get("nonce"),
        code_challenge=_code_challenge(app, parameters),
        prompt=_prompt(parameters),
        max_age=_max_age(parameters.get("max_age")),
        acr_values=acr_values,
        login_hint=parameters.get("login_hint"),
        hinted_user_id=claims.user_id or hinted_user_id,
        claims_json=claims.text,
        claimed_scopes=claims.scopes,
        resources=_resources(app, parameters.resources),
        dpop_jkt=_dpop_jkt(parameters.get("dpop_jkt"), dpop_jkt),
        ui_locales=parameters.words("ui_locales")[:_MAX_WORDS],
        created_at=now,
    )


def _check_response(app: App, parameters: Parameters) -> None:
    """Check what kind of answer is asked for (RFC 6749 §3.1.1, OpenID Connect Core §6 and §7.2.1)."""
    for name, code in _UNSUPPORTED.items():
        if parameters.get(name):
            raise AuthorizationRefused(code, f"The parameter {name} is not supported.")
    response_type = parameters.get("response_type")
    if not response_type:
        raise AuthorizationRefused("invalid_request", "Send response_type=code.")
    if response_type != _CODE:
        raise AuthorizationRefused("unsupported_response_type", "Only response_type=code is supported.")
    mode = parameters.get("response_mode")
    if mode and mode not in set(ResponseMode):
        raise AuthorizationRefused("invalid_request", "This response_mode is not supported.")
    if AUTHORIZATION_CODE not in app.grant_types:
        raise AuthorizationRefused("unauthorized_client", "This app may not use authorization codes.")


def _scopes(app: App, text: str) -> tuple[str, ...]:
    """Return what the app may have of what it asks for; unknown scopes are ignored (Core §3.1.2.1).

    Without `scope` that is all it may ask for but the ID token and the stay (RFC 6749 §3.3: a default).
    """
    allowed = set(app.scopes) if REFRESH_TOKEN in app.grant_types else set(app.scopes) - {OFFLINE_ACCESS}
    if not text:
        asked: tuple[str, ...] = tuple(scope for scope in app.scopes if scope not in (OPENID, OFFLINE_ACCESS))
    elif _SCOPE.fullmatch(text):
        asked = tuple(dict.fromkeys(text.split(" ")))
    else:
        raise AuthorizationRefused("invalid_scope", "The scope is malformed.")
    granted = tuple(scope for scope in asked if scope in allowed)
    if not granted:
        raise AuthorizationRefused("invalid_scope", "The app may have none of these scopes.")
    return granted


def _code_challenge(app: App, parameters: Parameters) -> str:
    """Check PKCE (RFC 7636 §4.3): S256 alone, as `plain` protects nothing that is read on its way."""
    challenge, method = parameters.get("code_challenge"), parameters.get("code_challenge_method")
    if not challenge:
        if method or app.is_public or app.requires_pkce:
            raise AuthorizationRefused("invalid_request", "Send a code_challenge (PKCE).")
        return ""
    if method != "S256":
        raise AuthorizationRefused("invalid_request", "Only code_challenge_method=S256 is supported.")
    if not _SHA256.fullmatch(challenge):
        raise AuthorizationRefused("invalid_request", "The code_challenge is no SHA-256 in base64url.")
    return challenge


def _prompt(parameters: Parameters) -> frozenset[Prompt]:
    words = parameters.words("prompt")
    try:
        prompt = frozenset(map(Prompt, words))
    except ValueError:
        raise AuthorizationRefused("invalid_request", "This prompt is not supported.") from None
    if Prompt.NONE in prompt and len(prompt) > 1:
        raise AuthorizationRefused("invalid_request", "prompt=none goes with no other prompt.")
    return prompt


def _max_age(text: str) -> int | None:
    if not text:
        return None
    if not _SECONDS.fullmatch(text):
        raise AuthorizationRefused("invalid_request", "max_age is a number of seconds.")
    return int(text)


def _resources(app: App, resources: tuple[str, ...]) -> tuple[str, ...]:
    """Check the resources (RFC 8707 §2): absolute URIs without a fragment, and the app's to ask for."""
    for resource in resources:
        try:
            parts = urlsplit(resource)
        except ValueError:
            parts = urlsplit("")
        if not parts.scheme or "#" in resource or resource not in app.audiences:
            raise AuthorizationRefused("invalid_target", "The app may not ask for this resource.")
    return resources


def _dpop_jkt(sent: str, proven: str) -> str:
    """Return the key the code is bound to (RFC 9449 §10): as sent, or as a pushed request has proven."""
    if sent and not _SHA256.fullmatch(sent):
        raise AuthorizationRefused("invalid_request", "dpop_jkt is no SHA-256 in base64url.")
    if sent and proven and sent != proven:
        raise AuthorizationRefused("invalid_request", "dpop_jkt is not of the key of the DPoP proof.")
    return sent or proven
