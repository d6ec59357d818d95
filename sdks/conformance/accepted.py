# ruff: noqa: INP001 - part of a script, not of a package
"""Tokens that must be accepted."""

from collections.abc import Iterator
from typing import NamedTuple

from signing import (
    ABSENT,
    AUDIENCE,
    ED,
    ES,
    HS,
    ISSUED_AHEAD,
    KEYS,
    LEEWAY,
    NOW,
    RESOURCE,
    RS,
    Json,
    header,
    jws,
    payload,
    rs256,
    text,
)


class Vector(NamedTuple):
    """One token and the answer to it; `control` names the accepted token that it was made from.

    `settings` stand in for those of the common verifier.
    """

    id: str
    attack: str
    comment: str
    token: str
    expect: str = "invalid_token"
    source: str = "jwks"
    control: str = "valid-rs256"
    settings: Json | None = None


def accepted() -> Iterator[Vector]:
    """Tokens that must be accepted: the positive controls, and what strictness must not break."""

    def good(
        id: str,  # noqa: A002
        comment: str,
        token: str,
        source: str = "jwks",
        settings: Json | None = None,
    ) -> Vector:
        return Vector(id, "control", comment, token, "valid", source, id, settings)

    yield good("valid-rs256", "RS256", RS)
    yield good("valid-es256", "ES256", ES)
    yield good("valid-eddsa", "EdDSA", ED)
    yield good("valid-hs256", "HS256", HS, "hs256")
    second = jws(header(kid="rs-2"), payload(), lambda data: rs256(data, KEYS.rsa_next))
    yield good("valid-rs256-next", "signed by the next key of the set", second)
    yield good(
        "valid-typ-full", "the long form of the type", jws(header(typ="application/at+jwt"), payload())
    )
    yield good("valid-typ-case", "media types ignore case", jws(header(typ="AT+JWT"), payload()))
    yield good("valid-header-note", "an unknown header parameter", jws(header(note="x"), payload()))
    yield good("valid-aud-list", "the audience as a list of it alone", jws(header(), payload(aud=[AUDIENCE])))
    yield good("valid-exp-leeway", "just within the leeway", jws(header(), payload(exp=NOW - LEEWAY + 1)))
    ahead = jws(header(), payload(iat=NOW + ISSUED_AHEAD, nbf=NOW + LEEWAY))
    yield good("valid-iat-ahead", "issued by a clock ahead, and nbf allows for it", ahead)
    bare = jws(header(), payload(iat=NOW + LEEWAY, nbf=ABSENT))
    yield good("valid-iat-leeway", "issued by a clock ahead, without nbf", bare)
    yield good("valid-nbf-leeway", "not before, by a clock ahead", jws(header(), payload(nbf=NOW + LEEWAY)))
    yield good("valid-nbf-absent", "nbf is optional", jws(header(), payload(nbf=ABSENT)))
    floats = text(payload()).replace(b'"exp":1800000600', b'"exp":1800000600.0')
    yield good("valid-exp-whole-float", "a whole number written as a float", jws(header(), floats))
    minimal = [*("nbf", "sid", "email", "role", "email_verified", "auth_time", "amr", "acr")]
    yield good(
        "valid-minimal", "required claims only", jws(header(), payload(**dict.fromkeys(minimal, ABSENT)))
    )
    yield good("valid-null", "null is as absent", jws(header(), payload(email=None, sid=None, amr=None)))
    yield good(
        "valid-extra-claim", "an unknown claim", jws(header(), payload(plan={"name": "größer", "n": [1]}))
    )
    yield good("valid-scope", "scope as words", jws(header(), payload(scope="a:read b")))
    yield good(
        "valid-scopes", "scope as both", jws(header(), payload(scope="a:read b", scopes=["b", "a:read"]))
    )
    org = {"org_id": "o1", "org_slug": "acme", "org_role": "owner", "org_permissions": ["org:read"]}
    yield good("valid-org", "organization claims", jws(header(), payload(**org)))
    yield good("valid-act", "a nested actor", jws(header(), payload(act={"sub": "s", "act": {"sub": "t"}})))
    yield good(
        "valid-cnf", "a bound token; its proof is another check", jws(header(), payload(cnf={"jkt": "x"}))
    )
    for use in ("oauth", "client_credentials"):
        only = jws(header(), payload(token_use=use, scope="orders:read"))
        yield good(f"valid-{use}", "where this use is let in", only, settings={"token_uses": [use]})
        both = {"token_uses": ["access", use]}
        yield good(f"valid-{use}-beside-access", "where both are let in", only, settings=both)
    yield good("valid-aud-resource", "for a resource (RFC 8707)", FOR_RESOURCE, settings=AT_RESOURCE)
    yield good("valid-aud-any", "where any audience will do", RS, settings={"audience": None})
    several = jws(header(), payload(aud=["a", RESOURCE]))
    yield good("valid-aud-any-list", "where any audience will do", several, settings={"audience": None})
    yield good("valid-client-any", "where any tenant will do", RS, settings={"client_id": None})
    status = {"status_list": {"idx": 7, "uri": "https://auth.example.com/.well-known/status-lists/1"}}
    yield good("valid-status", "its place in a status list", jws(header(), payload(status=status)))


AT_RESOURCE: Json = {"audience": RESOURCE, "token_uses": ["access", "oauth"]}
FOR_RESOURCE = jws(
    header(),
    payload(aud=RESOURCE, token_use="oauth", azp="app-1", scope="orders:read"),  # noqa: S106 - a word
)
