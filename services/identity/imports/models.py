"""Imports: what a line may hold, and what is reported of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, Field

from chassis.errors import AppError, UnprocessableRequest
from chassis.models import RequestModel
from services.identity.passwords.foreign import FirebaseParameters
from services.identity.users.email import MAX_TYPED_LENGTH
from services.identity.users.fields import DisplayName, Locale, Metadata, Phone, Role
from services.identity.users.models import UserId, UserStatus

_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9999, 1, 1, tzinfo=UTC)


def _check_moment(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must be a time since 1970")
    return moment


Moment = Annotated[AwareDatetime, AfterValidator(_check_moment)]


class FirebaseHash(RequestModel):
    """A user's hash as `firebase auth:export` writes it; the project's parameters are in a line before."""

    algorithm: Literal["firebase_scrypt"]
    hash: str = Field(max_length=512)
    salt: str = Field(max_length=256)


class FirebaseLine(RequestModel):
    """The hash parameters of a Firebase project, for the lines that follow."""

    signer_key: str = Field(max_length=512)
    salt_separator: str = Field("", max_length=128)
    rounds: int = Field(8, ge=1, le=16)
    mem_cost: int = Field(14, ge=1, le=20)

    def parameters(self) -> FirebaseParameters:
        """Return them as a value."""
        return FirebaseParameters(self.signer_key, self.salt_separator, self.rounds, self.mem_cost)


class ParametersLine(RequestModel):
    """A line that holds no user, but parameters."""

    firebase_scrypt: FirebaseLine


class UserLine(RequestModel):
    """A line that holds a user; members that are not listed are ignored, and ids are always made here."""

    email: str = Field(max_length=MAX_TYPED_LENGTH)
    email_verified: bool = False
    display_name: DisplayName | None = None
    role: Role | None = None
    status: UserStatus | None = None
    metadata: Metadata | None = None
    locale: Locale | None = None
    phone: Phone | None = None
    created_at: Moment | None = None
    password_hash: Annotated[str, Field(max_length=1024)] | FirebaseHash | None = None


@dataclass(frozen=True, slots=True)
class ImportedUser:
    """A user of a line that was found good; `line` counts from 1."""

    line: int
    id: UserId
    email: str
    email_normalized: str
    email_verified: bool
    display_name: str
    role: str
    status: UserStatus
    metadata_json: str
    locale: str | None
    phone: str | None
    created_at: datetime
    password_hash: str | None


class LineStatus(StrEnum):
    """What became of a line."""

    CREATED = "created"
    SKIPPED = "skipped"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class LineReport:
    """What became of one line; `code` and `detail` say why it was skipped or refused."""

    line: int
    status: LineStatus
    user_id: UUID | None = None
    code: str | None = None
    detail: str | None = None

    @classmethod
    def of_error(cls, line: int, error: AppError) -> LineReport:
        """Report a refusal; the first broken field is named."""
        detail = error.detail
        if isinstance(error, UnprocessableRequest) and error.errors:
            detail = f"{error.errors[0].field}: {error.errors[0].detail}"
        return cls(line, LineStatus.ERROR, code=error.code, detail=detail)

    def encode(self) -> bytes:
        """Write the line of the report."""
        members = {
            "line": self.line,
            "status": self.status,
            "user_id": str(self.user_id) if self.user_id else None,
            "code": self.code,
            "detail": self.detail,
        }
        return _line({name: value for name, value in members.items() if value is not None})


@dataclass(slots=True)
class Summary:
    """The last line of a report: how often each, and whether all lines were read."""

    counts: dict[LineStatus, int] = field(default_factory=lambda: dict.fromkeys(LineStatus, 0))
    code: str | None = None

    def encode(self) -> bytes:
        """Write it; `aborted` with the code of what ended the import early."""
        members: dict[str, Any] = {
            "status": "aborted" if self.code else "done",
            "created": self.counts[LineStatus.CREATED],
            "skipped": self.counts[LineStatus.SKIPPED],
            "errors": self.counts[LineStatus.ERROR],
        }
        return _line({**members, "code": self.code} if self.code else members)


def _line(members: dict[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
