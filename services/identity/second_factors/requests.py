"""What requests that show a second factor have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from contracts.session import TransportRequest
from services.identity.recovery_codes.codes import MAX_TYPED_LENGTH

AnyCode = Annotated[
    str,
    Field(min_length=1, max_length=MAX_TYPED_LENGTH, description="A code of the app, or a recovery code."),
]
Password = Annotated[str, Field(min_length=1, max_length=1024, description="The current password.")]

WRONG_CODE: dict[int | str, dict[str, Any]] = {
    403: {"description": "`wrong_code`"},
    429: {"description": "`account_locked`: see `Retry-After`"},
}
SECOND_LEG_REFUSALS: dict[int | str, dict[str, Any]] = {
    401: {"description": "`invalid_mfa_code`: try another; `invalid_mfa_token`: log in again"},
    429: {"description": "`account_locked`: see `Retry-After`"},
    503: {"description": "`feature_unavailable`"},
}


class SecondLegRequest(TransportRequest):
    """The login that waits, and whether this device is to be remembered."""

    mfa_token: str = Field(min_length=1, max_length=128)
    remember_device: bool = False
