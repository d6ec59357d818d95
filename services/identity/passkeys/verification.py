"""The checks of a ceremony (WebAuthn Level 3 §7.1 and §7.2).

py_webauthn checks signatures, flags and attestation statements. What it leaves open is checked here: the
spelling of the challenge, frames of other origins, the exact form of keys and ids, backup flags, and what an
attestation certificate must say.
"""

from __future__ import annotations

import hmac
import json
from typing import Any
from uuid import UUID

from webauthn import verify_authentication_response, verify_registration_response
from webauthn.helpers import (
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_attestation_object,
    parse_authenticator_data,
    parse_cbor,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.structs import AttestationObject, AuthenticatorData

from contracts.relying_party import RelyingParty
from services.identity.passkeys.attestation import check_attestation, roots_by_format
from services.identity.passkeys.credentials import NewCredential, ShownCredential, decode
from services.identity.passkeys.models import Passkey, Registered

ALGORITHMS = (
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
)
"""What new keys may be, the preferred first."""

CREATE, GET = "webauthn.create", "webauthn.get"

_MIN_CREDENTIAL_ID, _MAX_CREDENTIAL_ID = 16, 1023  # WebAuthn Level 3 §4 and §6.5.1
_P256_BYTES = 32
_RSA_BYTES = range(256, 513)  # 2048 to 4096 bits: larger ones would cost more to check than a login may
_RSA_EXPONENT = b"\x01\x00\x01"


class MalformedCredential(Exception):
    """It is not what any authenticator makes; the message is safe to show."""


class RefusedCredential(Exception):
    """A check failed; the message says which, and is safe to show to who registers."""


def challenge_of(client_data_json: str) -> str:
    """Return the challenge that a credential answers; nothing is checked yet.

    Raises:
        MalformedCredential: it is no client data.
    """
    challenge = _client_data(client_data_json).get("challenge")
    if not isinstance(challenge, str):
        raise MalformedCredential("clientDataJSON has no challenge")
    return challenge


def check_form(shown: ShownCredential) -> None:
    """Read an answer of an authenticator, before anyone is looked up.

    Raises:
        MalformedCredential: it is malformed.
    """
    challenge_of(shown.response.client_data_json)
    _authenticator_data(decode(shown.response.authenticator_data))


def verify_registration(
    new: NewCredential, challenge: str, party: RelyingParty, *, needs_user_verification: bool
) -> Registered:
    """Check the answer to a registration's challenge.

    Raises:
        MalformedCredential: it is malformed.
        RefusedCredential: a check failed.
    """
    attested = _attestation(new.response.attestation_object)
    _check_client_data(new.response.client_data_json, CREATE, challenge, party)
    data = attested.auth_data.attested_credential_data
    if data is None or len(data.aaguid) != 16:
        raise MalformedCredential("the authenticator data has no credential")
    if not hmac.compare_digest(data.credential_id, new.credential_id):
        raise RefusedCredential("the id is not the one that the authenticator made")
    if not _MIN_CREDENTIAL_ID <= len(data.credential_id) <= _MAX_CREDENTIAL_ID:
        raise RefusedCredential("the credential id must have 16 to 1023 bytes")
    _check_key(data.credential_public_key)
    try:
        verified = verify_registration_response(
            credential=_as_library_has_it(
                new, attestationObject=new.response.attestation_object, transports=[]
            ),
            expected_challenge=decode(challenge),
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            require_user_verification=needs_user_verification or party.requires_user_verification,
            supported_pub_key_algs=list(ALGORITHMS),
            pem_root_certs_bytes_by_fmt=roots_by_format(party),
        )
    except Exception as error:
        # The library raises its own errors, and those of the parsers below it, for whatever is wrong.
        raise RefusedCredential(str(error)[:200]) from error
    check_attestation(attested, decode(new.response.attestation_object), party)
    flags = attested.auth_data.flags
    return Registered(
        credential_id=verified.credential_id,
        public_key=verified.credential_public_key,
        sign_count=verified.sign_count,
        aaguid=UUID(verified.aaguid),
        attestation_format=str(attested.fmt),
        backup_eligible=flags.be,
        backed_up=flags.bs,
        user_verified=flags.uv,
    )


def verify_assertion(
    shown: ShownCredential,
    challenge: str,
    passkey: Passkey,
    party: RelyingParty,
    *,
    needs_user_verification: bool,
) -> AuthenticatorData:
    """Check the answer to a login's challenge by the passkey's key; its counter is the caller's to compare.

    Raises:
        MalformedCredential: it is malformed.
        RefusedCredential: a check failed.
    """
    data = _authenticator_data(decode(shown.response.authenticator_data))
    _check_client_data(shown.response.client_data_json, GET, challenge, party)
    try:
        verify_authentication_response(
            credential=_as_library_has_it(
                shown,
                authenticatorData=shown.response.authenticator_data,
                signature=shown.response.signature,
            ),
            expected_challenge=decode(challenge),
            expected_rp_id=party.id,
            expected_origin=list(party.origins),
            credential_public_key=passkey.public_key,
            # The library would compare before it checks the signature: anyone could cry "clone".
            credential_current_sign_count=0,
            require_user_verification=needs_user_verification or party.requires_user_verification,
        )
    except Exception as error:
        # As above.
        raise RefusedCredential(str(error)[:200]) from error
    if data.flags.be != passkey.backup_eligible:
        raise RefusedCredential("the backup eligibility has changed")
    return data


def _as_library_has_it(shown: NewCredential | ShownCredential, **members: object) -> dict[str, Any]:
    response = {"clientDataJSON": shown.response.client_data_json, **members}
    return {"id": shown.id, "rawId": shown.raw_id, "type": shown.type, "response": response}


def _client_data(encoded: str) -> dict[str, Any]:
    try:
        data = json.loads(decode(encoded).decode("utf-8"))
    except (ValueError, RecursionError):
        raise MalformedCredential("clientDataJSON is not JSON") from None
    if not isinstance(data, dict):
        raise MalformedCredential("clientDataJSON is not an object")
    return data


def _check_client_data(encoded: str, purpose: str, challenge: str, party: RelyingParty) -> None:
    data = _client_data(encoded)
    if data.get("type") != purpose:
        raise RefusedCredential(f"the type must be {purpose}")
    given = data.get("challenge")
    # As text: other spellings of the same bytes are not what a browser sends.
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), challenge.encode()):
        raise RefusedCredential("the challenge is not the one of this ceremony")
    if data.get("origin") not in party.origins:
        raise RefusedCredential("the origin is not one of the client's webauthn_rp_origin")
    if data.get("crossOrigin") not in (None, False) or data.get("topOrigin") is not None:
        # In a frame of another page the user may be led to confirm what it does not see.
        raise RefusedCredential("a ceremony in a frame of another origin is not accepted")


def _authenticator_data(raw: bytes) -> AuthenticatorData:
    try:
        return parse_authenticator_data(raw)
    except Exception as error:
        raise MalformedCredential("authenticatorData is malformed") from error


def _attestation(encoded: str) -> AttestationObject:
    try:
        attested = parse_attestation_object(decode(encoded))
    except Exception as error:
        raise MalformedCredential("attestationObject is malformed") from error
    if not isinstance(attested.fmt, str):
        raise MalformedCredential("attestationObject is malformed")
    return attested


def _check_key(encoded: bytes) -> None:
    """Check that a COSE key has exactly the members of its kind, and is one (RFC 9053 §2.1, §2.2, §7)."""
    try:
        key = parse_cbor(encoded)
    except Exception as error:
        raise MalformedCredential("the public key is malformed") from error
    if not isinstance(key, dict) or any(type(name) is not int for name in key):
        raise MalformedCredential("the public key is malformed")
    if not _has_form(key):
        raise RefusedCredential("the public key is not of an algorithm that was offered, or not in its form")
    try:
        decoded_public_key_to_cryptography(decode_credential_public_key(encoded))
    except Exception as error:
        raise RefusedCredential("the public key is not a valid key") from error


def _has_form(key: dict[int, object]) -> bool:
    if any(type(key.get(name)) is not int for name in (1, 3)):
        return False
    match key:
        case {1: 2, 3: -7, -1: 1, -2: bytes(x), -3: bytes(y)}:
            return len(key) == 5 and type(key[-1]) is int and len(x) == len(y) == _P256_BYTES
        case {1: 1, 3: -8, -1: 6, -2: bytes(x)}:
            return len(key) == 4 and type(key[-1]) is int and len(x) == _P256_BYTES
        case {1: 3, 3: -257, -1: bytes(n), -2: bytes(e)}:
            return len(key) == 4 and len(n) in _RSA_BYTES and e == _RSA_EXPONENT
        case _:
            return False
