"""A client's WebAuthn relying party: its `webauthn_*` settings, read and checked in one place.

`orgs` refuses settings that could not work when they are written; `identity` reads them for each ceremony.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from cryptography import x509
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    model_validator,
)
from pydantic_core import PydanticCustomError

from chassis.settings import split_commas

PREFIX = "webauthn_"
LOCALHOST = "localhost"
_MAX_ORIGINS = 20
_MAX_ROOTS = 20
_MAX_DOMAIN_LENGTH = 253
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}\.)+[a-z](?:[a-z0-9-]{{0,61}}[a-z0-9])")
_ANDROID_APP = re.compile(r"android:apk-key-hash:[A-Za-z0-9_-]{43}")


class Attestation(StrEnum):
    """How much the browser is asked to tell of the authenticator (WebAuthn Level 3 §5.4.7)."""

    NONE = "none"
    INDIRECT = "indirect"
    DIRECT = "direct"
    ENTERPRISE = "enterprise"


class AttestationFormat(StrEnum):
    """The attestation statement formats that can be checked (WebAuthn Level 3 §8)."""

    NONE = "none"
    PACKED = "packed"
    TPM = "tpm"
    ANDROID_KEY = "android-key"
    FIDO_U2F = "fido-u2f"
    APPLE = "apple"


def check_rp_id(value: str) -> str:
    """Return a relying party id: a domain name in ASCII, or `localhost`; no scheme, no port, no address.

    Raises:
        PydanticCustomError: it is none.
    """
    if value != LOCALHOST and not (len(value) <= _MAX_DOMAIN_LENGTH and _DOMAIN.fullmatch(value)):
        raise PydanticCustomError(
            "rp_id_invalid", "must be a domain name in lower case, such as example.com, or localhost"
        )
    return value


def check_origin(value: str) -> str:
    """Return an origin that a ceremony may come from: of a page, or of an Android app.

    Raises:
        PydanticCustomError: it is none; plain http is for localhost only.
    """
    if not _ANDROID_APP.fullmatch(value) and value != _origin_of(value):
        raise PydanticCustomError(
            "origin_invalid",
            "must be an origin such as https://app.example.com, http://localhost:3000 or "
            "android:apk-key-hash:…, without a path",
        )
    return value


def fits(rp_id: str, origin: str) -> bool:
    """Whether a page of the origin may use the id: its own domain or one above (WebAuthn Level 3 §5.1.2)."""
    if _ANDROID_APP.fullmatch(origin):
        return True
    host = urlsplit(origin).hostname or ""
    return host == rp_id or host.endswith(f".{rp_id}")


def _origin_of(value: str) -> str | None:
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        return None
    host = url.hostname or ""
    is_local = host == LOCALHOST or host.endswith(f".{LOCALHOST}")
    if not is_local and not _DOMAIN.fullmatch(host):
        return None
    if url.scheme != "https" and not (url.scheme == "http" and is_local):
        return None
    is_default = port == {"https": 443, "http": 80}[url.scheme]
    return f"{url.scheme}://{host}" + ("" if port is None or is_default else f":{port}")


def _check_root(value: str) -> str:
    try:
        x509.load_pem_x509_certificate(value.encode())
    except ValueError:
        raise PydanticCustomError("root_invalid", "must be a certificate in PEM form") from None
    return value


def _as_list(value: object) -> object:
    return split_commas(value) if isinstance(value, str) else value


class RelyingPartySettings(BaseModel):
    """The `webauthn_*` members of a client's settings; other members are not looked at."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    webauthn_rp_id: Annotated[str, AfterValidator(check_rp_id)] | None = None
    webauthn_rp_origin: (
        Annotated[
            list[Annotated[str, AfterValidator(check_origin)]],
            BeforeValidator(_as_list),
            Field(min_length=1, max_length=_MAX_ORIGINS),
        ]
        | None
    ) = None
    webauthn_display_name: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    webauthn_user_verification: Literal["preferred", "required"] = "preferred"
    webauthn_attestation: Attestation | None = None
    webauthn_require_attestation: StrictBool = False
    webauthn_allowed_attestation_formats: (
        Annotated[list[AttestationFormat], BeforeValidator(_as_list), Field(min_length=1)] | None
    ) = None
    webauthn_attestation_roots: Annotated[
        list[Annotated[str, AfterValidator(_check_root)]], Field(max_length=_MAX_ROOTS)
    ] = []

    @model_validator(mode="after")
    def _refuse_contradictions(self) -> Self:
        rp_id, origins = self.webauthn_rp_id, self.webauthn_rp_origin
        if rp_id and origins and not all(fits(rp_id, origin) for origin in origins):
            raise PydanticCustomError(
                "webauthn_origin_mismatch",
                "webauthn_rp_id must be the domain of each webauthn_rp_origin, or a domain above it",
            )
        if self.webauthn_require_attestation and self.webauthn_attestation is Attestation.NONE:
            raise PydanticCustomError(
                "webauthn_attestation_contradiction",
                "webauthn_require_attestation needs a webauthn_attestation other than none",
            )
        return self

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self:
        """Read the members out of a client's settings.

        Raises:
            ValidationError: one of them, or their combination, cannot work.
        """
        given = {
            name: value for name, value in settings.items() if name.startswith(PREFIX) and value is not None
        }
        return cls.model_validate(given)


@dataclass(frozen=True, slots=True)
class RelyingPartyDefaults:
    """The installation's relying party, for clients that name none."""

    rp_id: str
    origins: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class RelyingParty:
    """Whom a passkey is made for, from which origins it may be used, and what is asked of authenticators."""

    id: str
    origins: tuple[str, ...]
    name: str
    requires_user_verification: bool
    attestation: Attestation
    requires_attestation: bool
    allowed_formats: frozenset[AttestationFormat]
    attestation_roots: tuple[bytes, ...]

    @classmethod
    def of(cls, settings: Mapping[str, Any], defaults: RelyingPartyDefaults) -> Self:
        """Resolve a client's settings over the installation's.

        A client that names an id only is served at `https://<id>`; one that names origins only has the
        installation's id where it fits them, else the first origin's host.

        Raises:
            ValidationError: the settings cannot work.
        """
        given = RelyingPartySettings.of(settings)
        rp_id, origins = _resolve(given.webauthn_rp_id, given.webauthn_rp_origin, defaults)
        wanted = given.webauthn_attestation
        fallback = Attestation.DIRECT if given.webauthn_require_attestation else Attestation.NONE
        formats = given.webauthn_allowed_attestation_formats
        return cls(
            id=rp_id,
            origins=tuple(origins),
            name=given.webauthn_display_name or defaults.name,
            requires_user_verification=given.webauthn_user_verification == "required",
            attestation=wanted or fallback,
            requires_attestation=given.webauthn_require_attestation,
            allowed_formats=frozenset(formats or AttestationFormat),
            attestation_roots=tuple(root.encode() for root in given.webauthn_attestation_roots),
        )


def _resolve(
    rp_id: str | None, origins: Sequence[str] | None, defaults: RelyingPartyDefaults
) -> tuple[str, Sequence[str]]:
    match rp_id, origins:
        case None, None:
            return defaults.rp_id, defaults.origins
        case str(), None:
            fitting = [origin for origin in defaults.origins if fits(rp_id, origin)]
            return rp_id, fitting or [f"https://{rp_id}"]
        case None, _ if origins:
            if all(fits(defaults.rp_id, origin) for origin in origins):
                return defaults.rp_id, origins
            return urlsplit(origins[0]).hostname or defaults.rp_id, origins
        case _:
            return rp_id or defaults.rp_id, origins or defaults.origins
