"""Assertions of an identity provider about an admin: ID tokens (OpenID Connect Core §3.1.3.7).

The console signs the admin in at the provider as a public client, and hands over the ID token. Who issues and
for whom is set by the operator; the keys are found by discovery.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog
from authservice_validator import JwksKeys, KeysUnavailable, TokenError
from authservice_validator.fetch import FetchedJwks, HttpJwksFetcher
from authservice_validator.jose import decode_base64url, read_object, split

from chassis.clock import MAX_CLOCK_DIFFERENCE, Clock
from chassis.one_time import FeatureUnavailable
from services.identity.admins.models import SsoIdentity
from services.identity.errors import InvalidAssertion

log = structlog.get_logger()

_DISCOVERY: Final = "/.well-known/openid-configuration"
_TIMEOUT: Final = timedelta(seconds=5)
_LONGEST_AGE: Final = timedelta(minutes=5)
_PARAMETERS: Final = frozenset({"alg", "kid", "typ"})
_MAX_SUBJECT: Final = 255  # OpenID Connect Core §2


@dataclass(frozen=True, slots=True)
class Assertion:
    """Who an admin is at the provider, when that was said, and whether it saw a second factor (RFC 8176)."""

    identity: SsoIdentity
    issued_at: datetime
    is_mfa: bool


class AdminAssertions:
    """Verifies the assertions of the one provider that admins may come from."""

    def __init__(self, clock: Clock, *, issuer: str | None, client_id: str | None) -> None:
        """Take the provider's issuer and the console's client id there; without them nobody comes."""
        self._clock = clock
        self._issuer = issuer
        self._client_id = client_id
        self._keys = JwksKeys(_Discovered(issuer)) if issuer else None

    async def verify(self, text: str) -> Assertion:
        """Return what an assertion says.

        Raises:
            InvalidAssertion: it is forged, not the provider's, not for the console, or older than 5 minutes.
            FeatureUnavailable: no provider is set, or it is away and its keys are not known.
        """
        if self._keys is None:
            raise FeatureUnavailable
        try:
            return self._judge(await self._verified(self._keys, text))
        except KeysUnavailable:
            log.warning("keys of the admins' identity provider cannot be loaded", issuer=self._issuer)
            raise FeatureUnavailable from None
        except (TokenError, ValueError, TypeError, OverflowError) as error:
            log.warning("assertion of an admin refused", reason=str(error))
            raise InvalidAssertion from None

    async def start(self) -> None:
        """Nothing to begin: keys are asked for when they are needed."""

    async def stop(self) -> None:
        """Stop asking for keys."""
        if self._keys is not None:
            await self._keys.aclose()

    async def _verified(self, keys: JwksKeys, text: str) -> Mapping[str, Any]:
        parts = split(text)
        header = read_object(decode_base64url(parts.header))
        typ, kid = header.get("typ", "JWT"), header.get("kid")
        # An access token, a logout token and the like have types of their own (RFC 8725 §3.11).
        if not header.keys() <= _PARAMETERS or not isinstance(typ, str) or typ.upper() != "JWT":
            raise ValueError("the header has another type, or a parameter that is not accepted")
        if not isinstance(kid, str):
            raise TypeError("the header names no key")
        key = await keys.get(kid)
        # The key's algorithm is what counts; the header may only agree (RFC 8725 §3.1).
        if header.get("alg") != key.alg or not key.verifies(parts.signing_input, parts.signature):
            raise ValueError("the signature does not fit")
        return read_object(decode_base64url(parts.payload))

    def _judge(self, claims: Mapping[str, Any]) -> Assertion:
        if claims.get("iss") != self._issuer:
            raise ValueError("iss is another")
        audience = claims.get("aud")
        if audience not in (self._client_id, [self._client_id]):
            raise ValueError("aud is not the console alone")
        if claims.get("azp", self._client_id) != self._client_id:
            raise ValueError("azp is not the console")
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= _MAX_SUBJECT:
            raise ValueError("sub is missing or too long")
        now = self._clock.now()
        issued_at, expires_at = _time(claims, "iat"), _time(claims, "exp")
        if expires_at <= now - MAX_CLOCK_DIFFERENCE:
            raise ValueError("exp is past")
        if not now - _LONGEST_AGE <= issued_at <= now + MAX_CLOCK_DIFFERENCE:
            raise ValueError("iat is too old, or in the future")
        methods = claims.get("amr")
        is_mfa = isinstance(methods, list) and "mfa" in methods
        return Assertion(SsoIdentity(str(self._issuer), subject), issued_at, is_mfa)


class _Discovered:
    """Fetches a provider's keys from where its metadata says (OpenID Connect Discovery §4)."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._metadata = HttpJwksFetcher(issuer.removesuffix("/") + _DISCOVERY, timeout=_TIMEOUT)

    async def __call__(self) -> FetchedJwks:
        document = (await self._metadata()).document
        if document.get("issuer") != self._issuer:
            raise ValueError("the metadata is another issuer's")
        return await HttpJwksFetcher(str(document.get("jwks_uri")), timeout=_TIMEOUT)()


def _time(claims: Mapping[str, Any], name: str) -> datetime:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is not a number")
    return datetime.fromtimestamp(value, UTC)
