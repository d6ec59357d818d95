"""The rules of sessions: opening, refreshing, ending. Knows no HTTP and no SQL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from prometheus_client import Counter

from chassis.clock import Clock
from chassis.context import CallerContext
from chassis.database import Database, Tx
from chassis.events import Actor, ActorType
from chassis.ids import new_id
from chassis.outbox import Outbox
from contracts import events
from contracts.clients import Client, ClientDirectory, ClientNotFound
from contracts.gen.internal.identity.v1 import users_pb2
from contracts.gen.internal.token.v1 import sessions_pb2
from contracts.token_use import ACCESS
from services.token.config import TokenSettings
from services.token.errors import InvalidRefreshToken, SessionNotFound, SessionRefused
from services.token.revocations.service import Revocations
from services.token.sessions import ends, refresh_tokens, store
from services.token.sessions.models import (
    EndedSession,
    EndReason,
    Holder,
    LiveSession,
    NewSession,
    Opening,
    Session,
    TokenUse,
)
from services.token.sessions.rotation import Rotation, Rotations
from services.token.signing.access_tokens import AccessTokens, Subject
from services.token.signing.algorithms import Signer
from services.token.signing.keyring import Keyring

OPENED = Counter("sessions_opened_total", "Sessions opened.")
REFRESHES = Counter("session_refreshes_total", "Refresh tokens presented, by what came of it.", ["outcome"])
ENDED = Counter("sessions_ended_total", "Sessions ended before their time.", ["reason"])

_MAX_USER_AGENT = 512


@dataclass(frozen=True, slots=True)
class _Presented:
    """What came of a presented refresh token: a session and its next token, or a refusal."""

    outcome: str
    session: LiveSession | None = None
    token: str = ""


class SessionService:
    """Opens, refreshes, lists and ends sessions."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        clients: ClientDirectory,
        keyring: Keyring,
        access_tokens: AccessTokens,
        successors: refresh_tokens.Successors,
        revocations: Revocations,
        settings: TokenSettings,
    ) -> None:
        """Take what a session is made of."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._clients = clients
        self._keyring = keyring
        self._access_tokens = access_tokens
        self._successors = successors
        self._revocations = revocations
        self._refresh_ttl = min(
            settings.jwt_refresh_ttl, settings.session_idle_ttl or settings.jwt_refresh_ttl
        )
        self._access_ttl = settings.jwt_access_ttl
        self._absolute_ttl = settings.session_absolute_ttl
        self._grace = settings.refresh_reuse_grace
        self._rotations = Rotations(db, outbox, clock, self._refresh_ttl)

    async def open(
        self, caller: CallerContext, user: users_pb2.User, opening: Opening
    ) -> sessions_pb2.OpenedSession:
        """Open a session for a user who has just proven who it is; `identity` checked the proof.

        Raises:
            SessionRefused: the client is not active, or the user is known by now not to be.
        """
        client = await self._clients.get(caller.require_client())
        if not client.is_active:
            raise SessionRefused
        # Before anything is stored: a key that cannot be loaded must not leave a session behind.
        signer = await self._keyring.signer(client)
        now = self._clock.now()
        session = self._new_session(caller, UUID(user.id), opening, now)
        token = refresh_tokens.draw() if opening.has_refresh_token and not opening.only_for else ""
        async with self._db.tenant(client.id) as tx:
            known = await store.open_session(
                tx, session, user, refresh_tokens.hash_of(token) if token else None
            )
            if known is None:
                raise SessionRefused
            event = events.SessionOpened(
                target_id=session.id,
                user_id=user.id,
                amr=session.amr,
                impersonator_id=session.impersonator_id,
            )
            # One in the user's name is the deed of whoever asks for it.
            actor = None if opening.act_json else Actor(ActorType.USER, user.id)
            await self._outbox.emit(tx, event, caller, actor=actor)
        OPENED.inc()
        live = LiveSession(
            session.id, session.user_id, now, session.expires_at, session.amr, session.acr, *known
        )
        return await self._answer(client, signer, live, token, now, opening)

    async def refresh(self, caller: CallerContext, token: str) -> sessions_pb2.OpenedSession:
        """Exchange a refresh token for its successor and a new access token.

        The token is used by this. Presented again within the grace, while its successor is unused, it gets
        the same successor once more; later its session dies, which is on record before the refusal is
        answered.

        Raises:
            InvalidRefreshToken: it opens nothing. The reason is never said.
        """
        client = await self._active_client(caller.require_client())
        if client is None:
            REFRESHES.labels("refused").inc()
            raise InvalidRefreshToken
        signer = await self._keyring.signer(client)
        now = self._clock.now()
        session, successor = await self.rotate(caller, client.id, token, Holder(), now)
        return await self._answer(client, signer, session, successor, now)

    async def rotate(
        self, caller: CallerContext, client_id: UUID, token: str, holder: Holder, now: datetime
    ) -> tuple[LiveSession, str]:
        """Use a refresh token of a holder, as `refresh` says: its session, and the next token.

        Raises:
            InvalidRefreshToken: it opens nothing for this holder. The reason is never said.
        """
        if not refresh_tokens.is_well_formed(token):
            REFRESHES.labels("refused").inc()
            raise InvalidRefreshToken
        seed = self._successors.new_seed()
        successor = self._successors.successor(token, seed)
        use = TokenUse(refresh_tokens.hash_of(token), seed, refresh_tokens.hash_of(successor), holder)
        session = await self._rotations.rotate(client_id, Rotation(use, caller))
        if session is not None:
            presented = _Presented("rotated", session, successor)
        else:
            async with self._db.tenant(client_id) as tx:
                presented = await self._presented_again(tx, caller, token, holder, now)
        REFRESHES.labels(presented.outcome).inc()
        if presented.outcome == "reused":
            await self._revocations.announce()
        if presented.session is None:
            raise InvalidRefreshToken
        return presented.session, presented.token

    async def end_of_token(self, caller: CallerContext, token: str, *, app_id: str | None = None) -> bool:
        """End the login of a refresh token, or an app's grant; false, quietly, when there is none.

        A logout always succeeds.
        """
        if not refresh_tokens.is_well_formed(token):
            return False
        now = self._clock.now()
        reason = EndReason.LOGOUT if app_id is None else EndReason.TOKEN_REVOKED
        async with self._db.tenant(caller.require_client()) as tx:
            session_id = await store.session_of_token(tx, refresh_tokens.hash_of(token), app_id)
            if session_id is None:
                return False
            ended = await ends.end_session(tx, session_id, reason, now)
            if ended:
                # Who holds the refresh token speaks for its user, though the request carries a key only.
                who = _user(ended[0].user_id)
                await self.record_ended(tx, caller, ended, reason, now, actor=who)
        # Also when another request ended it: its news may not have been told yet.
        await self._revocations.announce()
        return True

    async def end_one(self, caller: CallerContext, session_id: UUID) -> None:
        """End one session of the calling user.

        Raises:
            SessionNotFound: the user has no such live session.
        """
        if not await self.end_session(caller, caller.require_user(), session_id, EndReason.USER_REVOKED):
            raise SessionNotFound

    async def end_session(
        self, caller: CallerContext, user_id: UUID | None, session_id: UUID, reason: str
    ) -> bool:
        """End one session (of this user, when given) and its grants; false when there is none that lives."""
        now = self._clock.now()
        async with self._db.tenant(caller.require_client()) as tx:
            ended = await ends.end_session(tx, session_id, reason, now, user_id=user_id)
            await self.record_ended(tx, caller, ended, reason, now)
        await self._revocations.announce()
        return bool(ended)

    async def end_all(
        self, caller: CallerContext, user_id: UUID, reason: str, *, kept: UUID | None = None
    ) -> int:
        """End all sessions of a user, or all but one; how many there were."""
        now = self._clock.now()
        async with self._db.tenant(caller.require_client()) as tx:
            ended = await ends.end_sessions(tx, user_id, reason, now, kept=kept)
            await self.record_ended(tx, caller, ended, reason, now)
        await self._revocations.announce()
        return len(ended)

    async def end_grants(
        self, caller: CallerContext, user_id: UUID, app_id: str, granted_until: datetime | None = None
    ) -> None:
        """End what a user granted to an app, or did until a time, codes that wait included."""
        now = self._clock.now()
        async with self._db.tenant(caller.require_client()) as tx:
            ended = await ends.end_grants(
                tx, user_id, app_id, EndReason.GRANT_REVOKED, now, granted_until=granted_until
            )
            await self.record_ended(tx, caller, ended, EndReason.GRANT_REVOKED, now)
        await self._revocations.announce()

    async def put_user(self, caller: CallerContext, user: users_pb2.User) -> None:
        """Bring the copy of a user up to date; older news changes nothing.

        When the user is not active any more its sessions end and its tokens die in the same transaction.
        """
        user_id = UUID(user.id)
        now = self._clock.now()
        client_id = caller.require_client()
        async with self._db.tenant(client_id) as tx:
            taken = await store.put_user(tx, user_id, user)
            if not taken or user.status == store.ACTIVE:
                return
            ended = await ends.end_sessions(tx, user_id, EndReason.USER_NOT_ACTIVE, now)
            await self.record_ended(tx, caller, ended, EndReason.USER_NOT_ACTIVE, now)
            await self._revocations.user(tx, client_id, user.id, now)
        await self._revocations.announce()

    async def forget_user(self, caller: CallerContext, user_id: UUID) -> None:
        """Erase a deleted user: its sessions end, its tokens die, and nothing opens another for it.

        Of its sessions the times stay, and neither addresses nor browsers.
        """
        now, client_id = self._clock.now(), caller.require_client()
        async with self._db.tenant(client_id) as tx:
            await store.forget_user(tx, user_id, _deleted(client_id, user_id))
            ended = await ends.end_sessions(tx, user_id, EndReason.USER_DELETED, now)
            await self.record_ended(tx, caller, ended, EndReason.USER_DELETED, now)
            await store.erase_origins(tx, user_id)
            await self._revocations.user(tx, client_id, str(user_id), now)
        await self._revocations.announce()

    async def list(self, client_id: UUID, user_id: UUID, *, before: UUID | None, limit: int) -> list[Session]:
        """Return a user's live sessions, newest first, those opened before the session `before`."""
        async with self._db.tenant(client_id) as tx:
            return await store.list_sessions(tx, user_id, self._clock.now(), before=before, limit=limit)

    async def _active_client(self, client_id: UUID) -> Client | None:
        try:
            client = await self._clients.get(client_id)
        except ClientNotFound:
            return None
        return client if client.is_active else None

    async def _presented_again(
        self, tx: Tx, caller: CallerContext, token: str, holder: Holder, now: datetime
    ) -> _Presented:
        """Decide about a token that was not rotated: within the grace, reused, or nothing at all."""
        used = await store.used_token(tx, refresh_tokens.hash_of(token), holder.app_id, self._grace, now)
        if used is None:
            return _Presented("refused")
        if used.is_within_grace and not used.successor_used:
            session = await store.live_session(tx, used.session_id, now)
            if session is not None and not _may_hold(session, holder):
                return _Presented("refused")
            return _Presented("repeated", session, self._successors.successor(token, used.seed))
        ended = await ends.end_session(tx, used.session_id, EndReason.TOKEN_REUSED, now)
        if not ended:
            return _Presented("refused")
        reused = ended[0]
        event = events.RefreshTokenReuseDetected(
            target_id=reused.id, user_id=str(reused.user_id), app_id=reused.app_id
        )
        await self._outbox.emit(tx, event, caller)
        await self.record_ended(tx, caller, ended, EndReason.TOKEN_REUSED, now)
        return _Presented("reused")

    async def record_ended(
        self,
        tx: Tx,
        caller: CallerContext,
        ended: Sequence[EndedSession],
        reason: str,
        now: datetime,
        *,
        actor: Actor | None = None,
    ) -> None:
        """Revoke the access tokens of ended sessions and put each end on record, in the same transaction."""
        client_id = caller.require_client()
        await self._revocations.sessions(tx, client_id, [session.id for session in ended], now)
        for session in ended:
            event = events.SessionRevoked(
                target_id=session.id,
                user_id=str(session.user_id),
                reason=reason,
                app_id=session.app_id,
                parent_id=str(session.parent_id) if session.parent_id else None,
                kept_app_ids=session.kept_app_ids or None,
            )
            await self._outbox.emit(tx, event, caller, actor=actor)
        ENDED.labels(_counted(reason)).inc(len(ended))

    def _new_session(
        self, caller: CallerContext, user_id: UUID, opening: Opening, now: datetime
    ) -> NewSession:
        # One that cannot be renewed is over with its only access token.
        longest = min(opening.only_for, self._access_ttl) if opening.only_for else self._absolute_ttl
        absolute = now + longest
        return NewSession(
            id=new_id(),
            user_id=user_id,
            created_at=now,
            expires_at=min(absolute, now + self._refresh_ttl),
            absolute_expires_at=absolute,
            ip=caller.ip,
            user_agent=caller.user_agent[:_MAX_USER_AGENT],
            amr=opening.amr,
            acr=opening.acr,
            impersonator_id=opening.impersonator_id,
        )

    async def _answer(
        self,
        client: Client,
        signer: Signer,
        session: LiveSession,
        token: str,
        now: datetime,
        opening: Opening | None = None,
    ) -> sessions_pb2.OpenedSession:
        """Sign the access token and put the answer together; nothing is stored here."""
        subject = Subject(
            client_id=client.id,
            session_id=session.id,
            session_expires_at=session.expires_at,
            auth_time=session.auth_time,
            amr=session.amr,
            acr=session.acr,
            user=session.user,
            token_use=opening.token_use if opening else ACCESS,
            act_json=opening.act_json if opening else "",
            status_index=session.status_index,
        )
        access = await self._access_tokens.sign(signer, subject, now)
        return sessions_pb2.OpenedSession(
            session_id=str(session.id),
            access_token=access.token,
            expires_in=access.expires_in,
            refresh_token=token,
            refresh_expires_in=max(0, (session.expires_at - now) // timedelta(seconds=1)) if token else 0,
            user=session.user,
        )


def _user(user_id: UUID) -> Actor:
    return Actor(ActorType.USER, str(user_id))


def _may_hold(session: LiveSession, holder: Holder) -> bool:
    """Whether the grant's key is the holder's, as the rotation's statement asks."""
    jkt = session.grant.jkt if session.grant else None
    return jkt is None or jkt == holder.jkt or (holder.is_confidential and holder.jkt is not None)


def _counted(reason: str) -> str:
    """The reason as a label; other services name their own, and a label needs a small set."""
    return reason if reason in set(EndReason) or reason == "password_changed" else "other"


def _deleted(client_id: UUID, user_id: UUID) -> users_pb2.User:
    """Return the copy of a deleted user: newer than any that may still arrive."""
    return users_pb2.User(
        id=str(user_id), client_id=str(client_id), status=store.DELETED, version=store.LAST_VERSION
    )
