# ruff: noqa: INP001 - part of a script, not of a package
"""Signs test tokens with the keys of `keys.json`, also in ways no issuer would; used by `generate.py`."""

import base64
import datetime
import hmac
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

HERE: Final = Path(__file__).resolve().parent
NOW: Final = 1_800_000_000
LEEWAY: Final = 30
ISSUED_AHEAD: Final = 120
ISSUER: Final = "https://auth.example.com"
AUDIENCE: Final = "https://api.example.com"
RESOURCE: Final = "https://api.example.com/orders"
ISSUER_KID: Final = "issuer.es-1"
CLIENT: Final = "0190f5c0-0000-7000-8000-00000000000a"
OTHER_CLIENT: Final = "0190f5c0-0000-7000-8000-00000000000b"
P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
ALPHABET: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"

Json = dict[str, Any]
ABSENT: Final = object()


def b64(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def unb64(text: str) -> bytes:
    """The bytes of unpadded base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(text: str) -> int:
    """The integer of a JWK member."""
    return int.from_bytes(unb64(text), "big")


class Keys:
    """The committed test keys, ready to sign."""

    def __init__(self) -> None:
        document = json.loads((HERE / "keys.json").read_text())
        self.jwks: Json = {"keys": [self._public(jwk) for jwk in document["keys"] if jwk["published"]]}
        by_kid = {jwk["kid"]: jwk for jwk in document["keys"]}
        self.rsa = self._rsa(by_kid["rs-1"])
        self.rsa_next = self._rsa(by_kid["rs-2"])
        self.rsa_evil = self._rsa(by_kid["evil-rs"])
        self.rsa_small = self._rsa(by_kid["small-rs"])
        self.ec = ec.derive_private_key(number(by_kid["es-1"]["d"]), ec.SECP256R1())
        self.issuer = ec.derive_private_key(number(by_kid[ISSUER_KID]["d"]), ec.SECP256R1())
        self.ed = ed25519.Ed25519PrivateKey.from_private_bytes(unb64(by_kid["ed-1"]["d"]))
        self.secret = unb64(document["secret"])

    @staticmethod
    def _public(jwk: Json) -> Json:
        return {
            name: jwk[name] for name in ("kty", "kid", "use", "alg", "crv", "n", "e", "x", "y") if name in jwk
        }

    @staticmethod
    def _rsa(jwk: Json) -> rsa.RSAPrivateKey:
        public = rsa.RSAPublicNumbers(number(jwk["e"]), number(jwk["n"]))
        p, q, d = number(jwk["p"]), number(jwk["q"]), number(jwk["d"])
        return rsa.RSAPrivateNumbers(
            p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), public
        ).private_key()


KEYS: Final = Keys()
Signer = Callable[[bytes], bytes]


def rs256(data: bytes, key: rsa.RSAPrivateKey = KEYS.rsa) -> bytes:
    """RSASSA-PKCS1-v1_5 with SHA-256."""
    return key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def es256(data: bytes, key: ec.EllipticCurvePrivateKey = KEYS.ec) -> bytes:
    """ECDSA on P-256 with SHA-256, as r and s."""
    r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def eddsa(data: bytes) -> bytes:
    """Ed25519."""
    return KEYS.ed.sign(data)


def hmac_of(secret: bytes, name: str = "sha256") -> Signer:
    """HMAC with this secret."""
    return lambda data: hmac.new(secret, data, name).digest()


def header(alg: object = "RS256", kid: object = "rs-1", **other: object) -> Json:
    """An access token's header; ABSENT leaves a member out."""
    members = {"alg": alg, "typ": "at+jwt", "kid": kid, **other}
    return {name: value for name, value in members.items() if value is not ABSENT}


def payload(**changed: object) -> Json:
    """An access token's claims; ABSENT leaves one out."""
    claims: Json = {
        "iss": ISSUER,
        "sub": "0190f5c0-0000-7000-8000-000000000001",
        "aud": AUDIENCE,
        "exp": NOW + 600,
        "iat": NOW - 300,
        "nbf": NOW - 300,
        "jti": "0190f5c0-0000-7000-8000-000000000002",
        "sid": "0190f5c0-0000-7000-8000-000000000003",
        "client_id": CLIENT,
        "token_use": "access",
        "email": "user@example.com",
        "role": "user",
        "email_verified": True,
        "auth_time": NOW - 300,
        "amr": ["pwd"],
        "acr": "urn:authservice:acr:1",
    }
    return {name: value for name, value in {**claims, **changed}.items() if value is not ABSENT}


def text(value: Json | str | bytes) -> bytes:
    """JSON bytes; a string or bytes are taken as they are, for what no encoder would write."""
    if isinstance(value, bytes):
        return value
    return (value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))).encode()


def jws(head: Json | str | bytes, body: Json | str | bytes, sign: Signer = rs256) -> str:
    """A signed token."""
    signing_input = f"{b64(text(head))}.{b64(text(body))}"
    return f"{signing_input}.{b64(sign(signing_input.encode()))}"


def with_signature(token: str, signature: bytes) -> str:
    """The token with another signature."""
    return token.rpartition(".")[0] + "." + b64(signature)


RS: Final = jws(header(), payload())
ES: Final = jws(header("ES256", "es-1"), payload(), es256)
ED: Final = jws(header("EdDSA", "ed-1"), payload(), eddsa)
HS: Final = jws(header("HS256", "hs-1"), payload(), hmac_of(KEYS.secret))


def public_keys() -> Iterator[tuple[str, bytes]]:
    """The forms in which somebody may take a public key for a secret."""
    spki = serialization.PublicFormat.SubjectPublicKeyInfo
    pkcs1 = serialization.PublicFormat.PKCS1
    pem, der = serialization.Encoding.PEM, serialization.Encoding.DER
    public = KEYS.rsa.public_key()
    yield "rsa-spki-pem", public.public_bytes(pem, spki)
    yield "rsa-spki-pem-stripped", public.public_bytes(pem, spki).rstrip()
    yield "rsa-spki-pem-crlf", public.public_bytes(pem, spki).replace(b"\n", b"\r\n")
    yield "rsa-pkcs1-pem", public.public_bytes(pem, pkcs1)
    yield "rsa-spki-der", public.public_bytes(der, spki)
    yield "rsa-pkcs1-der", public.public_bytes(der, pkcs1)
    yield "rsa-spki-base64", base64.b64encode(public.public_bytes(der, spki))
    yield "rsa-jwk", text(KEYS.jwks["keys"][0])
    yield "rsa-jwks", text(KEYS.jwks)
    yield "ec-spki-pem", KEYS.ec.public_key().public_bytes(pem, spki)
    yield "ed-spki-der", KEYS.ed.public_key().public_bytes(der, spki)
    yield "certificate-pem", certificate().public_bytes(pem)
    yield "certificate-der", certificate().public_bytes(der)
    yield "certificate-x5c", base64.b64encode(certificate().public_bytes(der))
    yield "rsa-ssh", public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


def certificate() -> x509.Certificate:
    """A self-signed certificate of the RSA key."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "auth.example.com")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, KEYS.rsa.public_key(), 1, start, start.replace(year=2046))
    return builder.sign(KEYS.rsa, hashes.SHA256())


def rsa_jwk(key: rsa.RSAPrivateKey) -> Json:
    """The public JWK of an RSA key."""
    numbers = key.public_key().public_numbers()
    return {
        "kty": "RSA",
        "n": b64(numbers.n.to_bytes((key.key_size + 7) // 8, "big")),
        "e": b64(numbers.e.to_bytes(3, "big")),
    }
