"""Turns what a user granted into tokens: opens the grant's session, and renews it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Tx
from chassis.events import Actor, ActorType
from chassis.outbox import Outbox
from contracts import events
from contracts.apps import REFRESH_TOKEN, App
from contracts.token_use import OAUTH
from services.token.config import TokenSettings
from services.token.errors import InvalidGrant, InvalidTarget
from services.token.grants import store
from services.token.grants.id_tokens import OPENID, Authentication, sign_id_token
from services.token.grants.models import Authorization, NewGrant
from services.token.oauth.issuer_tokens import IssuerTokens
from services.token.oauth.models import TokenAnswer, token_type
from services.token.sessions import refresh_tokens
from services.token.sessions.models import LiveSession
from services.token.sessions.service import OPENED
from services.token.signing.access_tokens import AccessTokens, Delegated, Subject
from services.token.signing.algorithms import Algorithm, Signer
from services.token.signing.keyring import Keyring

OFFLINE_ACCESS: Final = "offline_access"
_MAX_USER_AGENT: Final = 512


@dataclass(frozen=True, slots=True)
class Opened:
    """A grant that was opened, and its first refresh token, empty without."""

    session: LiveSession
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Signers:
    """What signs an app's access tokens, and its ID tokens; None for an app that may have none of these."""

    access_token: Signer
    id_token: Signer | None


class GrantTokens:
    """Opens grants and signs their tokens."""

    def __init__(
        self,
        outbox: Outbox,
        clock: Clock,
        keyring: Keyring,
        access_tokens: AccessTokens,
        issuer_tokens: IssuerTokens,
        settings: TokenSettings,
    ) -> None:
        """Take what tokens are made of, and how long grants last."""
        self._outbox = outbox
        self._clock = clock
        self._keyring = keyring
        self._access_tokens = access_tokens
        self._issuer_tokens = issuer_tokens
        self._refresh_ttl = min(
            settings.jwt_refresh_ttl, settings.session_idle_ttl or settings.jwt_refresh_ttl
        )
        self._absolute_ttl = settings.session_absolute_ttl

    async def signers(self, app: App) -> Signers:
        """Return what `answer` takes; before anything is used up, so that it stays good should this fail.

        Raises:
            Unavailable: a key is not at hand now.
        """
        access_token = await self._keyring.signer(app.client)
        if OPENID not in app.scopes:
            return Signers(access_token, None)
        return Signers(access_token, await self._issuer_tokens.signer(Algorithm(app.id_token_alg)))

    async def open(
        self,
        tx: Tx,
        caller: CallerContext,
        app: App,
        session_id: UUID,
        authorization: Authorization,
        jkt: str | None,
    ) -> Opened:
        """Open a grant's session in the transaction that uses up what stood for it.

        The app keeps a refresh token only when the user allowed `offline_access` and the app may refresh.

        Raises:
            InvalidGrant: the user's login is over, or the user is not active any more.
            InvalidTarget: the app may not ask for any resource of it any more.
        """
        now = self._clock.now()
        audience = remaining(app, authorization.audience)
        scopes = tuple(scope for scope in authorization.scopes if scope in app.scopes)
        is_offline = OFFLINE_ACCESS in scopes and REFRESH_TOKEN in app.grant_types
        token = refresh_tokens.draw() if is_offline else ""
        absolute = now + self._absolute_ttl
        grant = NewGrant(
            id=session_id,
            authorization=replace(authorization, scope=" ".join(scopes), audience=audience),
            jkt=jkt,
            ip=caller.ip,
            user_agent=caller.user_agent[:_MAX_USER_AGENT],
            now=now,
            expires_at=min(absolute, now + self._refresh_ttl),
            absolute_expires_at=absolute,
            token_hash=refresh_tokens.hash_of(token) if token else None,
        )
        session = await store.open_grant(tx, grant)
        if session is None:
            raise InvalidGrant
        event = events.SessionOpened(
            target_id=session.id,
            user_id=session.user.id,
            amr=session.amr,
            app_id=app.id,
            parent_id=str(authorization.parent_id),
            scope=grant.authorization.scope,
        )
        await self._outbox.emit(tx, event, caller, actor=Actor(ActorType.USER, session.user.id))
        OPENED.inc()
        return Opened(session, token)

    async def answer(
        self,
        app: App,
        signers: Signers,
        opened: Opened,
        *,
        scopes: tuple[str, ...] | None = None,
        audience: tuple[str, ...] | None = None,
        jkt: str | None = None,
        nonce: str = "",
    ) -> TokenAnswer:
        """Sign the tokens of a grant: with all its scopes and resources, or fewer.

        Raises:
            InvalidTarget: the app may not ask for any of these resources any more.
        """
        session, now = opened.session, self._clock.now()
        grant = session.grant
        if grant is None:
            raise LookupError("tokens of an app are of a grant")
        # What the app may not ask for any more it does not get any more.
        allowed = tuple(s for s in (grant.scopes if scopes is None else scopes) if s in app.scopes)
        resources = remaining(app, grant.audience if audience is None else audience)
        delegated = Delegated(app.id, allowed, resources, jkt)
        whose = subject_of(app.client.id, session, delegated)
        access = await self._access_tokens.sign(signers.access_token, whose, now)
        id_token = ""
        if signers.id_token is not None and OPENID in allowed:
            authentication = Authentication(session, allowed, access.token, nonce)
            id_token = await sign_id_token(self._issuer_tokens, signers.id_token, app, authentication, now)
        return TokenAnswer(
            access_token=access.token,
            token_type=token_type(jkt),
            expires_in=access.expires_in,
            scope=" ".join(allowed),
            refresh_token=opened.refresh_token,
            id_token=id_token,
        )


def remaining(app: App, audience: tuple[str, ...]) -> tuple[str, ...]:
    """Return which granted resources the app may ask for now; empty, the tenant itself, only for empty.

    Raises:
        InvalidTarget: there were some, and none is left.
    """
    left = tuple(resource for resource in audience if resource in app.audiences)
    if audience and not left:
        raise InvalidTarget
    return left


def subject_of(client_id: UUID, session: LiveSession, delegated: Delegated) -> Subject:
    """Return whose an app's access token is."""
    return Subject(
        client_id=client_id,
        session_id=session.id,
        session_expires_at=session.expires_at,
        auth_time=session.auth_time,
        amr=session.amr,
        acr=session.acr,
        user=session.user,
        token_use=OAUTH,
        act_json="",
        status_index=session.status_index,
        delegated=delegated,
    )
