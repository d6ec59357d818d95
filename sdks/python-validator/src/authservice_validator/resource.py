"""A protected resource: who may come in, and what the others are told.

Speaks RFC 6750 (bearer tokens), RFC 9449 (DPoP), RFC 9470 (step-up) and RFC 9728 (metadata), and no web
framework; `authservice_validator.fastapi` is a thin layer over it.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from authservice_validator.claims import VerifiedClaims
from authservice_validator.dpop import ALGORITHMS, DpopInvalid, read_proof
from authservice_validator.errors import (
    KeysUnavailable,
    RevocationsUnavailable,
    TokenError,
    TokenInvalid,
    ValidatorError,
)
from authservice_validator.fetch import check_url
from authservice_validator.verifier import TokenVerifier

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"

ProofMemory = Callable[[str, float], Awaitable[bool]]
"""Answers whether an id was new, and remembers it until a time (Unix seconds)."""

_MAX_KNOWN_PROOFS: Final = 100_000
# They are written into a header: a quote or a line break there would be another parameter.
_WORD: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_WEAK: Final = "A fresher or stronger authentication is needed"


class Dpop(StrEnum):
    """Whether tokens that are bound to a key are taken (RFC 9449)."""

    OFF = "off"
    ACCEPTED = "accepted"
    REQUIRED = "required"


@dataclass(frozen=True, slots=True)
class Needs:
    """What a route needs beside a good token.

    Attributes:
        scopes: all of these.
        acr_values: one of these (RFC 9470).
        max_age: how long ago the user may have proven who it is, in whole seconds (RFC 9470).
    """

    scopes: tuple[str, ...] = ()
    acr_values: tuple[str, ...] = ()
    max_age: timedelta | None = None

    def __post_init__(self) -> None:
        if not all(_WORD.fullmatch(word) for word in (*self.scopes, *self.acr_values)):
            raise ValueError("scopes and acr_values are words of printable ASCII without quotes")
        seconds = 0.0 if self.max_age is None else self.max_age.total_seconds()
        if seconds < 0 or not seconds.is_integer():
            raise ValueError("max_age is a number of whole seconds")


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What is looked at: every value of two headers, the method, and the address as the caller knows it."""

    authorization: Sequence[str]
    dpop: Sequence[str]
    method: str
    url: str


class Refusal(ValidatorError):
    """A request that is not let in, and what to answer; `__cause__` says which check failed, for your log."""

    def __init__(self, status: int, code: str, detail: str, headers: dict[str, str]) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = code
        self.detail = detail
        self.headers = headers


class _NonceNeeded(DpopInvalid):
    code = "use_dpop_nonce"


class _Unproven(TokenInvalid):
    """A bound token that came as a bearer token."""


class UsedProofs:
    """Remembers in this process which proofs were used; several processes share a store instead."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._known: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, id: str, until: float) -> bool:  # noqa: A002 - the word for it
        """Whether `id` was new."""
        now = self._clock()
        if self._known.get(id, now) > now:
            return False
        self._known[id] = until
        self._known.move_to_end(id)
        # In the order they came, which is nearly that in which they end. Past the bound the oldest goes: only
        # who holds good tokens and keys can get there.
        while self._known and (
            len(self._known) > _MAX_KNOWN_PROOFS or next(iter(self._known.values())) <= now
        ):
            self._known.popitem(last=False)
        return True


class ProtectedResource:
    """Lets requests in that bring a good token with what a route needs.

    Args:
        verifier: verifies tokens.
        resource: the resource's identifier, its public https address (RFC 9728); challenges then name its
            metadata. What proofs are for is taken from it: a request's own Host header proves nothing.
        authorization_servers: who gives tokens for it; for the metadata.
        scopes: what its routes may need; for the metadata.
        name: for people; for the metadata.
        documentation: a URL for people; for the metadata.
        dpop: whether bound tokens are taken; needs `resource`.
        used_proofs: answers whether a proof is used for the first time; by default this process remembers.
        nonce: gives the nonce that proofs must have at the moment.
    """

    def __init__(
        self,
        verifier: TokenVerifier,
        *,
        resource: str | None = None,
        authorization_servers: Collection[str] = (),
        scopes: Collection[str] = (),
        name: str | None = None,
        documentation: str | None = None,
        dpop: Dpop | str = Dpop.OFF,
        used_proofs: ProofMemory | None = None,
        nonce: Callable[[], str] | None = None,
    ) -> None:
        self._verifier = verifier
        self._dpop = Dpop(dpop)
        if self._dpop is not Dpop.OFF and resource is None:
            raise ValueError("dpop needs resource, which says what proofs are for")
        self._used_proofs = used_proofs or UsedProofs(verifier.clock)
        self._nonce = nonce
        self._described = {
            "scopes_supported": list(scopes),
            "resource_name": name,
            "resource_documentation": documentation,
        }
        self._resource = resource
        self._authorization_servers = list(authorization_servers)
        self.metadata_url = None if resource is None else metadata_url(resource)
        self.origin = "" if resource is None else "{0.scheme}://{0.netloc}".format(urlsplit(resource))

    async def authenticate(self, request: RequestFacts, needs: Needs = Needs()) -> VerifiedClaims:
        """The claims of who asks.

        Raises:
            Refusal: there is no good token, or not what `needs` says.
        """
        if not request.authorization:
            # RFC 6750 §3.1: a caller who tried nothing is told the schemes, and no error.
            schemes = {Dpop.OFF: ("Bearer",), Dpop.ACCEPTED: ("Bearer", "DPoP"), Dpop.REQUIRED: ("DPoP",)}
            told = ", ".join(self._challenge(scheme) for scheme in schemes[self._dpop])
            raise Refusal(401, "missing_token", "An access token is needed.", {"WWW-Authenticate": told})
        scheme, _, token = request.authorization[0].partition(" ")
        is_proven = scheme.lower() == "dpop" and self._dpop is not Dpop.OFF
        tried = "DPoP" if is_proven or self._dpop is Dpop.REQUIRED else "Bearer"
        try:
            # Of two headers a proxy may have checked the other one.
            if len(request.authorization) != 1 or not (is_proven or scheme.lower() == "bearer"):
                raise TokenInvalid("the request does not carry one token")
            claims = self._verifier.cached(token) or await self._verifier.verify(token)
            if is_proven:
                await self._prove(claims, token, request)
            elif self._dpop is Dpop.REQUIRED:
                raise TokenInvalid("a bearer token where proofs are required")
            elif claims.cnf is not None:
                raise _Unproven("the token is bound to a key and came without a proof")
        except (TokenError, KeysUnavailable, RevocationsUnavailable) as error:
            raise self._refusal(error, tried) from error
        self._satisfy(claims, needs, tried)
        return claims

    def metadata(self) -> dict[str, object]:
        """The metadata document of this resource (RFC 9728 §2)."""
        if self._resource is None:
            raise ValueError("metadata needs resource")
        document: dict[str, object] = {
            "resource": self._resource,
            "authorization_servers": self._authorization_servers,
            "bearer_methods_supported": ["header"],
            **{name: value for name, value in self._described.items() if value},
        }
        if self._dpop is not Dpop.OFF:
            document["dpop_signing_alg_values_supported"] = list(ALGORITHMS)
        if self._dpop is Dpop.REQUIRED:
            document["dpop_bound_access_tokens_required"] = True
        return document

    async def _prove(self, claims: VerifiedClaims, token: str, request: RequestFacts) -> None:
        jkt = (claims.cnf or {}).get("jkt")
        if not isinstance(jkt, str) or not jkt:
            raise TokenInvalid("the token is not bound to a key")
        if len(request.dpop) != 1:
            raise DpopInvalid("the request does not carry one proof")
        proof = read_proof(
            request.dpop[0],
            method=request.method,
            url=request.url,
            now=self._verifier.clock(),
            access_token=token,
            jkt=jkt,
        )
        if self._nonce is not None and proof.nonce != self._nonce():
            raise _NonceNeeded("the proof lacks the server's nonce")
        name = hashlib.sha256(f"{proof.jkt} {proof.jti}".encode("utf-8", "surrogatepass")).hexdigest()
        if not await self._used_proofs(name, proof.expires_at):
            raise DpopInvalid("the proof was used before")

    def _satisfy(self, claims: VerifiedClaims, needs: Needs, scheme: str) -> None:
        if not set(needs.scopes).issubset(claims.scopes):
            told = self._challenge(scheme, error="insufficient_scope", scope=" ".join(needs.scopes))
            detail = "The access token lacks a scope that this needs."
            raise Refusal(403, "insufficient_scope", detail, {"WWW-Authenticate": told})
        is_strong = not needs.acr_values or claims.acr in needs.acr_values
        is_fresh = needs.max_age is None or (
            claims.auth_time is not None
            and self._verifier.clock() - claims.auth_time <= needs.max_age.total_seconds()
        )
        if is_strong and is_fresh:
            return
        wanted: dict[str, str] = {}
        if needs.acr_values:
            wanted["acr_values"] = " ".join(needs.acr_values)
        if needs.max_age is not None:
            wanted["max_age"] = str(int(needs.max_age.total_seconds()))
        code = "insufficient_user_authentication"
        told = self._challenge(scheme, error=code, error_description=_WEAK, **wanted)
        raise Refusal(401, code, f"{_WEAK}.", {"WWW-Authenticate": told})

    def _refusal(self, error: ValidatorError, tried: str) -> Refusal:
        if isinstance(error, _NonceNeeded) and self._nonce is not None:
            text = "The DPoP proof needs a nonce"
            told = self._challenge("DPoP", error=error.code, error_description=text)
            headers = {"WWW-Authenticate": told, "DPoP-Nonce": self._nonce()}
            return Refusal(401, error.code, f"{text}.", headers)
        if isinstance(error, DpopInvalid):
            text = "The DPoP proof is not valid"
            told = self._challenge("DPoP", error=error.code, error_description=text)
            return Refusal(401, error.code, f"{text}.", {"WWW-Authenticate": told})
        if isinstance(error, TokenError):
            # One text for every cause but the code: which check failed would guide a forger.
            text = "The access token is not valid"
            scheme = "DPoP" if isinstance(error, _Unproven) and self._dpop is not Dpop.OFF else tried
            told = self._challenge(scheme, error="invalid_token", error_description=text)
            return Refusal(401, error.code, f"{text}.", {"WWW-Authenticate": told})
        detail = "Access tokens cannot be checked at the moment."
        return Refusal(503, error.code, detail, {"Retry-After": "2"})

    def _challenge(self, scheme: str, **told: str) -> str:
        if scheme == "DPoP":
            told["algs"] = " ".join(ALGORITHMS)
        if self.metadata_url is not None:
            told["resource_metadata"] = self.metadata_url
        parameters = ", ".join(f'{name}="{value}"' for name, value in told.items())
        return f"{scheme} {parameters}".rstrip()


def metadata_url(resource: str) -> str:
    """Where a resource publishes its metadata (RFC 9728 §3.1): the path goes between its host and its own.

    Raises:
        ValueError: not https (or http on loopback), or with a fragment.
    """
    check_url(resource)
    if "#" in resource:
        raise ValueError("a resource has no fragment")
    parts = urlsplit(resource)
    path = "" if parts.path == "/" else parts.path
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{parts.netloc}{WELL_KNOWN}{path}{query}"
