# ruff: noqa: INP001 - part of a script, not of a package
"""Tokens whose header, shape or signature is forged."""

import base64
import json
from collections.abc import Iterator

from accepted import Vector
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding
from signing import (
    ABSENT,
    ALPHABET,
    CLIENT,
    ED,
    ED25519_ORDER,
    ES,
    HS,
    ISSUER_KID,
    KEYS,
    NOW,
    OTHER_CLIENT,
    P256_ORDER,
    RS,
    Json,
    Signer,
    b64,
    certificate,
    eddsa,
    es256,
    header,
    hmac_of,
    jws,
    payload,
    public_keys,
    rs256,
    rsa_jwk,
    text,
    unb64,
    with_signature,
)


def algorithms() -> Iterator[Vector]:
    """The algorithm is the key's and the mode's, never the token's."""
    old = RS.rpartition(".")[2]
    for alg in ("none", "None", "NONE", "nOnE"):
        unsigned = jws(header(alg), payload(), lambda _: b"")
        yield Vector(f"alg-{alg}-empty", "J-01", "unsigned", unsigned)
        yield Vector(f"alg-{alg}-old-signature", "J-01", "unsigned, with a real signature", unsigned + old)
        yield Vector(f"alg-{alg}-no-dot", "J-01", "unsigned, two parts", unsigned.rstrip("."))
    for name, alg in (
        ("absent", ABSENT),
        ("null", None),
        ("empty", ""),
        ("list", ["RS256"]),
        ("case", "rs256"),
    ):
        yield Vector(f"alg-{name}", "J-01", "alg is not a known word", jws(header(alg), payload()))
    for name, secret in public_keys():
        for digest in ("256", "384", "512"):
            forged = jws(header(f"HS{digest}"), payload(), hmac_of(secret, f"sha{digest}"))
            yield Vector(f"confusion-hs{digest}-{name}", "J-02", "the public key as HMAC secret", forged)
    weak = (
        ("empty", b""),
        ("nul", b"\0"),
        ("secret", b"secret"),
        ("kid", b"hs-1"),
        ("client", CLIENT.encode()),
    )
    for name, secret in weak:
        forged = jws(header("HS256", "hs-1"), payload(), hmac_of(secret))
        yield Vector(
            f"weak-{name}", "J-03", "a guessed secret", forged, source="hs256", control="valid-hs256"
        )
    yield Vector("mode-hs256-at-jwks", "J-04", "a good HS256 token at a JWKS client", HS)
    borrowed = jws(header("HS256", "rs-1"), payload(), hmac_of(KEYS.secret))
    yield Vector("mode-hs256-kid-of-jwks", "J-04", "HS256 under a JWKS key's name", borrowed)
    for name, token in (("rs256", RS), ("es256", ES), ("eddsa", ED)):
        comment = "a good token of a JWKS client at an HS256 client"
        yield Vector(f"mode-{name}-at-hs256", "J-04", comment, token, source="hs256", control="valid-hs256")
    for digest in ("384", "512"):
        forged = jws(header(f"HS{digest}", "hs-1"), payload(), hmac_of(KEYS.secret, f"sha{digest}"))
        yield Vector(
            f"mode-hs{digest}", "J-17", "another digest", forged, source="hs256", control="valid-hs256"
        )


def key_bindings() -> Iterator[Vector]:
    """A key signs with its own algorithm only, whatever the header calls it."""
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 0)
    forged = jws(header("PS256"), payload(), lambda data: KEYS.rsa.sign(data, pss, hashes.SHA256()))
    yield Vector("alg-ps256", "J-17", "PSS by a key registered for RS256", forged)
    forged = jws(header(), payload(), lambda data: KEYS.rsa.sign(data, pss, hashes.SHA256()))
    yield Vector("alg-ps256-as-rs256", "J-17", "a PSS signature called RS256", forged)
    for digest, algorithm in (("384", hashes.SHA384()), ("512", hashes.SHA512()), ("1", hashes.SHA1())):  # noqa: S303
        signing_input = f"{b64(text(header(f'RS{digest}')))}.{b64(text(payload()))}"
        forged = KEYS.rsa.sign(signing_input.encode(), padding.PKCS1v15(), algorithm)
        comment = "another digest by a good key"
        yield Vector(f"alg-rs{digest}", "J-17", comment, f"{signing_input}.{b64(forged)}")
    yield Vector(
        "alg-es256-rsa-key", "J-17", "ES256 under an RSA key's name", jws(header("ES256"), payload(), es256)
    )
    yield Vector(
        "alg-rs256-ec-key", "J-17", "RS256 under an EC key's name", jws(header(kid="es-1"), payload())
    )
    yield Vector(
        "alg-eddsa-ec-key",
        "J-17",
        "EdDSA under an EC key's name",
        jws(header("EdDSA", "es-1"), payload(), eddsa),
    )
    for alg in ("ES256", "EdDSA"):
        yield Vector(
            f"alg-lie-{alg.lower()}",
            "J-17",
            "a good RS256 signature by another name",
            jws(header(alg), payload()),
        )
    by_issuer: Signer = lambda data: es256(data, KEYS.issuer)  # noqa: E731
    # The very key that signs the good status list of these vectors.
    forged = jws(header("ES256", ISSUER_KID), payload(), by_issuer)
    comment = "an access token by the issuer's own key, which signs none"
    yield Vector("issuer-key", "J-14", comment, forged, control="valid-es256")
    forged = jws(header("ES256", "es-1"), payload(), by_issuer)
    comment = "the issuer's own key under the name of a client's"
    yield Vector("issuer-key-as-clients", "J-06", comment, forged, control="valid-es256")
    for alg in ("ES384", "ES256K", "Ed448", "Ed25519"):
        sign, kid = (eddsa, "ed-1") if alg.startswith("Ed") else (es256, "es-1")
        yield Vector(
            f"alg-{alg.lower()}", "J-17", "another algorithm's name", jws(header(alg, kid), payload(), sign)
        )


def headers() -> Iterator[Vector]:
    """Key names, keys that travel with the token, and parameters that change its reading."""
    names: dict[str, object] = {
        "path": "../../../../dev/null",
        "sql": "x' UNION SELECT 'k",
        "url": "http://evil.example/",
        "empty": "",
        "absent": ABSENT,
        "null": None,
        "number": 1,
        "list": ["rs-1"],
        "long": "r" * 201,
        "unknown": "rs-9",
        "case": "RS-1",
        "space": "rs-1 ",
        "nul": "rs-1\0",
        "unpublished": "evil-rs",
        "surrogate": "\ud800",
    }
    for name, kid in names.items():
        yield Vector(
            f"kid-{name}", "J-06", "the key's name is not one of the set", jws(header(kid=kid), payload())
        )
    empty = jws(header("HS256", "../../../../dev/null"), payload(), hmac_of(b""))
    yield Vector("kid-path-hs256", "J-06", "HMAC with the content of /dev/null", empty)
    yield Vector(
        "kid-of-another-key",
        "J-06",
        "a good key's name, another good key's signature",
        jws(header(kid="rs-2"), payload()),
    )
    evil = rsa_jwk(KEYS.rsa_evil)
    by_evil: Signer = lambda data: rs256(data, KEYS.rsa_evil)  # noqa: E731
    chain = [base64.b64encode(certificate().public_bytes(serialization.Encoding.DER)).decode()]
    carried: dict[str, object] = {
        "jwk": evil,
        "jku": "https://evil.example/jwks.json",
        "x5u": "https://evil.example/x5u.pem",
        "x5c": chain,
    }
    for name, value in carried.items():
        yield Vector(
            f"{name}-own-key", "J-07", "brings its own key", jws(header(**{name: value}), payload(), by_evil)
        )
        yield Vector(
            f"{name}-good-key",
            "J-07",
            "brings a key beside a good signature",
            jws(header(**{name: value}), payload()),
        )
    yield Vector("foreign-key", "J-07", "signed by a key nobody published", jws(header(), payload(), by_evil))
    changes: dict[str, Json] = {
        "crit": {"crit": ["exp"]},
        "crit-empty": {"crit": []},
        "crit-b64": {"crit": ["b64"], "b64": False},
        "b64": {"b64": False},
        "b64-true": {"b64": True},
        "zip": {"zip": "DEF"},
        "enc": {"enc": "A256GCM"},
        "pbes2": {"p2c": 2**31, "p2s": "AAAA"},
    }
    for name, change in changes.items():
        attack = "J-16" if name in {"enc", "pbes2", "zip"} else "J-08"
        yield Vector(
            f"header-{name}", attack, "changes how the token is read", jws(header(**change), payload())
        )
    whole = text(header()).decode()
    doubled = {
        "alg": whole.replace("{", '{"alg":"none",', 1),
        "kid": whole.replace("{", '{"kid":"rs-2",', 1),
        "typ": whole[:-1] + ',"typ":"at+jwt"}',
        "escaped": whole.replace("{", '{"\\u0061lg":"none",', 1),
    }
    for name, head in doubled.items():
        yield Vector(f"header-twice-{name}", "J-08", "a name stands twice", jws(head, payload()))
    shapes: dict[str, bytes] = {
        "array": b"[]",
        "string": b'"RS256"',
        "number": b"1",
        "not-json": b"alg=RS256",
        "trailing": text(header()) + b"x",
        "bom": b"\xef\xbb\xbf" + text(header()),
        "utf16": whole.encode("utf-16"),
        "bad-utf8": whole.replace("rs-1", "rs-\udcff").encode("utf-8", "surrogateescape"),
        "nested": b'{"alg":"RS256","x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "nan": whole[:-1].encode() + b',"x":NaN}',
    }
    for name, raw in shapes.items():
        yield Vector(f"header-{name}", "J-15", "not a strict JSON object", jws(raw, payload()))
    types: dict[str, object] = {
        "absent": ABSENT,
        "jwt": "JWT",
        "logout": "logout+jwt",
        "dpop": "dpop+jwt",
        "introspection": "token-introspection+jwt",
        "status-list": "statuslist+jwt",
        "event": "secevent+jwt",
        "client-auth": "client-authentication+jwt",
        "null": None,
        "number": 1,
        "list": ["at+jwt"],
        "space": "at+jwt ",
        "suffix": "x/at+jwt",
    }
    for name, typ in types.items():
        yield Vector(f"typ-{name}", "J-14", "another kind of token", jws(header(typ=typ), payload()))


def serializations() -> Iterator[Vector]:
    """Everything that is nearly three canonical base64url parts."""
    head, body, signature = RS.split(".")
    flattened = json.dumps({"protected": head, "payload": body, "signature": signature})
    general = json.dumps({"payload": body, "signatures": [{"protected": head, "signature": signature}]})
    unprotected = json.dumps({"header": header(), "payload": body, "signature": signature})
    jwe = b64(text({"alg": "dir", "enc": "A256GCM", "typ": "at+jwt", "kid": "rs-1"}))
    shapes = {
        "empty": "",
        "dots": "..",
        "many-dots": "." * 10_000,
        "one-part": head,
        "two-parts": f"{head}.{body}",
        "four-parts": f"{RS}.{signature}",
        "five-parts": f"{jwe}..{b64(bytes(12))}.{body}.{b64(bytes(16))}",
        "jwe-pbes2": f"{b64(text({'alg': 'PBES2-HS256+A128KW', 'enc': 'A128GCM', 'p2c': 2**31}))}.a.b.c.d",
        "json-flattened": flattened,
        "json-general": general,
        "json-unprotected": unprotected,
        "no-header": f".{body}.{signature}",
        "no-payload": f"{head}..{signature}",
        "no-signature": f"{head}.{body}.",
        "detached": f"{head}..{signature}",
        "oversized": jws(header(), payload(filler="x" * 16_384)),
        "oversized-kid": jws(header(kid="k" * 20_000), payload()),
        "bearer-prefix": f"Bearer {RS}",
        "quoted": f'"{RS}"',
    }
    for name, token in shapes.items():
        attack = (
            "J-15" if "dots" in name or "oversized" in name else "J-16" if name == "jwe-pbes2" else "J-09"
        )
        yield Vector(f"shape-{name}", attack, "not a compact JWS", token)
    for name, token in (("rs256", RS), ("es256", ES), ("eddsa", ED)):
        last = ALPHABET.index(token[-1])
        for bits in range(1, 16):
            tail = token[:-1] + ALPHABET[last ^ bits]
            yield Vector(f"tail-{name}-{bits}", "J-20", "unused bits set", tail, control=f"valid-{name}")
    tail = HS[:-1] + ALPHABET[ALPHABET.index(HS[-1]) ^ 1]
    yield Vector("tail-hs256-1", "J-20", "unused bits set", tail, source="hs256", control="valid-hs256")
    for end in ("=", "==", "\n", "\r\n", " ", "\t", "%0a", "\0", "A", "\u00e9", "\uff0e", "\u200b"):
        yield Vector(f"append-{end.encode().hex()}", "J-20", "something after the signature", RS + end)
        yield Vector(f"prepend-{end.encode().hex()}", "J-20", "something before the header", end + RS)
        inner = f"{head}.{body[:40]}{end}{body[40:]}.{signature}"
        yield Vector(f"insert-{end.encode().hex()}", "J-20", "something in the payload", inner)
    for name, parts in {"header": [head + "=", body], "payload": [head, body + "="]}.items():
        signing_input = ".".join(parts)
        signed = f"{signing_input}.{b64(rs256(signing_input.encode()))}"
        yield Vector(f"padded-{name}", "J-20", "padding under a good signature", signed)
    for name, spaced in {"header": [" " + head, body], "payload": [head, body[:8] + "\n" + body[8:]]}.items():
        signing_input = ".".join(spaced)
        signed = f"{signing_input}.{b64(rs256(signing_input.encode()))}"
        yield Vector(f"spaced-{name}", "J-20", "white space under a good signature", signed)
    odd = next(
        token
        for count in range(999)
        if set("-_") <= set((token := jws(header(), payload(jti=f"j{count}"))).rpartition(".")[2])
    )
    plain = odd.rpartition(".")
    spelled = plain[0] + "." + plain[2].replace("-", "+").replace("_", "/")
    yield Vector("base64-standard", "J-20", "the other base64 alphabet", spelled)


def signatures() -> Iterator[Vector]:
    """Signatures that are wrong, or right in another encoding."""
    signature = unb64(RS.rpartition(".")[2])
    broken: dict[str, bytes] = {
        "zero": bytes(256),
        "one": bytes(255) + b"\1",
        "short": signature[:-1],
        "long": signature + b"\0",
        "leading-zero": b"\0" + signature,
        "first-bit": bytes([signature[0] ^ 1]) + signature[1:],
        "last-bit": signature[:-1] + bytes([signature[-1] ^ 1]),
        "of-another-token": rs256(b"another"),
        "modulus": KEYS.rsa.public_key().public_numbers().n.to_bytes(256, "big"),
    }
    for name, raw in broken.items():
        yield Vector(f"rs256-{name}", "J-17", "a wrong RSA signature", with_signature(RS, raw))
    raw = unb64(ES.rpartition(".")[2])
    r, s = raw[:32], raw[32:]
    order, zero = P256_ORDER.to_bytes(32, "big"), bytes(32)
    der = KEYS.ec.sign(ES.rpartition(".")[0].encode(), ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
    broken = {
        "zero": zero + zero,
        "r-zero": zero + s,
        "s-zero": r + zero,
        "r-order": order + s,
        "s-order": r + order,
        "ones": zero[:-1] + b"\1" + zero[:-1] + b"\1",
        "max": b"\xff" * 64,
        "swapped": s + r,
        "der": der,
        "short": raw[:-1],
        "long": raw + b"\0",
        "padded": b"\0" + r + b"\0" + s,
    }
    for name, value in broken.items():
        yield Vector(
            f"es256-{name}",
            "J-17",
            "a wrong ECDSA signature",
            with_signature(ES, value),
            control="valid-es256",
        )
    raw = unb64(ED.rpartition(".")[2])
    scalar = int.from_bytes(raw[32:], "little") + ED25519_ORDER
    broken = {
        "zero": bytes(64),
        "malleable": raw[:32] + scalar.to_bytes(32, "little"),
        "short": raw[:-1],
        "long": raw + b"\0",
        "identity": b"\1" + bytes(63),
    }
    for name, value in broken.items():
        yield Vector(
            f"eddsa-{name}",
            "J-17",
            "a wrong Ed25519 signature",
            with_signature(ED, value),
            control="valid-eddsa",
        )
    mac = unb64(HS.rpartition(".")[2])
    for name, value in {
        "zero": bytes(32),
        "short": mac[:16],
        "empty": b"",
        "hex": mac.hex().encode(),
    }.items():
        yield Vector(
            f"hs256-{name}",
            "J-17",
            "a wrong MAC",
            with_signature(HS, value),
            source="hs256",
            control="valid-hs256",
        )
    for name, change in {
        "sub": "other",
        "client_id": OTHER_CLIENT,
        "role": "admin",
        "exp": NOW + 9**9,
    }.items():
        signature_part = RS.rpartition(".")[2]
        forged = jws(header(), payload(**{name: change})).rpartition(".")[0] + "." + signature_part
        yield Vector(f"rewritten-{name}", "J-04", "a claim changed under the old signature", forged)
