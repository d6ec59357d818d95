# ruff: noqa: INP001 - part of a script, not of a package
"""DPoP proofs (RFC 9449): what a resource must take, and what fails each check of §4.3."""

import hashlib
import json
from collections.abc import Iterator
from typing import Final, NamedTuple

from signing import (
    ABSENT,
    KEYS,
    LEEWAY,
    NOW,
    Json,
    Signer,
    b64,
    eddsa,
    es256,
    hmac_of,
    jws,
    number,
    rs256,
    rsa_jwk,
    unb64,
)

METHOD: Final = "GET"
URL: Final = "https://api.example.com/orders"
MAX_AGE: Final = 60
TOKEN: Final = "the.access.token"  # noqa: S105 - a word, not a secret
EC_JWK: Final[Json] = {name: KEYS.jwks["keys"][2][name] for name in ("kty", "crv", "x", "y")}
ED_JWK: Final[Json] = {name: KEYS.jwks["keys"][3][name] for name in ("kty", "crv", "x")}
RSA_JWK: Final[Json] = rsa_jwk(KEYS.rsa)


class Proof(NamedTuple):
    """One proof and the answer to it, for a request with `method` and `url`.

    `access_token` is what came with it, None where none does (a token endpoint). `jkt` is the thumbprint that
    the token demands, None for any. `nonce` is what the server gave out, None where it gives out none.
    """

    id: str
    attack: str
    comment: str
    proof: str
    expect: str = "invalid_dpop_proof"
    method: str = METHOD
    url: str = URL
    access_token: str | None = TOKEN
    jkt: str | None = None
    nonce: str | None = None
    control: str = "valid-es256"


def thumbprint(jwk: Json) -> str:
    """RFC 7638, over the required members of the key's kind."""
    names = {"EC": ("crv", "kty", "x", "y"), "OKP": ("crv", "kty", "x"), "RSA": ("e", "kty", "n")}[jwk["kty"]]
    members = {name: jwk[name] for name in sorted(names)}
    return b64(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())


def ath(token: str = TOKEN) -> str:
    """The hash of an access token (RFC 9449 §4.2)."""
    return b64(hashlib.sha256(token.encode()).digest())


def proof_header(alg: object = "ES256", jwk: object = EC_JWK, **other: object) -> Json:
    """A proof's header; ABSENT leaves a member out."""
    members = {"typ": "dpop+jwt", "alg": alg, "jwk": jwk, **other}
    return {name: value for name, value in members.items() if value is not ABSENT}


def proof_claims(**changed: object) -> Json:
    """A proof's claims; ABSENT leaves one out."""
    claims: Json = {"jti": "0190f5c0", "htm": METHOD, "htu": URL, "iat": NOW, "ath": ath()}
    return {name: value for name, value in {**claims, **changed}.items() if value is not ABSENT}


def proof(head: Json | str | None = None, sign: Signer = es256, **changed: object) -> str:
    """A signed proof."""
    return jws(proof_header() if head is None else head, proof_claims(**changed), sign)


def accepted_proofs() -> Iterator[Proof]:
    """Proofs that must be taken."""

    def good(id: str, comment: str, text: str, **request: object) -> Proof:  # noqa: A002
        members: Json = {"expect": "valid", "control": id, **request}
        return Proof(id, "control", comment, text, **members)

    rs, ed = proof_header("RS256", RSA_JWK), proof_header("EdDSA", ED_JWK)
    yield good("valid-es256", "ES256", proof(), jkt=thumbprint(EC_JWK))
    yield good("valid-rs256", "RS256", proof(rs, rs256), jkt=thumbprint(RSA_JWK))
    yield good("valid-eddsa", "EdDSA", proof(ed, eddsa), jkt=thumbprint(ED_JWK))
    yield good("valid-unbound", "without a demand for a key", proof())
    yield good("valid-no-token", "where no token is sent", proof(ath=ABSENT), access_token=None)
    yield good("valid-nonce", "with the nonce given", proof(nonce="n-1"), nonce="n-1")
    yield good("valid-nonce-unasked", "with a nonce nobody asked for", proof(nonce="n-1"))
    yield good("valid-post", "another method", proof(htm="POST"), method="POST")
    yield good("valid-query", "the request's query is not compared", proof(), url=URL + "?page=2&x=%20")
    yield good("valid-host-case", "scheme and host ignore case", proof(htu="HTTPS://API.Example.com/orders"))
    yield good("valid-port", "the default port", proof(htu="https://api.example.com:443/orders"))
    yield good(
        "valid-root",
        "an empty path is /",
        proof(htu="https://api.example.com"),
        url="https://api.example.com/",
    )
    yield good("valid-past", "a little ago", proof(iat=NOW - MAX_AGE + 1))
    yield good("valid-ahead", "by a clock a little ahead", proof(iat=NOW + LEEWAY))
    yield good("valid-fraction", "a time with a fraction (RFC 7519 §2)", proof(iat=NOW - 0.5))
    yield good("valid-htu-query", "nor the proof's", proof(htu=URL + "?x=1"))
    yield good("valid-htu-fragment", "nor the proof's", proof(htu=URL + "#x"))
    yield good("valid-extra", "an unknown claim", proof(note={"x": [1]}))
    named = proof_header("ES256", {**EC_JWK, "kid": "mine", "use": "sig", "alg": "ES256"})
    yield good("valid-jwk-members", "a key with its name and use", proof(named), jkt=thumbprint(EC_JWK))


def forged_proofs() -> Iterator[Proof]:
    """Proofs that must be refused, by the check of RFC 9449 §4.3 that they fail."""
    yield from _shapes()
    yield from _headers()
    yield from _keys()
    yield from _requests()
    for name, nonce in {"absent": ABSENT, "other": "n-0", "null": None, "empty": "", "list": ["n-1"]}.items():
        yield Proof(
            f"nonce-{name}",
            "§4.3 (10)",
            "not the nonce given",
            proof(nonce=nonce),
            "use_dpop_nonce" if name in {"absent", "other"} else "invalid_dpop_proof",
            nonce="n-1",
            control="valid-nonce",
        )
    for name, claim in {
        "absent": ABSENT,
        "null": None,
        "other": ath("another.access.token"),
        "empty": "",
        "padded": ath() + "=",
        "hex": hashlib.sha256(TOKEN.encode()).hexdigest(),
        "the-token": TOKEN,
    }.items():
        yield Proof(f"ath-{name}", "§4.3 (12)", "not the hash of this token", proof(ath=claim))
    other_key = "the token is bound to another key"
    yield Proof("jkt-other", "§4.3 (12)", other_key, proof(), jkt=thumbprint(ED_JWK))
    yield Proof("jkt-empty", "§4.3 (12)", other_key, proof(), jkt="")


def _shapes() -> Iterator[Proof]:
    head, body, signature = proof().split(".")
    spare = signature[:-1] + chr(ord(signature[-1]) + 1)
    shapes = {
        "empty": "",
        "two-parts": f"{head}.{body}",
        "unsigned": f"{head}.{body}.",
        "four-parts": f"{head}.{body}.{signature}.{signature}",
        "json": json.dumps({"protected": head, "payload": body, "signature": signature}),
        "padded": f"{head}.{body}.{signature}==",
        "spare-bits": f"{head}.{body}.{spare}",
        "oversized": proof(note="x" * 20_000),
        "two-proofs": f"{proof()}, {proof()}",
        "array": jws(proof_header(), b"[]", es256),
        "twice": jws(proof_header(), json.dumps(proof_claims())[:-1] + ',"htm":"POST"}', es256),
        "nan": jws(proof_header(), json.dumps(proof_claims())[:-1] + ',"x":NaN}', es256),
        "nested": jws(
            proof_header(), json.dumps(proof_claims())[:-1] + ',"x":' + "[" * 5000 + "]" * 5000 + "}", es256
        ),
    }
    for name, text in shapes.items():
        yield Proof(f"shape-{name}", "§4.3 (2)", "not one well-formed JWT", text)
    kinds: tuple[tuple[str, str, object], ...] = (
        ("jti", "number", 7),
        ("jti", "empty", ""),
        ("jti", "long", "j" * 1000),
        ("htm", "number", 1),
        ("htu", "list", [URL]),
        ("iat", "text", str(NOW)),
    )
    for name, kind, claim in kinds:
        yield Proof(f"{name}-{kind}", "§4.3 (3)", f"{name} is not acceptable", proof(**{name: claim}))
    for name in ("jti", "htm", "htu", "iat"):
        yield Proof(f"{name}-absent", "§4.3 (3)", f"without {name}", proof(**{name: ABSENT}))


def _headers() -> Iterator[Proof]:
    for name, typ in {
        "absent": ABSENT,
        "jwt": "JWT",
        "access": "at+jwt",
        "null": None,
        "list": ["dpop+jwt"],
    }.items():
        yield Proof(f"typ-{name}", "§4.3 (4)", "not a proof by its type", proof(proof_header(typ=typ)))
    for alg in ("none", "None", "HS256", "ES384", "ES256K", "RS256", "EdDSA", "PS256"):
        yield Proof(f"alg-{alg}", "§4.3 (5)", "not the key's algorithm", proof(proof_header(alg)))
    yield Proof("alg-absent", "§4.3 (5)", "without an algorithm", proof(proof_header(ABSENT)))
    yield Proof("alg-none-unsigned", "§4.3 (5)", "unsigned", proof(proof_header("none"), lambda _: b""))
    public = json.dumps(EC_JWK).encode()
    yield Proof(
        "alg-hs256-public",
        "§4.3 (5)",
        "HMAC with the key itself",
        proof(proof_header("HS256"), hmac_of(public)),
    )
    carried: dict[str, Json] = {
        "crit": {"crit": ["exp"]},
        "b64": {"b64": False},
        "zip": {"zip": "DEF"},
        "jku": {"jku": "https://evil.example/jwks.json"},
        "x5c": {"x5c": ["AAAA"]},
    }
    for name, change in carried.items():
        yield Proof(
            f"header-{name}", "§4.3 (2)", "changes how the proof is read", proof(proof_header(**change))
        )


def _keys() -> Iterator[Proof]:
    private = {**EC_JWK, "d": b64(KEYS.ec.private_numbers().private_value.to_bytes(32, "big"))}
    oct_jwk = {"kty": "oct", "k": b64(KEYS.secret)}
    absent: dict[str, object] = {
        "absent": ABSENT,
        "null": None,
        "text": json.dumps(EC_JWK),
        "empty": {},
        "set": {"keys": [EC_JWK]},
        "private": private,
        "off-curve": {**EC_JWK, "y": EC_JWK["x"]},
        "other-curve": {**EC_JWK, "crv": "P-384"},
        "padded": {**EC_JWK, "x": EC_JWK["x"] + "="},
        "without-y": {name: value for name, value in EC_JWK.items() if name != "y"},
        "for-encryption": {**EC_JWK, "use": "enc"},
        "other-alg": {**EC_JWK, "alg": "ES384"},
    }
    for name, jwk in absent.items():
        yield Proof(f"jwk-{name}", "§4.3 (7)", "not one public key", proof(proof_header(jwk=jwk)))
    symmetric = proof_header("HS256", oct_jwk)
    yield Proof("jwk-symmetric", "§4.3 (7)", "a symmetric key", proof(symmetric, hmac_of(KEYS.secret)))
    small = proof_header("RS256", rsa_jwk(KEYS.rsa_small))
    signed_small: Signer = lambda data: rs256(data, KEYS.rsa_small)  # noqa: E731
    yield Proof("jwk-small", "§4.3 (7)", "a weak key", proof(small, signed_small), control="valid-rs256")
    others = proof_header("RS256", rsa_jwk(KEYS.rsa_next))
    yield Proof(
        "signature-other-key",
        "§4.3 (6)",
        "signed by another key",
        proof(others, rs256),
        control="valid-rs256",
    )
    head, body, signature = proof().split(".")
    raw = unb64(signature)
    for name, value in {
        "zero": bytes(64),
        "first-bit": bytes([raw[0] ^ 1]) + raw[1:],
        "short": raw[:-1],
        "other-claims": unb64(proof(jti="other").rpartition(".")[2]),
    }.items():
        yield Proof(f"signature-{name}", "§4.3 (6)", "a wrong signature", f"{head}.{body}.{b64(value)}")
    assert number(EC_JWK["x"])  # noqa: S101 - the key is there, so that what fails above fails for its own reason


def _requests() -> Iterator[Proof]:
    for name, method in {"other": "POST", "case": "get", "space": "GET ", "empty": ""}.items():
        yield Proof(f"htm-{name}", "§4.3 (8)", "for another method", proof(htm=method))
    for name, url in {
        "path": "https://api.example.com/invoices",
        "slash": URL + "/",
        "path-case": "https://api.example.com/Orders",
        "child": URL + "/1",
        "host": "https://evil.example/orders",
        "subdomain": "https://x.api.example.com/orders",
        "scheme": "http://api.example.com/orders",
        "port": "https://api.example.com:8443/orders",
        "user": "https://u:p@api.example.com/orders",
        "dots": "https://api.example.com/x/../orders",
        "encoded": "https://api.example.com/%6Frders",
        "relative": "/orders",
        "empty": "",
        "space": " " + URL,
        "backslash": "https:\\\\api.example.com\\orders",
    }.items():
        yield Proof(f"htu-{name}", "§4.3 (9)", "for another address", proof(htu=url))
    for name, issued in {
        "old": NOW - 3600,
        "ahead": NOW + 3600,
        "leeway-old": NOW - MAX_AGE,
        "leeway-ahead": NOW + LEEWAY + 1,
        "true": True,
        "negative": -1,
        "huge": 10**400,
        "huge-negative": -(10**400),
    }.items():
        yield Proof(f"iat-{name}", "§4.3 (11)", "not made now", proof(iat=issued))
