"""A client's own password policy, as stored at `settings.password_policy`; it only tightens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chassis.errors import UnprocessableRequest
from chassis.models import field_error

SETTING = "password_policy"
"""The member of a client's settings."""


class PasswordPolicySetting(BaseModel):
    """What a client may ask of new passwords beyond what the installation does; nothing makes it laxer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min_length: int | None = Field(None, ge=6, le=64)
    min_unique: int | None = Field(None, ge=1, le=16)
    block_common: bool = False
    block_user_info: bool = False
    block_low_entropy: bool = False
    block_breached: bool = False


def check_password_policy(document: object, *, where: str = SETTING) -> PasswordPolicySetting:
    """Parse a password policy that somebody wants to store; `where` is the path of the document.

    Raises:
        UnprocessableRequest: a field is unknown or unacceptable; `errors` names the path of each fault.
    """
    try:
        return PasswordPolicySetting.model_validate(document)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        raise UnprocessableRequest(
            errors=tuple(field_error(fault, [*where.split("."), *fault["loc"]]) for fault in faults)
        ) from None


def password_policy_of(settings: Mapping[str, Any]) -> PasswordPolicySetting:
    """Read the policy out of a client's settings; one that was stored unchecked may ask nothing."""
    try:
        return PasswordPolicySetting.model_validate(settings.get(SETTING) or {})
    except ValidationError:
        return PasswordPolicySetting()
