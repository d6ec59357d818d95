"""Keys that verify, each bound to one algorithm before any token is seen."""

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_private_key, load_der_public_key
from jwt.algorithms import Algorithm, ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from authservice_validator.errors import TokenInvalid
from authservice_validator.jose import MAX_KID_LENGTH, decode_base64url

_RS256: Final = RSAAlgorithm(RSAAlgorithm.SHA256)
_ES256: Final = ECAlgorithm(ECAlgorithm.SHA256)
_EDDSA: Final = OKPAlgorithm()
_HS256: Final = HMACAlgorithm(HMACAlgorithm.SHA256)

_RSA_BITS: Final = range(2048, 8193)
_RSA_EXPONENT: Final = 65537
_MIN_SECRET_BYTES: Final = 32
_MIN_DISTINCT_BYTES: Final = 8


class KeyRefused(ValueError):
    """A key or secret that must not be used to verify tokens; the message says why and holds none of it."""


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One key and the only algorithm it is ever used with (RFC 8725 §3.1)."""

    kid: str
    alg: str
    signature_length: int
    algorithm: Algorithm
    material: Any

    def verifies(self, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's over `signing_input`, in the one length the algorithm gives."""
        if len(signature) != self.signature_length:
            return False
        return self.algorithm.verify(signing_input, self.material, signature)


class KeySource(Protocol):
    """Where a verifier gets its keys; the source, not the token, decides which algorithms exist."""

    @property
    def algorithms(self) -> frozenset[str]:
        """The algorithms that this source's keys can have."""
        ...

    @property
    def generation(self) -> int:
        """Changes whenever a key is taken away, which ends every cached verification made with it."""
        ...

    def find(self, kid: str) -> VerificationKey | None:
        """The key of this name when it is at hand and fresh; never waits."""
        ...

    async def get(self, kid: str) -> VerificationKey:
        """The key of this name, loading keys where that may help.

        Raises:
            TokenInvalid: the issuer has no such key.
            KeysUnavailable: the issuer's keys could not be loaded.
        """
        ...


class HmacKey:
    """The secret of a client in `v1_hs256` mode: verifies HS256 and nothing else.

    Args:
        secret: at least 32 bytes (RFC 7518 §3.2). A public key or certificate in any of its forms is refused:
            who verifies HS256 with something public accepts tokens from everybody (CVE-2017-11424,
            CVE-2022-29217).
        kid: the only key name accepted; None accepts every name.
    """

    algorithms: Final = frozenset({"HS256"})
    generation: Final = 0

    __slots__ = ("_key", "_kid")

    def __init__(self, secret: str | bytes, *, kid: str | None = None) -> None:
        material = secret.encode("utf-8") if isinstance(secret, str) else bytes(secret)
        if is_asymmetric_key(material):
            raise KeyRefused("the HS256 secret is an asymmetric key, certificate or JWK")
        if len(material) < _MIN_SECRET_BYTES or len(set(material)) < _MIN_DISTINCT_BYTES:
            raise KeyRefused("the HS256 secret has fewer than 32 bytes, or hardly any different ones")
        self._kid = kid
        self._key = VerificationKey(kid or "", "HS256", 32, _HS256, material)

    def find(self, kid: str) -> VerificationKey | None:
        """The secret, when it goes by this name."""
        return self._key if self._kid is None or kid == self._kid else None

    async def get(self, kid: str) -> VerificationKey:
        """The secret, when it goes by this name; there is nothing to load."""
        key = self.find(kid)
        if key is None:
            raise TokenInvalid("the token names another secret")
        return key


def is_asymmetric_key(material: bytes) -> bool:
    """Whether a secret is really an asymmetric key: PEM, DER, SSH, JWK or JWKS, bare or base64."""
    text = material.strip()
    if b"-----BEGIN" in text or text.startswith((b"ssh-", b"ecdsa-sha2-", b"sk-ssh-", b"sk-ecdsa-")):
        return True
    if _is_jwk(text) or _is_der(material) or _is_der(text):
        return True
    # An `x5c` entry, or the body of a PEM whose armour was stripped, wrapped or not.
    bare = b"".join(text.split()).replace(b"-", b"+").replace(b"_", b"/")
    try:
        return _is_der(base64.b64decode(bare + b"=" * (-len(bare) % 4), validate=True))
    except binascii.Error:
        return False


def _is_jwk(text: bytes) -> bool:
    if not text.startswith((b"{", b"[", b"\xef\xbb\xbf")):
        return False
    try:
        value = json.loads(text.decode("utf-8-sig"))
    except RecursionError:
        return True
    except ValueError:
        return False
    return isinstance(value, list | dict)


def _is_der(material: bytes) -> bool:
    # Every DER key and certificate is a SEQUENCE; asking first spares random secrets four parsers.
    if not material.startswith(b"0"):
        return False
    try:
        load_der_public_key(material)
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        return True
    try:
        x509.load_der_x509_certificate(material)
    except (ValueError, UnsupportedAlgorithm):
        pass
    else:
        return True
    try:
        load_der_private_key(material, password=None)
    except TypeError:
        return True  # encrypted, so it is one
    except (ValueError, UnsupportedAlgorithm):
        return False
    return True


def read_jwks(document: Mapping[str, object]) -> dict[str, VerificationKey]:
    """Read the verification keys of a JWK set by name (RFC 7517 §5).

    Keys of other kinds or for other uses are left out, as the RFC asks. An empty set is an answer: the issuer
    has no keys, and no token is good.

    Raises:
        KeyRefused: not a JWK set, two keys of one name, or keys of which none can be used.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise KeyRefused("the document is not a JWK set")
    keys: dict[str, VerificationKey] = {}
    for jwk in listed:
        if not isinstance(jwk, Mapping):
            raise KeyRefused("the JWK set holds something that is not a key")
        try:
            key = read_jwk(jwk)
        except KeyRefused:
            continue
        if key.kid in keys:
            raise KeyRefused("two keys of the JWK set have one name")
        keys[key.kid] = key
    if listed and not keys:
        raise KeyRefused("no key of the JWK set can be used")
    return keys


def read_jwk(jwk: Mapping[str, object]) -> VerificationKey:
    """Read one public key: RSA of 2048 to 8192 bits for RS256, P-256 for ES256, Ed25519 for EdDSA.

    Raises:
        KeyRefused: another kind or use, no name, private or symmetric material, or a weak key.
    """
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= MAX_KID_LENGTH:
        raise KeyRefused("the key has no name")
    # An issuer that publishes its private key has lost it: what it signs proves nothing.
    if not {"d", "p", "q", "dp", "dq", "qi", "oth", "k"}.isdisjoint(jwk):
        raise KeyRefused("the key holds private material")
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise KeyRefused("the key is not for signatures")
    try:
        return _public_key(kid, jwk)
    except KeyRefused:
        raise
    except (InvalidKeyError, ValueError, TypeError, TokenInvalid, UnsupportedAlgorithm) as error:
        raise KeyRefused("the key cannot be read") from error


def _public_key(kid: str, jwk: Mapping[str, object]) -> VerificationKey:
    match (jwk.get("kty"), jwk.get("crv"), jwk.get("alg")):
        case ("RSA", None, None | "RS256"):
            return _rsa_key(kid, jwk)
        case ("EC", "P-256", None | "ES256"):
            return VerificationKey(
                kid, "ES256", 64, _ES256, ECAlgorithm.from_jwk(_members(jwk, "kty", "crv", "x", "y"))
            )
        case ("OKP", "Ed25519", None | "EdDSA"):
            return VerificationKey(
                kid, "EdDSA", 64, _EDDSA, OKPAlgorithm.from_jwk(_members(jwk, "kty", "crv", "x"))
            )
        case _:
            raise KeyRefused("the key is of another kind")


def _rsa_key(kid: str, jwk: Mapping[str, object]) -> VerificationKey:
    material = RSAAlgorithm.from_jwk(_members(jwk, "kty", "n", "e"))
    if not isinstance(material, RSAPublicKey):
        raise KeyRefused("the key holds private material")
    if material.key_size not in _RSA_BITS or material.public_numbers().e != _RSA_EXPONENT:
        raise KeyRefused("the RSA key is too small, too large, or has an unusual exponent")
    return VerificationKey(kid, "RS256", (material.key_size + 7) // 8, _RS256, material)


def _members(jwk: Mapping[str, object], *names: str) -> dict[str, Any]:
    # Only what the kind needs reaches the library, and only canonical numbers.
    members = {name: jwk.get(name) for name in names}
    for name, value in members.items():
        if not isinstance(value, str):
            raise KeyRefused(f"the key lacks {name}")
        if name not in {"kty", "crv"}:
            decode_base64url(value)
    return members
