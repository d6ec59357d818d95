"""An authenticator in software, with its browser: makes passkeys and shows them, honestly or forged.

    device = Device()
    answer = device.create(options, origin="http://localhost:8080")
    answer = device.get(options, origin="http://localhost:8080", Forgery(rp_id="evil.example"))

Options and answers are JSON as browsers exchange it (WebAuthn Level 3 §5.1.8, §5.4, §5.5).
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

ES256, EDDSA, RS256 = -7, -8, -257
UP, UV, BE, BS, AT = 0x01, 0x04, 0x08, 0x10, 0x40
NO_AAGUID = bytes(16)
AAGUID_EXTENSION = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")

Json = dict[str, Any]
Bytes = Callable[[bytes], bytes]


def b64(value: bytes) -> str:
    """Unpadded base64url."""
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def unb64(text: str) -> bytes:
    """The bytes of unpadded base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass(frozen=True)
class Forgery:
    """What differs from an honest answer; None is honest."""

    type: str | None = None
    challenge: str | None = None
    client_data: Json = field(default_factory=dict)
    rp_id: str | None = None
    flags: int | None = None
    sign_count: int | None = None
    credential_id: bytes | None = None
    aaguid: bytes | None = None
    cose_key: Callable[[dict[int, Any]], Any] | None = None
    key_bytes: Bytes | None = None
    user_handle: bytes | None = None
    no_user_handle: bool = False
    auth_data: Bytes | None = None
    attestation_object: Bytes | None = None
    signature: Bytes | None = None
    signed_auth_data: Bytes | None = None


HONEST = Forgery()


class Maker:
    """A maker of authenticators: a root, and an attestation certificate under it."""

    def __init__(
        self,
        aaguid: bytes,
        *,
        told_aaguid: bytes | None = None,
        unit: str = "Authenticator Attestation",
        is_ca: bool = False,
    ) -> None:
        """Issue the certificate; `told_aaguid` is what its extension says."""
        self.aaguid = aaguid
        self.key = ec.generate_private_key(ec.SECP256R1())
        root_key = ec.generate_private_key(ec.SECP256R1())
        root_name = _name("Test Maker Root", "Roots")
        self.root = _certificate(root_name, root_name, root_key, root_key, is_ca=True)
        told = aaguid if told_aaguid is None else told_aaguid
        self.leaf = _certificate(
            _name("Test Authenticator", unit), root_name, self.key, root_key, is_ca=is_ca, aaguid=told
        )

    @property
    def root_pem(self) -> str:
        """The root, for a client's `webauthn_attestation_roots`."""
        return self.root.public_bytes(Encoding.PEM).decode()

    @property
    def leaf_der(self) -> bytes:
        """The attestation certificate."""
        return self.leaf.public_bytes(Encoding.DER)

    def sign(self, data: bytes) -> bytes:
        """Sign as the attestation certificate says."""
        return self.key.sign(data, ec.ECDSA(SHA256()))


@dataclass
class Device:
    """One credential in one authenticator. `counts` says that it has a counter."""

    algorithm: int = ES256
    aaguid: bytes = NO_AAGUID
    counts: bool = True
    verifies_user: bool = True
    synced: bool = False
    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    user_handle: bytes = b""
    sign_count: int = 0
    key: Any = None

    def __post_init__(self) -> None:
        """Make the key pair."""
        match self.algorithm:
            case -7:
                self.key = ec.generate_private_key(ec.SECP256R1())
            case -8:
                self.key = ed25519.Ed25519PrivateKey.generate()
            case _:
                self.key = rsa.generate_private_key(65537, 2048)

    def create(
        self,
        options: Mapping[str, Any],
        *,
        origin: str,
        attestation: str = "none",
        maker: Maker | None = None,
        forged: Forgery = HONEST,
    ) -> Json:
        """Answer `navigator.credentials.create()`; attestation is none, self, packed or fido-u2f."""
        self.user_handle = unb64(options["user"]["id"])
        client_data = self._client_data("webauthn.create", options, origin, forged)
        credential_id = self.credential_id if forged.credential_id is None else forged.credential_id
        aaguid = forged.aaguid if forged.aaguid is not None else self.aaguid
        key = self.cose_key() if forged.cose_key is None else forged.cose_key(self.cose_key())
        encoded = cbor2.dumps(key)
        if forged.key_bytes is not None:
            encoded = forged.key_bytes(encoded)
        attested = aaguid + len(credential_id).to_bytes(2, "big") + credential_id + encoded
        auth_data = self._auth_data(options["rp"]["id"], AT, forged) + attested
        if forged.auth_data is not None:
            auth_data = forged.auth_data(auth_data)
        statement = self._statement(attestation, auth_data, client_data, credential_id, maker, forged)
        made = cbor2.dumps({"fmt": _format(attestation), "attStmt": statement, "authData": auth_data})
        if forged.attestation_object is not None:
            made = forged.attestation_object(made)
        response = {
            "clientDataJSON": b64(client_data),
            "attestationObject": b64(made),
            "transports": ["internal", "hybrid"],
        }
        return _credential(credential_id, response)

    def get(self, options: Mapping[str, Any], *, origin: str, forged: Forgery = HONEST) -> Json:
        """Answer `navigator.credentials.get()`."""
        if self.counts:
            self.sign_count += 1
        client_data = self._client_data("webauthn.get", options, origin, forged)
        auth_data = self._auth_data(options["rpId"], 0, forged)
        if forged.auth_data is not None:
            auth_data = forged.auth_data(auth_data)
        signed = auth_data if forged.signed_auth_data is None else forged.signed_auth_data(auth_data)
        signature = self.sign(signed + hashlib.sha256(client_data).digest())
        if forged.signature is not None:
            signature = forged.signature(signature)
        response = {
            "clientDataJSON": b64(client_data),
            "authenticatorData": b64(auth_data),
            "signature": b64(signature),
        }
        handle = self.user_handle if forged.user_handle is None else forged.user_handle
        if not forged.no_user_handle:
            response["userHandle"] = b64(handle)
        credential_id = self.credential_id if forged.credential_id is None else forged.credential_id
        return _credential(credential_id, response)

    def cose_key(self) -> dict[int, Any]:
        """The public key (RFC 9053)."""
        match self.algorithm:
            case -7:
                numbers = self.key.public_key().public_numbers()
                x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
                return {1: 2, 3: -7, -1: 1, -2: x, -3: y}
            case -8:
                return {1: 1, 3: -8, -1: 6, -2: self.key.public_key().public_bytes_raw()}
            case _:
                numbers = self.key.public_key().public_numbers()
                return {1: 3, 3: -257, -1: numbers.n.to_bytes(256, "big"), -2: b"\x01\x00\x01"}

    def sign(self, data: bytes) -> bytes:
        """Sign with the credential's key."""
        match self.algorithm:
            case -7:
                return bytes(self.key.sign(data, ec.ECDSA(SHA256())))
            case -8:
                return bytes(self.key.sign(data))
            case _:
                return bytes(self.key.sign(data, padding.PKCS1v15(), SHA256()))

    def _client_data(self, kind: str, options: Mapping[str, Any], origin: str, forged: Forgery) -> bytes:
        members: Json = {
            "type": forged.type or kind,
            "challenge": forged.challenge or options["challenge"],
            "origin": origin,
            "crossOrigin": False,
            **forged.client_data,
        }
        return json.dumps(members, separators=(",", ":")).encode()

    def _auth_data(self, rp_id: str, more: int, forged: Forgery) -> bytes:
        flags = UP | (UV if self.verifies_user else 0) | (BE | BS if self.synced else 0)
        flags = (flags if forged.flags is None else forged.flags) | more
        count = self.sign_count if forged.sign_count is None else forged.sign_count
        rp_hash = hashlib.sha256((forged.rp_id or rp_id).encode()).digest()
        return rp_hash + bytes([flags]) + count.to_bytes(4, "big")

    def _statement(
        self,
        attestation: str,
        auth_data: bytes,
        client_data: bytes,
        credential_id: bytes,
        maker: Maker | None,
        forged: Forgery,
    ) -> Json:
        hashed = hashlib.sha256(client_data).digest()
        change = forged.signature or (lambda signature: signature)
        if attestation == "none":
            return {}
        if attestation == "self":
            return {"alg": self.algorithm, "sig": change(self.sign(auth_data + hashed))}
        assert maker is not None
        if attestation == "packed":
            signature = change(maker.sign(auth_data + hashed))
            return {"alg": ES256, "sig": signature, "x5c": [maker.leaf_der]}
        key = self.cose_key()
        signed = b"\0" + auth_data[:32] + hashed + credential_id + b"\x04" + key[-2] + key[-3]
        return {"sig": change(maker.sign(signed)), "x5c": [maker.leaf_der]}


def _format(attestation: str) -> str:
    return {"self": "packed"}.get(attestation, attestation)


def _credential(credential_id: bytes, response: Json) -> Json:
    named = b64(credential_id)
    return {
        "id": named,
        "rawId": named,
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {},
        "response": response,
    }


def _name(common: str, unit: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "SE"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test Maker"),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    is_ca: bool,
    aaguid: bytes | None = None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=365))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if aaguid is not None:
        told = x509.UnrecognizedExtension(AAGUID_EXTENSION, b"\x04\x10" + aaguid)
        builder = builder.add_extension(told, critical=False)
    return builder.sign(issuer_key, SHA256())
