"""What a client demands of attestation, and what py_webauthn does not look at in a certificate.

Whether a certificate is of a maker that is trusted shows only against roots: the client's
`webauthn_attestation_roots`, and for Apple and Android those that py_webauthn brings.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import NameOID
from webauthn.helpers import parse_cbor
from webauthn.helpers.structs import AttestationFormat as LibraryFormat
from webauthn.helpers.structs import AttestationObject

from contracts.relying_party import AttestationFormat, RelyingParty


class AttestationRefused(Exception):
    """The attestation is not what the client demands; the message is safe to show."""


_AAGUID_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")  # id-fido-gen-ce-aaguid
_OCTET_STRING_16 = b"\x04\x10"
_UNIT = "Authenticator Attestation"
_SHA1_WITH_RSA = -65535


def roots_by_format(party: RelyingParty) -> dict[LibraryFormat, list[bytes]]:
    """Return the client's roots as py_webauthn takes them: lists of their own, to which it adds."""
    if not party.attestation_roots:
        return {}
    return {name: list(party.attestation_roots) for name in LibraryFormat}


def check_attestation(attested: AttestationObject, encoded: bytes, party: RelyingParty) -> None:
    """Check an attestation whose signature is good against the client's demands.

    Raises:
        AttestationRefused: it does not meet them, or contradicts itself.
    """
    name = str(attested.fmt.value if isinstance(attested.fmt, LibraryFormat) else attested.fmt)
    if name not in party.allowed_formats:
        raise AttestationRefused(f"the attestation format {name[:32]} is not accepted here")
    chain = attested.att_stmt.x5c
    if party.requires_attestation and (name == AttestationFormat.NONE or not chain):
        raise AttestationRefused("an attestation by the authenticator's maker is required")
    if name == AttestationFormat.PACKED and chain:
        _check_packed(attested, chain[0], encoded)


def _check_packed(attested: AttestationObject, leaf: bytes, encoded: bytes) -> None:
    """Check what WebAuthn Level 3 §8.2 and §8.2.1 demand of the statement and of its certificate."""
    if parse_cbor(encoded)["attStmt"].get("alg") == _SHA1_WITH_RSA:
        raise AttestationRefused("SHA-1 signatures are not accepted")
    certificate = x509.load_der_x509_certificate(leaf)
    if certificate.version is not x509.Version.v3:
        raise AttestationRefused("the attestation certificate must be of version 3")
    subject = certificate.subject
    units = [name.value for name in subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    named = (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME, NameOID.COMMON_NAME)
    if units != [_UNIT] or not all(subject.get_attributes_for_oid(oid) for oid in named):
        raise AttestationRefused("the attestation certificate's subject is not of an authenticator")
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        raise AttestationRefused("the attestation certificate has no basic constraints") from None
    if constraints.ca:
        raise AttestationRefused("the attestation certificate is of a certificate authority")
    _check_aaguid(attested, certificate)


def _check_aaguid(attested: AttestationObject, certificate: x509.Certificate) -> None:
    try:
        extension = certificate.extensions.get_extension_for_oid(_AAGUID_EXTENSION)
    except x509.ExtensionNotFound:
        return
    value = extension.value
    told = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    data = attested.auth_data.attested_credential_data
    if extension.critical or data is None or told != _OCTET_STRING_16 + data.aaguid:
        raise AttestationRefused("the AAGUID is not the one of the attestation certificate")
