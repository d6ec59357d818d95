"""Problem documents (RFC 9457): the one form of an error on HTTP."""

from __future__ import annotations

import json

from chassis.errors import HTTP_STATUS, AppError, Kind

MEDIA_TYPE = b"application/problem+json"


def problem(error: AppError, request_id: str) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Return status, headers and body of the answer to a refused request."""
    status = HTTP_STATUS[error.kind]
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
    body = json.dumps(document, separators=(",", ":")).encode()
    headers = [
        (b"content-type", MEDIA_TYPE),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
        *((name.lower().encode(), value.encode()) for name, value in error.headers),
    ]
    if error.retry_after is not None:
        headers.append((b"retry-after", str(max(1, error.retry_after)).encode()))
    if error.kind is Kind.UNAUTHENTICATED and not any(name == b"www-authenticate" for name, _ in headers):
        # RFC 9110 §15.5.2: a 401 names a scheme.
        headers.append((b"www-authenticate", b"Bearer"))
    return int(status), headers, body
