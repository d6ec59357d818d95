# ruff: noqa: INP001 - part of a script, not of a package
"""Requests to a protected route: which are let in, what others are told (RFC 6750, 9449, 9470, 9728)."""

from collections.abc import Iterator
from typing import Final

from proofs import EC_JWK, METHOD, URL, ath, proof, thumbprint
from signing import ABSENT, LEEWAY, NOW, RS, Json, header, jws, payload

RESOURCE: Final = "https://api.example.com"
METADATA: Final = f'resource_metadata="{RESOURCE}/.well-known/oauth-protected-resource"'
INVALID: Final = 'error="invalid_token", error_description="The access token is not valid"'
ALGS: Final = 'algs="ES256 EdDSA RS256"'
BAD_PROOF: Final = 'error="invalid_dpop_proof", error_description="The DPoP proof is not valid"'
SCOPED: Final = 'error="insufficient_scope", scope="orders:read orders:list"'
STEP_UP: Final = (
    'error="insufficient_user_authentication", '
    'error_description="A fresher or stronger authentication is needed"'
)
STRONG: Final = "urn:authservice:acr:2fa"
SCOPES: Final[Json] = {"scopes": ["orders:read", "orders:list"]}


def requests() -> Iterator[Json]:
    """All of them; what a guard or a need leaves out is off, and `subject` is the `sub` of who is let in."""
    yield from _bearers()
    yield from _needs()
    yield from _bound()


def _bearers() -> Iterator[Json]:
    yield _let_in("bearer", f"Bearer {RS}")
    yield _let_in("bearer-scheme-case", f"bEARER {RS}")
    yield _refused("nothing", [], 401, "missing_token", "Bearer")
    announced = {"resource": RESOURCE}
    yield _refused("nothing-announced", [], 401, "missing_token", f"Bearer {METADATA}", guard=announced)
    either = {"dpop": "accepted", "resource": RESOURCE}
    yield _refused(
        "nothing-either",
        [],
        401,
        "missing_token",
        f"Bearer {METADATA}, DPoP {ALGS}, {METADATA}",
        guard=either,
    )
    only = {"dpop": "required", "resource": RESOURCE}
    yield _refused("nothing-dpop-only", [], 401, "missing_token", f"DPoP {ALGS}, {METADATA}", guard=only)
    for name, value in {
        "empty": "Bearer ",
        "scheme-only": "Bearer",
        "two-spaces": f"Bearer  {RS}",
        "basic": "Basic dTpw",
        "no-scheme": RS,
        "tab": f"Bearer\t{RS}",
        "list": f"Bearer {RS}, Bearer {RS}",
        "trailing": f"Bearer {RS} x",
        "dpop-scheme-unknown": f"DPoP {RS}",
    }.items():
        yield _refused(f"header-{name}", [value], 401, "invalid_token", f"Bearer {INVALID}")
    yield _refused("two-headers", [f"Bearer {RS}"] * 2, 401, "invalid_token", f"Bearer {INVALID}")
    bad = f"Bearer {RS[:-3]}AAA"
    told = f"Bearer {INVALID}, {METADATA}"
    yield _refused("forged-announced", [bad], 401, "invalid_token", told, guard=announced)
    expired = jws(header(), payload(exp=NOW - LEEWAY))
    yield _refused("expired", [f"Bearer {expired}"], 401, "token_expired", f"Bearer {INVALID}")


def _needs() -> Iterator[Json]:
    def token(**claims: object) -> str:
        return f"Bearer {jws(header(), payload(**claims))}"

    both, one = token(scope="orders:list orders:read x"), token(scope="orders:read")
    yield _let_in("scopes", both, need=SCOPES)
    for name, given in {
        "one": one,
        "none": token(),
        "case": token(scope="Orders:read orders:list"),
        "prefix": token(scope="orders orders:list"),
        "joined": token(scope="orders:read,orders:list"),
    }.items():
        yield _refused(f"scopes-{name}", [given], 403, "insufficient_scope", f"Bearer {SCOPED}", need=SCOPES)
    guard = {"resource": RESOURCE}
    told = f"Bearer {SCOPED}, {METADATA}"
    yield _refused("scopes-announced", [one], 403, "insufficient_scope", told, need=SCOPES, guard=guard)
    acr: Json = {"acr_values": [STRONG, "urn:example:gold"]}
    wanted = f'Bearer {STEP_UP}, acr_values="{STRONG} urn:example:gold"'
    code = "insufficient_user_authentication"
    yield _let_in("acr", token(acr=STRONG), need=acr)
    yield _let_in("acr-other", token(acr="urn:example:gold"), need=acr)
    for name, value in {
        "weak": "urn:authservice:acr:1fa",
        "absent": ABSENT,
        "impersonation": "urn:authservice:acr:impersonation",
        "longer": STRONG + "x",
        "both": f"{STRONG} urn:example:gold",
    }.items():
        yield _refused(f"acr-{name}", [token(acr=value)], 401, code, wanted, need=acr)
    fresh: Json = {"max_age": 300}
    old = f'Bearer {STEP_UP}, max_age="300"'
    yield _let_in("max-age", token(auth_time=NOW - 300), need=fresh)
    for name, when in {"old": NOW - 301, "absent": ABSENT, "zero": 0}.items():
        yield _refused(f"max-age-{name}", [token(auth_time=when)], 401, code, old, need=fresh)
    need = {**acr, **fresh, **SCOPES}
    yield _let_in("all", token(acr=STRONG, scope="orders:read orders:list"), need=need)
    told = f'Bearer {STEP_UP}, acr_values="{STRONG} urn:example:gold", max_age="300", {METADATA}'
    weak = token(scope="orders:read orders:list")
    yield _refused("all-weak", [weak], 401, code, told, need=need, guard=guard)
    # A scope cannot be had by logging in again, so it is asked for first.
    yield _refused("all-lacking", [token()], 403, "insufficient_scope", f"Bearer {SCOPED}", need=need)


def _bound() -> Iterator[Json]:
    accepted, required = (
        {"dpop": "accepted", "resource": RESOURCE},
        {"dpop": "required", "resource": RESOURCE},
    )
    bound = jws(header(), payload(cnf={"jkt": thumbprint(EC_JWK)}, scope="orders:read"))
    good = proof(ath=ath(bound))
    yield _let_in("dpop", f"DPoP {bound}", dpop=[good], guard=accepted)
    yield _let_in("dpop-required", f"DPoP {bound}", dpop=[good], guard=required)
    yield _let_in("dpop-scheme-case", f"dpop {bound}", dpop=[good], guard=required)
    yield _let_in("dpop-query", f"DPoP {bound}", dpop=[good], guard=required, url=URL + "?page=2")
    yield _let_in("dpop-bearer-beside", f"Bearer {RS}", guard=accepted)
    told = f"DPoP {INVALID}, {ALGS}, {METADATA}"
    yield _refused(
        "dpop-as-bearer", [f"Bearer {bound}"], 401, "invalid_token", told, dpop=[good], guard=accepted
    )
    plain = f"Bearer {INVALID}"
    yield _refused("dpop-as-bearer-where-off", [f"Bearer {bound}"], 401, "invalid_token", plain, dpop=[good])
    yield _refused("dpop-where-off", [f"DPoP {bound}"], 401, "invalid_token", plain, dpop=[good])
    for name, cnf in {"empty": {}, "x5t": {"x5t#S256": thumbprint(EC_JWK)}, "number": {"jkt": 1}}.items():
        odd = jws(header(), payload(cnf=cnf))
        given = [proof(ath=ath(odd))]
        yield _refused(f"cnf-{name}-bearer", [f"Bearer {odd}"], 401, "invalid_token", plain)
        yield _refused(f"cnf-{name}", [f"DPoP {odd}"], 401, "invalid_token", told, dpop=given, guard=required)
    unbound = [proof(ath=ath(RS))]
    yield _refused("dpop-unbound", [f"DPoP {RS}"], 401, "invalid_token", told, dpop=unbound, guard=accepted)
    yield _refused("bearer-where-required", [f"Bearer {RS}"], 401, "invalid_token", told, guard=required)
    bad = f"DPoP {BAD_PROOF}, {ALGS}, {METADATA}"
    for name, proofs, request in (
        ("absent", [], {}),
        ("two", [good, proof(ath=ath(bound), jti="2")], {}),
        ("method", [good], {"method": "POST"}),
        ("path", [good], {"url": RESOURCE + "/invoices"}),
        ("of-another-token", [proof(ath=ath(RS))], {}),
        ("without-ath", [proof(ath=ABSENT)], {}),
        ("not-a-jwt", ["x"], {}),
    ):
        yield _refused(
            f"proof-{name}",
            [f"DPoP {bound}"],
            401,
            "invalid_dpop_proof",
            bad,
            dpop=proofs,
            guard=required,
            **request,
        )
    told = f"DPoP {SCOPED}, {ALGS}, {METADATA}"
    yield _refused(
        "dpop-scopes",
        [f"DPoP {bound}"],
        403,
        "insufficient_scope",
        told,
        dpop=[good],
        guard=required,
        need=SCOPES,
    )


def _let_in(id: str, authorization: str, **request: object) -> Json:  # noqa: A002
    return {**_request(id, [authorization], **request), "status": 200, "subject": payload()["sub"]}


def _refused(
    id: str,  # noqa: A002
    authorization: list[str],
    status: int,
    code: str,
    challenge: str,
    **request: object,
) -> Json:
    return {**_request(id, authorization, **request), "status": status, "code": code, "challenge": challenge}


def _request(id: str, authorization: list[str], **request: object) -> Json:  # noqa: A002
    base: Json = {"guard": {}, "need": {}, "dpop": [], "method": METHOD, "url": URL}
    return {"id": id, "authorization": authorization, **base, **request}


def metadata() -> Iterator[Json]:
    """Where a resource publishes its metadata (RFC 9728 §3.1)."""
    tail = ".well-known/oauth-protected-resource"
    for resource, url in (
        ("https://api.example.com", f"https://api.example.com/{tail}"),
        ("https://api.example.com/", f"https://api.example.com/{tail}"),
        ("https://api.example.com/orders", f"https://api.example.com/{tail}/orders"),
        ("https://api.example.com:8443/a/b/", f"https://api.example.com:8443/{tail}/a/b/"),
        ("https://api.example.com/a?x=1", f"https://api.example.com/{tail}/a?x=1"),
        ("http://127.0.0.1:8000/mcp", f"http://127.0.0.1:8000/{tail}/mcp"),
    ):
        yield {"resource": resource, "url": url}
    for resource in (
        "",
        "api.example.com",
        "http://api.example.com",
        "https://api.example.com/#x",
        "ftp://a/b",
    ):
        yield {"resource": resource, "url": None}
