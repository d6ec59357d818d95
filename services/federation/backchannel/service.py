"""Telling apps that a login has ended (OpenID Connect Back-Channel Logout 1.0), until they know.

The end of a grant is an event of the token service. Each becomes a row here in the transaction after which
it is acknowledged, and a row is sent by one process: claimed by one UPDATE, for longer than sending may take.
A process that dies leaves its rows to be claimed again, so an app may be told twice, one after the other, and
never not at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from http import HTTPStatus
from typing import Any, Final
from uuid import UUID

import structlog
from prometheus_client import Counter, Histogram

from chassis.clock import Clock
from chassis.database import Database
from chassis.errors import AppError, Unavailable
from chassis.events import DomainEvent, Event
from chassis.outbound import OutboundFailed
from chassis.outbox import Outbox
from chassis.public_http import AddressRefused, PublicClient
from contracts import events
from contracts.apps import App, AppDirectory
from services.federation.backchannel import store
from services.federation.backchannel.models import Delivery, DeliveryStatus, EndedLogin
from services.federation.issuer_tokens import IssuerTokens

log = structlog.get_logger()

CONSUMER: Final = "federation-logouts"
SUBJECT: Final = "events.token.session_revoked"
EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"

_OF_THE_GRANT_ALONE: Final = frozenset({"token_revoked", "code_reused", "refresh_token_reused"})
"""Reasons that end what an app has of a login which goes on: nobody is logged out, and the app knows."""

_TOKEN_TTL: Final = timedelta(minutes=2)
_LEASE: Final = timedelta(minutes=1)
_FIRST_RETRY: Final = timedelta(seconds=5)
_RETRY_FACTOR: Final = 3
_LONGEST_RETRY: Final = timedelta(hours=2)
_TRIED_FOR: Final = timedelta(days=1)
_SWEEP_SECONDS: Final = 2.0
_AT_ONCE: Final = 20
_KEPT: Final = timedelta(days=30)
_PURGE_SECONDS: Final = 3600.0

DELIVERIES = Counter("logout_deliveries_total", "Attempts to tell an app of a logout.", ["outcome"])
LAG = Histogram(
    "logout_delivery_lag_seconds",
    "From when an app was to be told of a logout until it was.",
    buckets=(0.1, 0.5, 1, 2, 5, 15, 60, 300, 1800, 7200, 86400),
)


class LogoutRefused(Exception):
    """The app will not be told, whatever is tried again; the text is for the record."""


class BackchannelLogout:
    """Keeps and sends logout tokens."""

    def __init__(
        self,
        db: Database,
        outbox: Outbox,
        clock: Clock,
        *,
        apps: AppDirectory,
        tokens: IssuerTokens,
        http: PublicClient,
    ) -> None:
        """Take where deliveries are kept, who knows apps and signs, and the way out."""
        self._db = db
        self._outbox = outbox
        self._clock = clock
        self._apps = apps
        self._tokens = tokens
        self._http = http
        self._news = asyncio.Event()

    async def on_sessions_revoked(self, revoked: Sequence[Event]) -> None:
        """Queue what apps must be told; the handler of the consumer, and the same twice is the same once.

        Raises:
            Unavailable: the database, or who knows the apps, is away: the events come again.
        """
        ended: dict[tuple[UUID, str], EndedLogin] = {}
        for event in revoked:
            for login in _ended_logins(event):
                ended[login.session_id, login.app_id] = login
        told = [login for login in ended.values() if await self._wants_to_know(login)]
        if not told:
            return
        async with self._db.platform() as tx:
            await store.queue(tx, told, self._clock.now())
            tx.after_commit(self._news.set)

    async def sweep(self) -> None:
        """Send what is due, for ever; a job of the service."""
        sending: set[asyncio.Task[None]] = set()
        try:
            while True:
                self._news.clear()
                claimed = await self._claim(_AT_ONCE - len(sending))
                for delivery in claimed:
                    task = asyncio.create_task(self._send(delivery))
                    sending.add(task)
                    task.add_done_callback(sending.discard)
                if not claimed:
                    await self._rest(sending)
                elif len(sending) >= _AT_ONCE:
                    await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in sending:
                task.cancel()

    async def purge(self) -> None:
        """Forget deliveries of long ago, for ever; a job of the service."""
        while True:
            async with self._db.platform() as tx:
                await store.purge(tx, self._clock.now() - _KEPT)
            await asyncio.sleep(_PURGE_SECONDS)

    async def round(self) -> int:
        """Send some of what is due, and return how many that was."""
        claimed = await self._claim(_AT_ONCE)
        await asyncio.gather(*map(self._send, claimed))
        return len(claimed)

    async def _wants_to_know(self, login: EndedLogin) -> bool:
        app = await self._apps.find(login.app_id, client_id=login.client_id)
        return app is not None and app.is_usable and bool(app.backchannel_logout_uri)

    async def _claim(self, limit: int) -> list[Delivery]:
        now = self._clock.now()
        async with self._db.platform() as tx:
            return await store.claim_due(tx, now, now + _LEASE, limit)

    async def _rest(self, sending: set[asyncio.Task[None]]) -> None:
        """Wait for news, for a place that has become free, or for the next look at what is due."""
        woken = asyncio.create_task(self._news.wait())
        await asyncio.wait({woken, *sending}, timeout=_SWEEP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        woken.cancel()

    async def _send(self, delivery: Delivery) -> None:
        try:
            app = await self._recipient(delivery)
            token = await self._tokens.sign("logout+jwt", app.id_token_alg, self._claims(delivery))
            answer = await self._http.exchange(
                "POST", app.backchannel_logout_uri, form={"logout_token": token}, wants_body=False
            )
            _check(answer.status)
        except (LogoutRefused, AddressRefused) as error:
            await self._give_up(delivery, str(error))
        except (OutboundFailed, AppError) as error:
            await self._try_again(delivery, str(error))
        except Exception:
            log.exception("logout delivery failed", delivery_id=str(delivery.id))
            await self._try_again(delivery, "internal error")
        else:
            delivered = events.LogoutDelivered(
                target_id=delivery.app_id,
                user_id=str(delivery.user_id),
                login_session_id=str(delivery.session_id),
                attempts=delivery.attempts,
            )
            await self._finish(delivery, DeliveryStatus.DELIVERED, delivered)
            LAG.observe((self._clock.now() - delivery.created_at).total_seconds())

    async def _recipient(self, delivery: Delivery) -> App:
        """Return the app as it is now: what was suspended or took its address away is told nothing."""
        app = await self._apps.find(delivery.app_id, client_id=delivery.client_id)
        if app is None or not app.is_usable or app.client.id != delivery.client_id:
            raise LogoutRefused("the app is not active any more")
        if not app.backchannel_logout_uri:
            raise LogoutRefused("the app has no address for it any more")
        return app

    def _claims(self, delivery: Delivery) -> dict[str, object]:
        """Return the claims of §2.4 that are ours to say; the signer adds `iss`, `iat` and `jti`."""
        return {
            "sub": str(delivery.user_id),
            "aud": delivery.app_id,
            "exp": int((self._clock.now() + _TOKEN_TTL).timestamp()),
            "sid": str(delivery.session_id),
            "events": {EVENT: {}},
        }

    async def _try_again(self, delivery: Delivery, reason: str) -> None:
        wait = min(_LONGEST_RETRY, _FIRST_RETRY * _RETRY_FACTOR ** min(delivery.attempts - 1, 10))
        due_at = self._clock.now() + wait
        if due_at > delivery.created_at + _TRIED_FOR:
            await self._give_up(delivery, reason)
            return
        log.warning("logout delivery waits", delivery_id=str(delivery.id), reason=reason)
        DELIVERIES.labels("retried").inc()
        try:
            async with self._db.tenant(delivery.client_id) as tx:
                await store.postpone(tx, delivery, due_at)
        except Unavailable:
            log.warning("logout delivery waits for its lease", delivery_id=str(delivery.id))

    async def _give_up(self, delivery: Delivery, reason: str) -> None:
        log.warning("logout not delivered", delivery_id=str(delivery.id), reason=reason)
        failed = events.LogoutDeliveryFailed(
            target_id=delivery.app_id,
            user_id=str(delivery.user_id),
            login_session_id=str(delivery.session_id),
            attempts=delivery.attempts,
            reason=reason[:200],
        )
        await self._finish(delivery, DeliveryStatus.FAILED, failed)

    async def _finish(self, delivery: Delivery, status: DeliveryStatus, event: DomainEvent) -> None:
        try:
            async with self._db.tenant(delivery.client_id) as tx:
                if await store.finish(tx, delivery, status, self._clock.now()):
                    await self._outbox.emit(tx, event, None, client_id=delivery.client_id)
                    tx.after_commit(DELIVERIES.labels(status).inc)
        except Unavailable:
            log.warning("logout delivery not noted, and sent again", delivery_id=str(delivery.id))


def _check(status: int) -> None:
    """Judge an answer by §2.8; frameworks make a 204 of a 200 without a body."""
    if status == HTTPStatus.BAD_REQUEST:
        raise LogoutRefused("the app refused it")
    if status not in (HTTPStatus.OK, HTTPStatus.NO_CONTENT):
        raise OutboundFailed(f"status {status}")


def _ended_logins(event: Event) -> list[EndedLogin]:
    """Return which apps an ended session logs out: its own when it was a grant, else those that outlive it.

    Raises:
        ValueError: the event is malformed.
    """
    data: Mapping[str, Any] = event.data
    if event.client_id is None or data.get("reason") in _OF_THE_GRANT_ALONE:
        return []
    if data.get("app_id") is not None:
        session_id, app_ids = UUID(data["parent_id"]), [data["app_id"]]
    else:
        session_id, app_ids = UUID(event.target_id), data.get("kept_app_ids") or []
    user_id = UUID(data["user_id"])
    return [EndedLogin(event.client_id, app_id, user_id, session_id, event.occurred_at) for app_id in app_ids]
