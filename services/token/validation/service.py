"""Whether an access token is good right now. Knows no gRPC and no SQL."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from datetime import timedelta

from authservice_validator import (
    KeysUnavailable,
    RevocationSet,
    TokenError,
    TokenExpired,
    TokenInvalid,
    TokenRevoked,
    TokenVerifier,
    VerifiedClaims,
)
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import KeyKind
from chassis.errors import DeadlineExceeded, Forbidden, Unavailable
from contracts.apps import AppDirectory, is_document_url
from contracts.clients import Client, ClientDirectory, InvalidApiKey, TokenMode
from contracts.token_use import CLIENT_CREDENTIALS, ISSUED, OAUTH
from services.token.validation.keys import StoredKeys
from services.token.validation.models import Refusal, Verdict, is_of_app
from services.token.validation.standing import Standing

RESULTS = Counter("tokens_validated_total", "Access tokens validated, by result.", ["result"])
_VALID = RESULTS.labels("valid")

_LEEWAY = timedelta(seconds=30)
_CACHE_SIZE = 50_000
_YIELD_AFTER = 32
_SESSION_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ValidationService:
    """Checks signature, times, tenant, and that nothing was revoked.

    A token's algorithm is bound to its client's mode, its key to its client, and its audience to that
    client, so a tenant that knows its own secret or key cannot speak in another's name.
    """

    def __init__(
        self,
        clients: ClientDirectory,
        public_keys: StoredKeys,
        secrets: StoredKeys,
        standing: Standing,
        revoked: RevocationSet,
        clock: Clock,
        issuer: str,
        apps: AppDirectory,
    ) -> None:
        """Take the two kinds of keys, and what knows of revocations and apps."""
        self._clients = clients
        self._apps = apps
        self._standing = standing
        self._by_public_key = public_keys, _verifier(public_keys, issuer, revoked, clock)
        self._by_secret = secrets, _verifier(secrets, issuer, revoked, clock)

    async def resolve_key(self, api_key: str) -> Client | None:
        """Return the client of an API key, or None for one that is not good.

        Raises:
            Unavailable: it cannot be told now.
        """
        try:
            return (await self._clients.resolve_key(api_key)).client
        except InvalidApiKey:
            return None

    async def client_of_server(self, api_key: str) -> Client:
        """Return the client of a secret API key, for what is not every page's to know.

        Raises:
            InvalidApiKey: the key is not good.
            Forbidden: it is a publishable one.
            Unavailable: it cannot be told now.
        """
        key = await self._clients.resolve_key(api_key)
        if key.kind is not KeyKind.SECRET:
            raise Forbidden("This needs a secret API key.")
        return key.client

    async def validate(self, client: Client, tokens: Sequence[str]) -> list[Verdict]:
        """Judge a client's tokens, in order.

        Raises:
            Unavailable: a key is not known and cannot be loaded now.
        """
        verdicts: list[Verdict] = []
        for index, token in enumerate(tokens):
            # A long batch must not keep the loop from everybody else.
            if index % _YIELD_AFTER == _YIELD_AFTER - 1:
                await asyncio.sleep(0)
            verdicts.append(await self._verify(client, token))
        verified = [verdict for verdict in verdicts if isinstance(verdict, VerifiedClaims)]
        if verified:
            good = iter(await self._standing.are_good(verified))
            verdicts = [
                Refusal.TOKEN_REVOKED if isinstance(verdict, VerifiedClaims) and not next(good) else verdict
                for verdict in verdicts
            ]
        refusals = [verdict for verdict in verdicts if isinstance(verdict, Refusal)]
        for refusal in refusals:
            RESULTS.labels(str(refusal)).inc()
        _VALID.inc(len(verdicts) - len(refusals))
        return verdicts

    async def _verify(self, client: Client, token: str) -> Verdict:
        """Check all that needs no look at the session."""
        keys, verifier = self._by_secret if client.token_mode is TokenMode.HS256 else self._by_public_key
        try:
            claims = verifier.cached(token) or await verifier.verify(token)
            _check_tenant(claims, client, keys)
            if claims.token_use == OAUTH or is_of_app(claims):
                await self._check_app(claims, client)
        except TokenExpired:
            return Refusal.TOKEN_EXPIRED
        except TokenRevoked:
            return Refusal.TOKEN_REVOKED
        except TokenError:
            return Refusal.INVALID_TOKEN
        except KeysUnavailable as error:
            raise Unavailable from error
        return claims

    async def _check_app(self, claims: VerifiedClaims, client: Client) -> None:
        """Check that the app whose token it is is active, as far as that is known now.

        Raises:
            TokenRevoked: it is not, or its own token is not for it any more.
            Unavailable: it cannot be told, and nothing but the app answers for the token.
        """
        app_id = claims.claims.get("azp")
        if not isinstance(app_id, str):
            raise TokenInvalid("the token is of no app")
        try:
            app = await self._apps.find(app_id, client_id=client.id)
        except (Unavailable, DeadlineExceeded):
            if is_of_app(claims):
                raise
            return  # its session answers for it
        if app is None and is_document_url(app_id):
            return  # the host that has the document may be away; its session answers for it, too
        if app is None or app.client.id != client.id or not app.is_active:
            raise TokenRevoked("the app is not active")
        if is_of_app(claims) and not set(claims.aud) <= {claims.client_id, *app.audiences}:
            raise TokenRevoked("the app may not have this audience")


def _verifier(keys: StoredKeys, issuer: str, revoked: RevocationSet, clock: Clock) -> TokenVerifier:
    return TokenVerifier(
        keys,
        issuer=issuer,
        token_uses=ISSUED,
        leeway=_LEEWAY,
        cache_size=_CACHE_SIZE,
        revocations=revoked,
        clock=lambda: clock.now().timestamp(),
    )


def _check_tenant(claims: VerifiedClaims, client: Client, keys: StoredKeys) -> None:
    own = str(client.id)
    # The key's owner is what counts: the claims are only what that owner wrote.
    if keys.owner(claims.kid) != client.id or claims.client_id != own:
        raise TokenInvalid("the token is not of this client")
    if claims.aud != (own,) and not is_of_app(claims):
        # For resources of the tenant (RFC 8707); which of them, its session says.
        resources = client.settings.get("oidc_audiences") or ()
        if claims.token_use not in (OAUTH, CLIENT_CREDENTIALS) or not set(claims.aud) <= set(resources):
            raise TokenInvalid("the token is for another audience")
    if claims.token_use == CLIENT_CREDENTIALS and claims.sub not in (
        claims.service_account_id,
        claims.sid if is_of_app(claims) else None,
    ):
        raise TokenInvalid("a machine's token is of no service account and no app")
    # A tenant that knows its secret may sign anything; what is not one of our sessions is looked for nowhere.
    if claims.sid is None or not _SESSION_ID.fullmatch(claims.sid):
        raise TokenInvalid("the token is of no session")
