"""What an authenticator answers, as `PublicKeyCredential.toJSON()` gives it (WebAuthn Level 3 §5.1.8)."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from chassis.models import RequestModel

_MAX_CREDENTIAL_ID = 1366
"""Characters of 1023 bytes, and some more: what is longer is refused with its reason."""
_MAX_BLOB = 16 * 1024
_TRANSPORTS = ("usb", "nfc", "ble", "smart-card", "hybrid", "internal", "cable")


def encode(value: bytes) -> str:
    """Return unpadded base64url."""
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def decode(text: str) -> bytes:
    """Read unpadded base64url in its one canonical spelling.

    Raises:
        ValueError: it is anything else.
    """
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("must be base64url without padding") from None
    if encode(value) != text:
        # The same bytes in other characters would pass where two spellings are compared.
        raise ValueError("must be canonical base64url without padding")
    return value


def _check(text: str) -> str:
    decode(text)
    return text


Blob = Annotated[str, Field(max_length=_MAX_BLOB), AfterValidator(_check)]
"""Bytes in base64url."""

CredentialId = Annotated[str, Field(min_length=1, max_length=2 * _MAX_CREDENTIAL_ID), AfterValidator(_check)]
"""A credential id in base64url."""


class AttestationResponse(RequestModel):
    """`AuthenticatorAttestationResponseJSON`."""

    client_data_json: Blob = Field(alias="clientDataJSON")
    attestation_object: Blob = Field(alias="attestationObject")
    transports: list[Annotated[str, Field(max_length=32)]] = Field(default=[], max_length=16)


class AssertionResponse(RequestModel):
    """`AuthenticatorAssertionResponseJSON`."""

    client_data_json: Blob = Field(alias="clientDataJSON")
    authenticator_data: Blob = Field(alias="authenticatorData")
    signature: Blob
    user_handle: Blob | None = Field(None, alias="userHandle")


class _Credential(RequestModel):
    id: CredentialId
    raw_id: CredentialId = Field(alias="rawId")
    type: Literal["public-key"]

    @model_validator(mode="after")
    def _refuse_two_ids(self) -> _Credential:
        if self.id != self.raw_id:
            raise ValueError("id and rawId must be the same")
        return self

    @property
    def credential_id(self) -> bytes:
        """The id, as bytes."""
        return decode(self.raw_id)


class NewCredential(_Credential):
    """`RegistrationResponseJSON`: the answer of `navigator.credentials.create()`."""

    response: AttestationResponse

    @property
    def transports(self) -> tuple[str, ...]:
        """The known ones of the transports that the browser tells; of the others nobody could make use."""
        return tuple(name for name in _TRANSPORTS if name in self.response.transports)


class ShownCredential(_Credential):
    """`AuthenticationResponseJSON`: the answer of `navigator.credentials.get()`."""

    response: AssertionResponse


def wrapped(body: object) -> object:
    """Accept a credential that is the body itself, as older integrations send it."""
    if isinstance(body, dict) and "credential" not in body and "rawId" in body:
        members: dict[str, Any] = body
        return {**members, "credential": members}
    return body
