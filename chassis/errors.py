"""Typed errors: raised once in a service, carried across gRPC, rendered once by each face.

AppError
├── InvalidRequest        400   it cannot be understood
├── Unauthenticated       401   no or a bad credential
├── Forbidden             403   a good credential without the right
├── NotFound              404   nothing there, or nothing of yours
├── MethodNotAllowed      405   the path has no such method
├── Conflict              409   the state does not allow it
├── BodyTooLarge          413   more than the route takes
├── UnprocessableRequest  422   a field breaks a rule; `errors` names the fields
├── RateLimited           429   too often; `retry_after` says when again
├── InternalError         500   our fault; the detail never says more
├── Unavailable           503   a dependency is away or full; `retry_after` says when again
├── DeadlineExceeded      504   the caller's time is used up
└── RemoteError           any   what another service raised, passed on
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus

import grpc
from pydantic import JsonValue


class Kind(StrEnum):
    """What sort of refusal an error is; decides its HTTP and its gRPC status."""

    INVALID = "invalid"
    UNPROCESSABLE = "unprocessable"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    CONFLICT = "conflict"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    INTERNAL = "internal"


HTTP_STATUS: dict[Kind, HTTPStatus] = {
    Kind.INVALID: HTTPStatus.BAD_REQUEST,
    Kind.UNPROCESSABLE: HTTPStatus.UNPROCESSABLE_ENTITY,
    Kind.UNAUTHENTICATED: HTTPStatus.UNAUTHORIZED,
    Kind.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.METHOD_NOT_ALLOWED: HTTPStatus.METHOD_NOT_ALLOWED,
    Kind.CONFLICT: HTTPStatus.CONFLICT,
    Kind.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    Kind.UNSUPPORTED: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    Kind.RATE_LIMITED: HTTPStatus.TOO_MANY_REQUESTS,
    Kind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    Kind.TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    Kind.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}

GRPC_STATUS: dict[Kind, grpc.StatusCode] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNPROCESSABLE: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.METHOD_NOT_ALLOWED: grpc.StatusCode.UNIMPLEMENTED,
    Kind.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNSUPPORTED: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}


@dataclass(frozen=True, slots=True)
class FieldError:
    """One fault of one field of a request; `field` is its path, such as `settings.brand`."""

    field: str
    code: str
    detail: str


class AppError(Exception):
    """A refusal with a stable `code` and a `detail` that is safe to show to anyone.

    `retry_after` is in seconds. `headers` are added to the HTTP answer (a `WWW-Authenticate`, a cleared
    cookie). `extra` members, JSON values, appear beside `code` in the problem document, and cross gRPC.
    """

    kind: Kind
    code: str
    detail: str

    def __init__(
        self,
        detail: str | None = None,
        *,
        errors: tuple[FieldError, ...] = (),
        retry_after: int | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        extra: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Take the class's detail unless a more helpful, equally safe one is given."""
        self.detail = detail or type(self).detail
        self.errors = errors
        self.retry_after = retry_after
        self.headers = headers
        self.extra: Mapping[str, JsonValue] = extra or {}
        super().__init__(f"{self.code}: {self.detail}")


class RemoteError(AppError):
    """An error another service raised, passed on as that service said it."""

    def __init__(
        self,
        kind: Kind,
        code: str,
        detail: str,
        retry_after: int | None = None,
        *,
        extra: Mapping[str, JsonValue] | None = None,
    ) -> None:
        """Carry kind, code, detail and further members over unchanged."""
        self.kind = kind
        self.code = code
        super().__init__(detail, retry_after=retry_after, extra=extra)


class InternalError(AppError):
    """Our fault; the detail never says more, the log does."""

    kind = Kind.INTERNAL
    code = "internal_error"
    detail = "Something went wrong on our side."


class InvalidRequest(AppError):
    """The request cannot be understood."""

    kind = Kind.INVALID
    code = "invalid_request"
    detail = "The request is malformed."


class UnprocessableRequest(AppError):
    """The request is understood and breaks a rule; `errors` says which field and which rule."""

    kind = Kind.UNPROCESSABLE
    code = "validation_failed"
    detail = "Some fields are not acceptable."


class Unauthenticated(AppError):
    """No credential, or one that is not good."""

    kind = Kind.UNAUTHENTICATED
    code = "unauthenticated"
    detail = "A valid credential is required."


class Forbidden(AppError):
    """A good credential without the right."""

    kind = Kind.FORBIDDEN
    code = "forbidden"
    detail = "You are not allowed to do this."


class NotFound(AppError):
    """Nothing there, or nothing of the caller's: the two are never told apart."""

    kind = Kind.NOT_FOUND
    code = "not_found"
    detail = "There is nothing here."


class MethodNotAllowed(AppError):
    """The path has no such method; `Allow` names those it has."""

    kind = Kind.METHOD_NOT_ALLOWED
    code = "method_not_allowed"
    detail = "This path has no such method."


class Conflict(AppError):
    """The present state does not allow the change."""

    kind = Kind.CONFLICT
    code = "conflict"
    detail = "This conflicts with the present state."


class BodyTooLarge(AppError):
    """The body is larger than the route takes."""

    kind = Kind.TOO_LARGE
    code = "body_too_large"
    detail = "The body is larger than this route accepts."


class RateLimited(AppError):
    """Too many requests; `retry_after` says when the next may come."""

    kind = Kind.RATE_LIMITED
    code = "rate_limited"
    detail = "Too many requests. Try again later."


class Unavailable(AppError):
    """A dependency is away or full, and the request changed nothing that was answered with success."""

    kind = Kind.UNAVAILABLE
    code = "unavailable"
    detail = "The service is not available right now. Try again shortly."

    def __init__(self, detail: str | None = None, *, retry_after: int = 1) -> None:
        """Always say when to try again."""
        super().__init__(detail, retry_after=retry_after)


class DeadlineExceeded(AppError):
    """The caller's time was used up before an answer."""

    kind = Kind.TIMEOUT
    code = "timeout"
    detail = "The request took too long."
