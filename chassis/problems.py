"""The two forms of an error on HTTP: problem documents (RFC 9457), and OAuth errors (RFC 6749 §5.2)."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Final

from chassis.errors import HTTP_STATUS, AppError, Kind

MEDIA_TYPE = b"application/problem+json"
_JSON = b"application/json"
_NOT_DESCRIBING: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")

# The registered codes that a token endpoint and its siblings answer (RFC 6749 §5.2 and §4.1.2.1, RFC 7009,
# RFC 8628 §3.5, RFC 8707 §2, RFC 9449 §5), userinfo (RFC 6750 §3.1), or a pushed request (RFC 9126 §2.3,
# OpenID Connect Core §3.1.2.6), or a registration (RFC 7591 §3.2.2).
_OAUTH_CODES: Final = frozenset(
    {
        "access_denied",
        "authorization_pending",
        "expired_token",
        "insufficient_scope",
        "invalid_client",
        "invalid_client_metadata",
        "invalid_dpop_proof",
        "invalid_grant",
        "invalid_redirect_uri",
        "invalid_request",
        "invalid_request_uri",
        "invalid_scope",
        "invalid_target",
        "invalid_token",
        "registration_not_supported",
        "request_not_supported",
        "slow_down",
        "unapproved_software_statement",
        "unauthorized_client",
        "unmet_authentication_requirements",
        "unsupported_grant_type",
        "unsupported_response_type",
        "unsupported_token_type",
        "use_dpop_nonce",
    }
)
_OAUTH_CODE_OF: Final = {
    Kind.UNAUTHENTICATED: "invalid_client",
    Kind.FORBIDDEN: "unauthorized_client",
    Kind.RATE_LIMITED: "temporarily_unavailable",
    Kind.UNAVAILABLE: "temporarily_unavailable",
    Kind.TIMEOUT: "temporarily_unavailable",
    Kind.INTERNAL: "server_error",
}

Rendered = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, headers and body of an answer."""


def problem(error: AppError, request_id: str, *, oauth: bool = False) -> Rendered:
    """Return the answer to a refused request; `oauth` says that the route answers as OAuth does."""
    status = HTTP_STATUS[error.kind]
    document: dict[str, object]
    if oauth:
        if status is HTTPStatus.UNPROCESSABLE_ENTITY:
            status = HTTPStatus.BAD_REQUEST
        document = {"error": _oauth_code(error), "error_description": _description(error)}
    else:
        document = _problem_document(error, status, request_id)
    body = json.dumps(document, separators=(",", ":")).encode()
    headers = [
        (b"content-type", _JSON if oauth else MEDIA_TYPE),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in error.headers),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, error.retry_after)).encode()))
    if error.kind is Kind.UNAUTHENTICATED and not any(name == b"www-authenticate" for name, _ in headers):
        # RFC 9110 §15.5.2: a 401 names a scheme; RFC 6749 §5.2: that of a client's credentials.
        headers.append((b"www-authenticate", b'Basic realm="oauth"' if oauth else b"Bearer"))
    return int(status), headers, body


def _problem_document(error: AppError, status: HTTPStatus, request_id: str) -> dict[str, object]:
    document: dict[str, object] = {
        "type": f"/docs/errors#{error.code}",
        "title": status.phrase,
        "status": int(status),
        "detail": error.detail,
        "code": error.code,
        "request_id": request_id,
        **error.extra,
    }
    if error.errors:
        document["errors"] = [{"field": e.field, "code": e.code, "detail": e.detail} for e in error.errors]
    return document


def _oauth_code(error: AppError) -> str:
    return error.code if error.code in _OAUTH_CODES else _OAUTH_CODE_OF.get(error.kind, "invalid_request")


def _description(error: AppError) -> str:
    """The detail, and the fields at fault, for which OAuth has no place; in its letters (RFC 6749 §5.2)."""
    faults = [f"{fault.field}: {fault.detail}" for fault in error.errors]
    return _NOT_DESCRIBING.sub("'", " ".join([error.detail, *faults]))
