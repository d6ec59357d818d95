"""The claims of an access token, as values with types."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from authservice_validator.errors import TokenInvalid

# The last second of year 9999: later times break `datetime`, and no issuer means them.
_LATEST: Final = 253_402_300_799
# `act` nests once per delegation; nobody delegates sixteen times.
_DEEPEST: Final = 16
_SCALARS: Final = frozenset({str, int, bool, float, type(None)})


@dataclass(frozen=True, slots=True)
class VerifiedClaims:
    """The claims of a token that `TokenVerifier` checked: signature, times, issuer, audience, tenant.

    Times are Unix seconds. What the token does not carry is None, or an empty tuple for a list. Values are
    shared between calls by the cache, so all of them are immutable. Constructing one by hand verifies
    nothing.

    Attributes:
        kid: name of the signing key, from the header.
        azp: the app that a token of the use `oauth` was given to.
        scopes: the words of `scope`, whichever of the two claims the token carries.
        cnf: proof-of-possession binding (RFC 9449); whoever accepts the token must also check the proof.
        act: who acts as the subject (RFC 8693 §4.1), for instance a support engineer.
        claims: every claim of the token, those above included; lists are tuples.
    """

    iss: str
    sub: str
    aud: tuple[str, ...]
    exp: int
    iat: int
    nbf: int | None
    jti: str
    sid: str | None
    client_id: str
    token_use: str
    azp: str | None
    email: str | None
    role: str | None
    email_verified: bool | None
    auth_time: int | None
    amr: tuple[str, ...]
    acr: str | None
    scope: str | None
    scopes: tuple[str, ...]
    service_account_id: str | None
    service_account_name: str | None
    org_id: str | None
    org_slug: str | None
    org_role: str | None
    org_permissions: tuple[str, ...]
    cnf: Mapping[str, object] | None
    act: Mapping[str, object] | None
    kid: str
    claims: Mapping[str, object]


def read_claims(payload: dict[str, object], *, kid: str) -> VerifiedClaims:
    """Give a payload its types. Checks shapes only: no time, issuer, audience or tenant is compared here.

    Raises:
        TokenInvalid: a required claim is absent, or a claim has another type than it should.
    """
    scope = _text(payload, "scope")
    return VerifiedClaims(
        iss=_required_text(payload, "iss"),
        sub=_required_text(payload, "sub"),
        aud=_audience(payload),
        exp=_required_time(payload, "exp"),
        iat=_required_time(payload, "iat"),
        nbf=_time(payload, "nbf"),
        jti=_required_text(payload, "jti"),
        sid=_text(payload, "sid"),
        client_id=_required_text(payload, "client_id"),
        token_use=_required_text(payload, "token_use"),
        azp=_text(payload, "azp"),
        email=_text(payload, "email"),
        role=_text(payload, "role"),
        email_verified=_flag(payload, "email_verified"),
        auth_time=_time(payload, "auth_time"),
        amr=_texts(payload, "amr"),
        acr=_text(payload, "acr"),
        scope=scope,
        scopes=_scopes(payload, scope),
        service_account_id=_text(payload, "service_account_id"),
        service_account_name=_text(payload, "service_account_name"),
        org_id=_text(payload, "org_id"),
        org_slug=_text(payload, "org_slug"),
        org_role=_text(payload, "org_role"),
        org_permissions=_texts(payload, "org_permissions"),
        cnf=_object(payload, "cnf"),
        act=_object(payload, "act"),
        kid=kid,
        claims=MappingProxyType(
            # Most claims are scalars, and a call for each would be a tenth of a verification.
            {name: value if type(value) in _SCALARS else _frozen(value) for name, value in payload.items()}
        ),
    )


def _text(payload: dict[str, object], name: str) -> str | None:
    value = payload.get(name)
    if value is None or type(value) is str:
        return value
    raise TokenInvalid(f"{name} is not a string")


def _required_text(payload: dict[str, object], name: str) -> str:
    value = payload.get(name)
    if type(value) is str and value:
        return value
    raise TokenInvalid(f"{name} is not a non-empty string")


def _texts(payload: dict[str, object], name: str) -> tuple[str, ...]:
    value = payload.get(name)
    if value is None:
        return ()
    if isinstance(value, list):
        texts = tuple(item for item in value if type(item) is str and item)
        if len(texts) == len(value):
            return texts
    raise TokenInvalid(f"{name} is not a list of non-empty strings")


def _audience(payload: dict[str, object]) -> tuple[str, ...]:
    audience = payload.get("aud")
    if type(audience) is str and audience:
        return (audience,)
    audiences = _texts(payload, "aud")
    if not audiences:
        raise TokenInvalid("aud is absent or empty")
    return audiences


def _scopes(payload: dict[str, object], scope: str | None) -> tuple[str, ...]:
    # RFC 6749 §3.3: words parted by one space. `split()` would also part at other Unicode spaces.
    words = tuple(scope.split(" ")) if scope else ()
    if "" in words:
        raise TokenInvalid("scope is not words parted by single spaces")
    listed = _texts(payload, "scopes")
    if words and listed and set(words) != set(listed):
        raise TokenInvalid("scope and scopes differ")
    return listed or words


def _flag(payload: dict[str, object], name: str) -> bool | None:
    value = payload.get(name)
    if value is None or type(value) is bool:
        return value
    raise TokenInvalid(f"{name} is not true or false")


def _time(payload: dict[str, object], name: str) -> int | None:
    return None if payload.get(name) is None else _required_time(payload, name)


def _required_time(payload: dict[str, object], name: str) -> int:
    value = payload.get(name)
    # A whole float counts as its integer: a validator in a language with one number type cannot tell them
    # apart, and all validators must agree on a token. `type() is`: True would pass as an int.
    if type(value) is float and math.isfinite(value) and value.is_integer():
        value = int(value)
    if type(value) is int and 0 <= value <= _LATEST:
        return value
    raise TokenInvalid(f"{name} is not a time in whole seconds")


def _object(payload: dict[str, object], name: str) -> Mapping[str, object] | None:
    value = payload.get(name)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise TokenInvalid(f"{name} is not an object")
    return MappingProxyType({key: _frozen(inner) for key, inner in value.items()})


def _frozen(value: object, depth: int = 0) -> object:
    if isinstance(value, list | dict):
        if depth == _DEEPEST:
            raise TokenInvalid("a claim is nested too deeply")
        if isinstance(value, list):
            return tuple(_frozen(item, depth + 1) for item in value)
        return MappingProxyType({name: _frozen(inner, depth + 1) for name, inner in value.items()})
    return value
