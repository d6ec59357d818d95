"""HTTP face of imports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

from fastapi import Request
from starlette.requests import ClientDisconnect

from chassis.context import Access
from chassis.http import KIB, Caller, Router
from services.identity.errors import UploadBroken
from services.identity.imports.lines import ReportResponse
from services.identity.imports.models import ParametersLine, UserLine
from services.identity.imports.service import ImportService

_BODY_LIMIT = 50 * 1024 * KIB

_EXAMPLE = """{"email": "ada@example.com", "password_hash": "$2b$12$…", "email_verified": true}
{"email": "bob@example.com", "password_hash": "pbkdf2_sha256$600000$…$…", "display_name": "Bob"}
"""


def _body() -> dict[str, Any]:
    """The contract's word on the body: each line one of two objects."""
    return {
        "required": True,
        "description": "One JSON object a line, each of at most 64 KiB: "
        f"{UserLine.__doc__} Members: {', '.join(f'`{name}`' for name in UserLine.model_fields)}. "
        f'Or {ParametersLine.__doc__} `{{"firebase_scrypt": {{"signer_key": …}}}}`.',
        "content": {"application/x-ndjson": {"schema": {"type": "string"}, "example": _EXAMPLE}},
    }


def routes(imports: ImportService) -> Router:
    """The slice's routes."""
    router = Router(tag="Administration: users")

    @router.post(
        "/api/admin/clients/{client_id}/users/import",
        access=Access.ADMIN,
        permission="users:import",
        limit="admin",
        body_limit=_BODY_LIMIT,
        request_body=_body(),
        status_code=200,
        response_class=ReportResponse,
        responses={404: {"description": "`client_not_found`"}},
    )
    async def import_users(client_id: UUID, request: Request, caller: Caller) -> ReportResponse:
        """Create users of another system with the hashes of their passwords (NDJSON in, NDJSON out).

        `password_hash` may be bcrypt, Argon2id or Argon2i, PBKDF2 as Django, passlib or Werkzeug write it,
        salted SHA of LDAP, or `{"algorithm": "firebase_scrypt", "hash", "salt"}` after a line with the
        project's `firebase_scrypt` parameters. It is replaced by one of the configured scheme at the first
        login. Each line is reported as `{"line", "status", "user_id", "code", "detail"}`: `created`,
        `skipped` (the address has a user, who is left as it is) or `error`. The last line sums up: `done`, or
        `aborted` with a `code`. Importing the same lines again changes nothing.
        """
        return ReportResponse(await imports.begin(caller, client_id, _stream(request)))

    return router


async def _stream(request: Request) -> AsyncIterator[bytes]:
    """Yield the body as it comes.

    Raises:
        UploadBroken: it ended early.
        BodyTooLarge: it is longer than the route takes.
    """
    try:
        async for part in request.stream():
            yield part
    except ClientDisconnect:
        raise UploadBroken from None
