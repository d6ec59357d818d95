"""The rules of token exchange (RFC 8693).

A confidential app that an admin gave this grant type exchanges a token of its tenant for one of its own, with
fewer scopes and a narrower audience, never with more, that ends with the token and the session it came from.
It is always delegation: `act` says who acts, the app itself or who the `actor_token` is of, and before whom.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from authservice_validator import VerifiedClaims
from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import InvalidRequest
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import App
from contracts.token_use import CLIENT_CREDENTIALS, ENROLLMENT
from services.token.errors import InvalidScope, InvalidTarget
from services.token.grants.tokens import OFFLINE_ACCESS, subject_of
from services.token.oauth.authentication import acting_in
from services.token.oauth.models import TokenAnswer, token_type
from services.token.oauth.parameters import Parameters, read_scope
from services.token.sessions import store as sessions_store
from services.token.signing.access_tokens import AccessToken, AccessTokens, Delegated, Machine
from services.token.signing.keyring import Keyring
from services.token.validation.service import ValidationService

ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - a type
_JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
_MAX_ACTORS: Final = 4

EXCHANGES = Counter("token_exchanges_total", "Tokens exchanged, by whose they were.", ["subject"])


class TokenExchange:
    """Exchanges tokens."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        keyring: Keyring,
        access_tokens: AccessTokens,
        validation: ValidationService,
    ) -> None:
        """Take who judges tokens, and what signs them."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._keyring = keyring
        self._access_tokens = access_tokens
        self._validation = validation

    async def exchange(
        self, caller: CallerContext, app: App, parameters: Parameters, jkt: str | None
    ) -> TokenAnswer:
        """Exchange a token.

        Raises:
            InvalidRequest: a parameter is missing or not supported, or a token is not good (§2.2.2).
            InvalidScope, InvalidTarget: more is asked for than the token and the app have.
            Unavailable: it cannot be told now.
        """
        if parameters.get("requested_token_type", ACCESS_TOKEN) != ACCESS_TOKEN:
            raise InvalidRequest("Only access tokens are given.")
        subject = await self._judged(app, parameters, "subject_token", jkt)
        actor = await self._judged(app, parameters, "actor_token", jkt) if _has_actor(parameters) else None
        act = _act(app, subject, actor)
        scopes = _scopes(app, subject, read_scope(parameters.get("scope")))
        asked = (*parameters.several("resource"), *parameters.several("audience"))
        audience = _audience(app, subject, tuple(dict.fromkeys(asked)))
        delegated = Delegated(app.id, scopes, audience, jkt)
        token = await self._sign(app, subject, delegated, json.dumps(act))
        exchanged = events.TokenExchanged(
            target_id=app.id,
            subject=subject.sub,
            actor=str(act["sub"]),
            scope=" ".join(scopes),
            token_id=subject.jti,
        )
        await self._outbox.append(
            exchanged,
            acting_in(caller, app.client.id),
            actor=Actor(ActorType.CLIENT, app.id),
            client_id=app.client.id,
        )
        return TokenAnswer(
            access_token=token.token,
            token_type=token_type(jkt),
            expires_in=token.expires_in,
            scope=" ".join(scopes),
            issued_token_type=ACCESS_TOKEN,
        )

    async def _judged(self, app: App, parameters: Parameters, name: str, jkt: str | None) -> VerifiedClaims:
        """Return the claims of a token parameter that is good now, of the app's tenant.

        Raises:
            InvalidRequest: it is missing, of another type, not good, or bound to a key that was not shown.
        """
        token = parameters.get(name)
        if token is None or parameters.get(f"{name}_type") not in (ACCESS_TOKEN, _JWT):
            raise InvalidRequest(f"Send a `{name}` that is an access token, and its `{name}_type`.")
        verdict = (await self._validation.validate(app.client, [token]))[0]
        if not isinstance(verdict, VerifiedClaims) or verdict.token_use == ENROLLMENT:
            raise InvalidRequest(f"The `{name}` is not good.")
        if verdict.cnf is not None and verdict.cnf.get("jkt") != jkt:
            raise InvalidRequest(f"The `{name}` is bound to a key that was not shown.")
        return verdict

    async def _sign(
        self, app: App, subject: VerifiedClaims, delegated: Delegated, act_json: str
    ) -> AccessToken:
        signer, now = await self._keyring.signer(app.client), self._clock.now()
        ends_at = datetime.fromtimestamp(subject.exp, UTC)
        if subject.token_use == CLIENT_CREDENTIALS:
            EXCHANGES.labels("machine").inc()
            machine = Machine(
                app.client.id,
                UUID(subject.sub),
                subject.service_account_name or app.name,
                UUID(subject.sid),
                delegated.scopes,
                delegated.audience,
                jkt=delegated.jkt,
                is_app=subject.service_account_id is None,
                acts_for=app.id,
                act_json=act_json,
                ends_at=ends_at,
            )
            return await self._access_tokens.sign_machine(signer, machine, now)
        async with self._db.tenant(app.client.id) as tx:
            session = await sessions_store.live_session(tx, UUID(subject.sid), now)
        if session is None:
            raise InvalidRequest("The `subject_token` is not good.")
        EXCHANGES.labels("user").inc()
        whose = replace(
            subject_of(app.client.id, session, delegated),
            session_expires_at=min(session.expires_at, ends_at),
            act_json=act_json,
        )
        return await self._access_tokens.sign(signer, whose, now)


def _has_actor(parameters: Parameters) -> bool:
    return "actor_token" in parameters or "actor_token_type" in parameters


def _act(app: App, subject: VerifiedClaims, actor: VerifiedClaims | None) -> dict[str, object]:
    """Return who acts now, and within it who acted before (§4.1).

    Raises:
        InvalidRequest: it went through too many hands, or the actor is itself acted for.
    """
    if actor is not None and actor.act is not None:
        raise InvalidRequest("The `actor_token` is of one who acts for another.")
    act: dict[str, object] = {"sub": actor.sub if actor else app.id}
    if subject.act is not None:
        act["act"] = _plain(subject.act)
    depth, inner = 0, act
    while isinstance(inner, dict):
        depth, inner = depth + 1, inner.get("act")  # type: ignore[assignment]  # None ends the chain
    if depth > _MAX_ACTORS:
        raise InvalidRequest("The token went through too many hands.")
    return act


def _plain(value: object) -> object:
    return {name: _plain(inner) for name, inner in value.items()} if hasattr(value, "items") else value


def _scopes(app: App, subject: VerifiedClaims, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return what is asked for, or all that both the token and the app have; never `offline_access`.

    Raises:
        InvalidScope: more is asked for.
    """
    # A user's own token has no scope: it may do all that the user may.
    known = app.scopes if subject.scope is None else subject.scopes
    own = tuple(scope for scope in known if scope in app.scopes and scope != OFFLINE_ACCESS)
    if asked is None:
        return own
    if not set(asked) <= set(own):
        raise InvalidScope
    return asked


def _audience(app: App, subject: VerifiedClaims, asked: tuple[str, ...]) -> tuple[str, ...]:
    """Return the resources of the new token; empty is the tenant itself, within which they all are.

    Where none is asked for these are all that both the token and the app have.

    Raises:
        InvalidTarget: one is not the app's to ask for, or not within what the token is for.
    """
    tenant = str(app.client.id)
    if tenant in asked and len(asked) > 1:
        raise InvalidTarget
    wanted = () if asked == (tenant,) else asked
    if subject.aud == (tenant,):
        allowed = set(app.audiences)
    else:
        allowed = set(subject.aud) & set(app.audiences)
        # Nothing is left to narrow to where the app has none of them, and empty would be the whole tenant.
        if asked == (tenant,) or not allowed:
            raise InvalidTarget
        wanted = wanted or tuple(resource for resource in subject.aud if resource in allowed)
    if not set(wanted) <= allowed:
        raise InvalidTarget
    return wanted
