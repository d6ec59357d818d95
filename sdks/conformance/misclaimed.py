# ruff: noqa: INP001 - part of a script, not of a package
"""Well-signed tokens whose claims must not pass, keys that must not be used, and revocations."""

import json
from collections.abc import Iterator

from accepted import AT_RESOURCE, Vector
from signing import (
    ABSENT,
    AUDIENCE,
    CLIENT,
    ISSUED_AHEAD,
    ISSUER,
    KEYS,
    LEEWAY,
    NOW,
    OTHER_CLIENT,
    RESOURCE,
    Json,
    b64,
    header,
    jws,
    payload,
    rsa_jwk,
    text,
)


def claims() -> Iterator[Vector]:
    """Well-signed tokens with claims that must not pass."""
    wrong: dict[str, dict[str, tuple[str, object]]] = {
        "aud": {
            "absent": ("J-10", ABSENT),
            "null": ("J-10", None),
            "empty": ("J-10", ""),
            "empty-list": ("J-10", []),
            "other": ("J-10", "https://other.example.com"),
            "other-list": ("J-10", ["https://other.example.com"]),
            "and-evil": ("J-10", [AUDIENCE, "https://evil.example"]),
            "twice": ("J-10", [AUDIENCE, AUDIENCE]),
            "slash": ("J-10", AUDIENCE + "/"),
            "case": ("J-10", AUDIENCE.upper()),
            "prefix": ("J-10", AUDIENCE[:-1]),
            "number": ("J-10", 1),
            "list-of-list": ("J-10", [[AUDIENCE]]),
            "object": ("J-10", {AUDIENCE: 1}),
        },
        "exp": {
            "absent": ("J-11", ABSENT),
            "null": ("J-11", None),
            "string": ("J-11", "9999999999"),
            "fraction": ("J-11", NOW + 600.5),
            "negative": ("J-11", -1),
            "true": ("J-11", True),
            "list": ("J-11", [NOW + 600]),
            "milliseconds": ("J-11", (NOW + 600) * 1000),
        },
        "iat": {
            "absent": ("J-12", ABSENT),
            "string": ("J-12", str(NOW)),
            "true": ("J-12", True),
            "fraction": ("J-12", NOW - 0.5),
            "negative": ("J-12", -1),
            "future": ("J-12", NOW + ISSUED_AHEAD + 1),
            "hour-ahead": ("J-12", NOW + 3600),
        },
        "nbf": {
            "string": ("J-12", str(NOW)),
            "false": ("J-12", False),
            "fraction": ("J-12", NOW - 0.5),
            "future": ("J-12", NOW + LEEWAY + 1),
            "hour-ahead": ("J-12", NOW + 3600),
        },
        "iss": {
            "absent": ("J-04", ABSENT),
            "other": ("J-04", "https://evil.example"),
            "slash": ("J-04", ISSUER + "/"),
            "case": ("J-04", ISSUER.upper()),
            "list": ("J-04", [ISSUER]),
        },
        "client_id": {
            "absent": ("J-04", ABSENT),
            "other": ("J-04", OTHER_CLIENT),
            "list": ("J-04", [CLIENT]),
            "case": ("J-04", CLIENT.upper()),
        },
        "sub": {
            "absent": ("J-08", ABSENT),
            "empty": ("J-08", ""),
            "null": ("J-08", None),
            "number": ("J-08", 1),
            "list": ("J-08", ["a"]),
            "surrogate": ("J-08", "\ud800"),
        },
        "jti": {"absent": ("J-08", ABSENT), "empty": ("J-08", ""), "number": ("J-08", 7)},
        "token_use": {
            "absent": ("J-13", ABSENT),
            "id": ("J-13", "id"),
            "refresh": ("J-13", "refresh"),
            "step-up": ("J-13", "step_up"),
            "mfa": ("J-13", "mfa"),
            "admin": ("J-05", "admin"),
            "client-credentials": ("J-13", "client_credentials"),
            "oauth": ("J-13", "oauth"),
            "enrollment": ("J-13", "enrollment"),
            "null": ("J-13", None),
            "empty": ("J-13", ""),
            "case": ("J-13", "Access"),
            "list": ("J-13", ["access"]),
        },
        "sid": {"number": ("J-08", 1), "list": ("J-08", ["s"])},
        "email": {"list": ("J-08", ["user@example.com"])},
        "email_verified": {"string": ("J-08", "true"), "number": ("J-08", 1)},
        "auth_time": {"string": ("J-08", str(NOW))},
        "amr": {"string": ("J-08", "pwd"), "numbers": ("J-08", [1])},
        "scope": {"double-space": ("J-08", "a  b"), "list": ("J-08", ["a"])},
        "scopes": {"string": ("J-08", "a b")},
        "org_permissions": {"string": ("J-08", "*"), "object": ("J-08", {"org:read": True})},
        "cnf": {"string": ("J-08", "x")},
        "act": {"list": ("J-08", [])},
    }
    for claim, cases in wrong.items():
        for name, (attack, value) in cases.items():
            yield Vector(
                f"{claim}-{name}",
                attack,
                f"{claim} is not acceptable",
                jws(header(), payload(**{claim: value})),
            )
    both = jws(header(), payload(scope="a", scopes=["a", "admin"]))
    yield Vector("scope-differs", "J-08", "scope and scopes differ", both)
    early = jws(header(), payload(iat=NOW + LEEWAY + 1, nbf=ABSENT))
    yield Vector("iat-future-nbf-absent", "J-12", "without nbf, not before iat", early)
    for name, ago in (("leeway", LEEWAY), ("leeway-1", LEEWAY + 1), ("hour", 3600)):
        late = jws(header(), payload(exp=NOW - ago, iat=NOW - 7200, nbf=NOW - 7200))
        yield Vector(f"exp-past-{name}", "J-11", "expired", late, "token_expired")
    yield Vector("exp-zero", "J-11", "expired in 1970", jws(header(), payload(exp=0)), "token_expired")
    yield from elsewhere()
    yield from raw_payloads()


def elsewhere() -> Iterator[Vector]:
    """Tokens that are good somewhere, at a verifier for something else."""
    everything = ["access", "oauth", "client_credentials"]
    for name, use, uses in (
        ("access-at-machines", "access", ["client_credentials"]),
        ("access-at-apps", "access", ["oauth"]),
        ("oauth-at-machines", "oauth", ["client_credentials"]),
        ("machine-at-apps", "client_credentials", ["access", "oauth"]),
        ("enrollment-anywhere", "enrollment", everything),
        ("id-anywhere", "id", everything),
        ("refresh-anywhere", "refresh", everything),
        ("joined", "access oauth", everything),
    ):
        settings = {"token_uses": uses}
        yield Vector(
            f"use-{name}",
            "J-13",
            "a use that is not let in here",
            jws(header(), payload(token_use=use)),
            control="valid-oauth" if "oauth" in uses else "valid-client_credentials",
            settings=settings,
        )
    for name, audience in {
        "tenant": CLIENT,
        "tenant-list": [CLIENT],
        "parent": AUDIENCE,
        "child": RESOURCE + "/1",
        "slash": RESOURCE + "/",
        "query": RESOURCE + "?x=1",
        "and-tenant": [RESOURCE, CLIENT],
        "and-sibling": [RESOURCE, "https://api.example.com/invoices"],
        "joined": f"{RESOURCE} {CLIENT}",
    }.items():
        token = jws(header(), payload(aud=audience, token_use="oauth"))  # noqa: S106 - a word
        comment = "for another resource"
        yield Vector(
            f"resource-{name}", "J-10", comment, token, control="valid-aud-resource", settings=AT_RESOURCE
        )
    for name, absent in {"absent": ABSENT, "empty": [], "null": None}.items():
        token = jws(header(), payload(aud=absent))
        settings = {"audience": None}
        comment = "for nobody, where any audience will do"
        yield Vector(f"any-aud-{name}", "J-10", comment, token, control="valid-aud-any", settings=settings)


def raw_payloads() -> Iterator[Vector]:
    """Payloads that no encoder would write."""
    whole = text(payload()).decode()
    numbers = {
        "1e400": "1e400",
        "nan": "NaN",
        "infinity": "Infinity",
        "digits": "9" * 5000,
        "hex": "0x7fffffff",
    }
    for name, literal in numbers.items():
        for claim, value in (("exp", NOW + 600), ("iat", NOW - 300)):
            body = whole.replace(f'"{claim}":{value}', f'"{claim}":{literal}')
            yield Vector(f"{claim}-{name}", "J-11", "not a finite number", jws(header(), body))
    doubled = {
        "sub": whole.replace("{", '{"sub":"victim",', 1),
        "exp": whole[:-1] + ',"exp":9999999999}',
        "escaped": whole[:-1] + ',"\\u0073ub":"victim"}',
        "nested": whole[:-1] + ',"act":{"sub":"a","sub":"b"}}',
    }
    for name, body in doubled.items():
        yield Vector(f"payload-twice-{name}", "J-08", "a name stands twice", jws(header(), body))
    shapes: dict[str, bytes] = {
        "array": b"[" + whole.encode() + b"]",
        "string": json.dumps(whole).encode(),
        "null": b"null",
        "empty-object": b"{}",
        "not-json": b"sub=1",
        "trailing": whole.encode() + b"{}",
        "comma": whole[:-1].encode() + b",}",
        "comment": whole[:-1].encode() + b"/**/}",
        "bom": b"\xef\xbb\xbf" + whole.encode(),
        "utf16": whole.encode("utf-16-le"),
        "bad-utf8": whole.encode().replace(b"user@", b"\xff\xfe@"),
        "control": whole.encode().replace(b"user@", b"\x01@"),
        "extra-nan": whole[:-1].encode() + b',"x":NaN}',
        "extra-1e400": whole[:-1].encode() + b',"x":-1e400}',
        "nested": whole[:-1].encode() + b',"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
        "nested-claim": whole[:-1].encode() + b',"x":' + b"[" * 100 + b"]" * 100 + b"}",
    }
    for name, raw in shapes.items():
        yield Vector(f"payload-{name}", "J-15", "not a strict JSON object", jws(header(), raw))


def refused_keys() -> Iterator[Json]:
    """JWKs that must not be used, each told from a good one by one change."""
    good: Json = KEYS.jwks["keys"][0]
    elliptic: Json = KEYS.jwks["keys"][2]
    numbers = KEYS.rsa.private_numbers()
    changes: dict[str, Json] = {
        "no-kid": {"kid": ABSENT},
        "long-kid": {"kid": "k" * 201},
        "private": {"d": b64(numbers.d.to_bytes(256, "big"))},
        "encryption": {"use": "enc"},
        "sign-only": {"key_ops": ["sign"]},
        "ps256": {"alg": "PS256"},
        "rs512": {"alg": "RS512"},
        "hs256": {"alg": "HS256"},
        "none": {"alg": "none"},
        "exponent-1": {"e": "AQ"},
        "exponent-3": {"e": "Aw"},
        "small": rsa_jwk(KEYS.rsa_small),
        "padded-n": {"n": good["n"] + "="},
        "no-n": {"n": ABSENT},
        "symmetric": {"kty": "oct", "k": b64(bytes(range(32))), "n": ABSENT, "e": ABSENT, "alg": "HS256"},
    }
    for name, change in changes.items():
        jwk = {member: value for member, value in {**good, **change}.items() if value is not ABSENT}
        yield {"id": f"rsa-{name}", "attack": "J-18", "jwk": jwk}
    for name, change in {
        "curve": {"crv": "P-384"},
        "off-curve": {"y": elliptic["x"]},
        "alg": {"alg": "ES384"},
    }.items():
        yield {"id": f"ec-{name}", "attack": "J-18", "jwk": {**elliptic, **change}}


def revocations() -> Iterator[Json]:
    """One revocation each against the token `valid-rs256`, and whether it kills it."""
    issued, claims_now = NOW - 300, payload()
    ids = {
        "session": claims_now["sid"],
        "user": claims_now["sub"],
        "client": CLIENT,
        "token": claims_now["jti"],
        "key": "rs-1",
    }
    for kind, name in ids.items():
        for suffix, not_after, hit in (
            ("same-second", issued, True),
            ("later", issued + 1, True),
            ("before", issued - 1, False),
        ):
            yield {
                "id": f"{kind}-{suffix}",
                "kind": kind,
                "name": name,
                "not_after": not_after,
                "revoked": hit,
            }
        yield {"id": f"{kind}-other", "kind": kind, "name": "another", "not_after": NOW, "revoked": False}
