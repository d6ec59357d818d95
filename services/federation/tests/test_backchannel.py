"""Back-channel logout: apps are told, by one process at a time, and never anywhere inside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import jwt
import pytest

from chassis.clock import Clock
from chassis.database import Database
from chassis.ids import new_id
from chassis.outbox import Outbox
from chassis.public_http import PublicClient
from chassis.service import Service
from contracts.apps import AppDirectory
from contracts.gen.internal.token.v1.sessions_pb2 import OpenedSession
from services.federation.backchannel import store
from services.federation.backchannel.models import EndedLogin
from services.federation.backchannel.service import EVENT, BackchannelLogout
from services.federation.issuer_tokens import IssuerTokens
from services.federation.tests.flow import Browser, RelyingParty, answer_of, anybody, open_login
from tests.fake_http import FakeHttp, fake_http
from tests.harness import BASE_URL, System, Tenant

SECONDS = 10.0


@pytest.fixture
async def receiver() -> AsyncIterator[FakeHttp]:
    """An app's address for logouts."""
    async with fake_http() as fake:
        yield fake


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def told_app(system: System, tenant: Tenant, url: str, **members: Any) -> RelyingParty:
    """An app that is to be told of logouts at a URL."""
    made = await system.app(tenant, trusted=True, backchannel_logout_uri=url, **members)
    return RelyingParty(system, tenant, *made)


async def log_in(browser: Browser, *apps: RelyingParty, scope: str = "openid") -> list[dict[str, Any]]:
    """Let a browser's user into apps."""
    found = []
    for app in apps:
        code = answer_of(await browser.get(app.url(scope=scope)))["code"]
        found.append((await app.redeem(code)).json)
    return found


async def claims_of(system: System, token: str) -> dict[str, Any]:
    """Verify a token with the published keys, and return its claims."""
    published = await system.call("token", "GET", "/.well-known/jwks.json", caller=anybody())
    kid = jwt.get_unverified_header(token)["kid"]
    [jwk] = [key for key in published.json["keys"] if key["kid"] == kid]
    key = jwt.PyJWK(jwk)
    return dict(jwt.decode(token, key.key, algorithms=[jwk["alg"]], options={"verify_aud": False}))


async def test_apps_of_a_login_are_told_once_when_it_ends(
    system: System, acme: Tenant, receiver: FakeHttp
) -> None:
    """Back-Channel Logout 1.0 §2.4, §2.5; also those whose access outlives the login (§2.7)."""
    login = await open_login(system, acme)
    browser = Browser(system)
    await browser.know(login)
    first = await told_app(system, acme, f"{receiver.url}/first", id_token_signed_response_alg="ES256")
    offline = await told_app(system, acme, f"{receiver.url}/offline")
    silent = RelyingParty(system, acme, *await system.app(acme, trusted=True))
    [tokens, _, _] = await log_in(browser, first, first, silent)
    await log_in(browser, offline, scope="openid offline_access")
    refused = await first.post("token", "/token", {"grant_type": "authorization_code", "code": "ac_x"})
    assert refused.status == 400
    assert receiver.asked == []

    assert (await browser.get(f"/logout?id_token_hint={tokens['id_token']}")).status == 200
    for number in range(2):
        await system.event(
            "logout_delivered", client_id=acme.id, after=number, login_session_id=login.session_id
        )
    await until(lambda: len(receiver.asked) == 2)
    by_target = {asked.target: asked for asked in receiver.asked}
    for target, app, alg in (("/first", first, "ES256"), ("/offline", offline, "RS256")):
        asked = by_target[target]
        assert asked.method == "POST"
        assert asked.headers["content-type"] == "application/x-www-form-urlencoded"
        [token] = asked.form.values()
        assert asked.form == {"logout_token": token}
        header = jwt.get_unverified_header(token)
        assert (header["typ"], header["alg"]) == ("logout+jwt", alg)
        claims = await claims_of(system, token)
        assert {name: claims[name] for name in ("iss", "aud", "sub", "sid", "events")} == {
            "iss": BASE_URL,
            "aud": app.id,
            "sub": login.user.id,
            "sid": login.session_id,
            "events": {EVENT: {}},
        }
        assert claims["exp"] - claims["iat"] == 120
        assert claims["jti"]
        assert "nonce" not in claims
    # J-14: it is no ID token, so nobody is logged out by it.
    browser = Browser(system)
    await browser.know(await open_login(system, acme))
    confused = await browser.get(f"/logout?id_token_hint={by_target['/first'].form['logout_token']}")
    assert 'action="/logout/confirm"' in confused.body.decode()


async def test_app_that_gave_its_own_grant_back_is_not_told(
    system: System, acme: Tenant, receiver: FakeHttp
) -> None:
    """What ends a grant alone logs nobody out; the login's end is told then, if the app came again."""
    login = await open_login(system, acme)
    browser = Browser(system)
    await browser.know(login)
    app = await told_app(system, acme, receiver.url)
    code = answer_of(await browser.get(app.url()))["code"]
    assert (await app.redeem(code)).status == 200
    assert (await app.redeem(code)).status == 400
    await system.event("session_revoked", client_id=acme.id, reason="code_reused", app_id=app.id)
    [tokens] = await log_in(browser, app)
    assert (await app.post("token", "/revoke", {"token": tokens["access_token"]})).status == 200
    again = await log_in(browser, app, scope="openid offline_access")
    assert (await app.post("token", "/revoke", {"token": again[0]["refresh_token"]})).status == 200
    await system.event("session_revoked", client_id=acme.id, reason="token_revoked", app_id=app.id)
    assert receiver.asked == []
    [tokens] = await log_in(browser, app)
    assert (await browser.get(f"/logout?id_token_hint={tokens['id_token']}")).status == 200
    await until(lambda: len(receiver.asked) == 1)


@dataclass(slots=True)
class Workers:
    """Two processes that send deliveries, each only when told; the service's own has none of these rows."""

    system: System
    db: Database
    first: BackchannelLogout
    second: BackchannelLogout
    session: OpenedSession

    async def queue(self, app: RelyingParty, count: int = 1) -> list[UUID]:
        """Queue deliveries of an app for invented logins, out of reach of the service's own sweep."""
        sessions = [new_id() for _ in range(count)]
        now = self.system.clock.now()
        async with self.db.platform() as tx:
            ended = [EndedLogin(app.tenant.id, app.id, new_id(), session, now) for session in sessions]
            await store.queue(tx, ended, now + timedelta(days=300))
        return sessions


class _Later:
    """A clock far ahead, at which those deliveries are due."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.extra = timedelta(days=300, seconds=1)

    def now(self) -> Any:
        return self._clock.now() + self.extra


@contextlib.asynccontextmanager
async def workers(system: System, *, allow_private: bool = True) -> AsyncIterator[tuple[Workers, _Later]]:
    """Two of them on the service's database."""
    later = _Later(system.clock)
    await system.sql("federation", "DELETE FROM logout_deliveries WHERE due_at > now() + interval '200 days'")
    async with contextlib.AsyncExitStack() as stack:
        made = []
        db = await stack.enter_async_context(system.db("federation"))
        for _ in range(2):
            service = Service(system.settings("federation"), later)
            channels = [
                await stack.enter_async_context(system.channel(name, caller="federation"))
                for name in ("orgs", "token")
            ]
            http = PublicClient(timeout=0.5, max_answer=0, allow_private=allow_private)
            stack.push_async_callback(http.stop)
            made.append(
                BackchannelLogout(
                    db,
                    Outbox(db, service.bus, later, service="federation"),
                    later,
                    apps=AppDirectory(channels[0], service.bus),
                    tokens=IssuerTokens(channels[1]),
                    http=http,
                )
            )
        yield Workers(system, db, made[0], made[1], OpenedSession()), later


async def state_of(system: System, session: UUID) -> tuple[str, int]:
    """Status and attempts of a delivery."""
    [row] = await system.sql(
        "federation", "SELECT status, attempts FROM logout_deliveries WHERE session_id = $1", session
    )
    return row["status"], row["attempts"]


async def test_delivery_is_tried_again_for_a_day_and_a_refusal_is_final(
    system: System, acme: Tenant, receiver: FakeHttp
) -> None:
    """H-02, H-06: errors, redirects and silence are tried again, with ever longer waits; 400 is the end."""
    app = await told_app(system, acme, receiver.url)
    async with fake_http() as elsewhere, workers(system) as (made, later):
        [session] = await made.queue(app)
        assert await made.first.round() == 1
        assert (await state_of(system, session), len(receiver.asked)) == (("delivered", 1), 1)

        receiver.headers = {"location": elsewhere.url}
        waits = []
        [session] = await made.queue(app)
        for attempt, status in enumerate((500, 307, 404, 503), start=1):
            receiver.status = status
            await made.first.round()
            assert await state_of(system, session) == ("queued", attempt)
            assert await made.first.round() == 0, "not before its time"
            [row] = await system.sql(
                "federation", "SELECT due_at FROM logout_deliveries WHERE session_id = $1", session
            )
            waits.append(row["due_at"] - later.now())
            later.extra += waits[-1] + timedelta(seconds=1)
        assert elsewhere.asked == []
        assert all(longer > shorter for shorter, longer in pairwise(waits))
        receiver.is_silent = True
        await made.first.round()
        assert await state_of(system, session) == ("queued", 5)
        receiver.is_silent = False
        receiver.status = 204
        later.extra += timedelta(hours=3)
        await made.first.round()
        assert await state_of(system, session) == ("delivered", 6)

        receiver.status = 400
        later.extra = timedelta(days=300, seconds=1)
        [session] = await made.queue(app)
        await made.first.round()
        assert await state_of(system, session) == ("failed", 1)
        failed = await system.event(
            "logout_delivery_failed", client_id=acme.id, login_session_id=str(session)
        )
        assert failed.data["reason"] == "the app refused it"

        receiver.status = 500
        [session] = await made.queue(app)
        for _ in range(40):
            await made.first.round()
            if (await state_of(system, session))[0] == "failed":
                break
            later.extra += timedelta(hours=2, seconds=1)
        outcome, attempts = await state_of(system, session)
        assert outcome == "failed"
        assert 10 <= attempts <= 30


async def test_delivery_is_sent_by_one_process_and_survives_a_crash(
    system: System, acme: Tenant, receiver: FakeHttp
) -> None:
    """F-06, F-07, H-08: no delivery twice at a time, none lost; the same news twice is one delivery."""
    apps = [await told_app(system, acme, f"{receiver.url}/{number}") for number in range(3)]
    async with workers(system) as (made, later):
        for app in apps:
            await made.queue(app, 4)
        await asyncio.gather(*[worker.round() for worker in (made.first, made.second) * 5])
        assert sorted(asked.target for asked in receiver.asked) == ["/0"] * 4 + ["/1"] * 4 + ["/2"] * 4

        receiver.asked.clear()
        [session] = await made.queue(apps[0])
        async with made.db.platform() as tx:  # a process took it, and died
            claimed = await store.claim_due(tx, later.now(), later.now() + timedelta(minutes=1), 20)
        assert [one.session_id for one in claimed] == [session]
        assert await made.second.round() == 0
        later.extra += timedelta(minutes=1, seconds=1)
        assert await made.second.round() == 1
        assert len(receiver.asked) == 1
        async with made.db.tenant(acme.id) as tx:
            assert not await store.finish(tx, claimed[0], "failed", later.now()), "the dead one has no say"

        news = [EndedLogin(acme.id, apps[0].id, new_id(), session, system.clock.now())]
        for _ in range(2):
            async with made.db.platform() as tx:
                await store.queue(tx, news, later.now())
        assert await made.first.round() == 0
        came_again = [EndedLogin(acme.id, apps[0].id, new_id(), session, later.now() + timedelta(seconds=1))]
        async with made.db.platform() as tx:
            await store.queue(tx, came_again, later.now())
        assert await made.first.round() == 1


async def test_one_app_that_hangs_holds_up_nobody_else(
    system: System, acme: Tenant, receiver: FakeHttp
) -> None:
    """H-06: it has a few places at a time, however many of its deliveries wait."""
    async with fake_http() as hanging, workers(system) as (made, _):
        hanging.is_silent = True
        slow = await told_app(system, acme, hanging.url)
        quick = await told_app(system, acme, receiver.url)
        await made.queue(slow, 30)
        await made.queue(quick)
        assert await made.first.round() == 5
        assert (len(hanging.asked), len(receiver.asked)) == (4, 1)


async def test_nothing_is_sent_inside_or_to_who_lost_the_right(system: System, receiver: FakeHttp) -> None:
    """H-01, H-07: no private address is connected to; what was suspended or removed is not told."""
    tenant = await system.tenant()
    app = await told_app(system, tenant, receiver.url)
    async with workers(system, allow_private=False) as (made, _):
        [session] = await made.queue(app)
        assert await made.first.round() == 1
        assert (await state_of(system, session), receiver.asked) == (("failed", 1), [])
    path = f"/api/admin/clients/{tenant.id}/apps/{app.id}"
    changes = ((path, {"backchannel_logout_uri": None}), (path, {"status": "disabled"}))
    for target, change in (*changes, (f"/api/admin/clients/{tenant.id}", {"status": "suspended"})):
        async with workers(system) as (made, _):
            [session] = await made.queue(app)
            answer = await system.call("orgs", "PATCH", target, caller=system.admin(), json=change)
            assert answer.status == 200, answer.body
            assert await made.first.round() == 1
            assert (await state_of(system, session), receiver.asked) == (("failed", 1), [])
            restored = {"backchannel_logout_uri": receiver.url, "status": "active"}
            if target == path:
                await system.call("orgs", "PATCH", path, caller=system.admin(), json=restored)
    assert json.dumps(receiver.asked) == "[]"
