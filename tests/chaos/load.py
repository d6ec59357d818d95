"""A mixed load that remembers what it was promised: the ledger to hold against what is there afterwards."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import httpx

from tests.e2e.stack import PASSWORD, Login, Stack, Tenant

REFUSED_FOR_NOW = frozenset({503, 504})
_PAUSE_SECONDS = 0.05


class Standing(Enum):
    """What is known of a session."""

    OPEN = "open"
    ENDED = "ended"
    UNKNOWN = "unknown"


@dataclass
class Session:
    """A session and the newest tokens that were answered for it."""

    login: Login
    standing: Standing = Standing.OPEN


@dataclass
class User:
    """A user whose sign-up was answered, the passwords it may have, and its sessions."""

    login: Login
    passwords: list[str]
    sessions: list[Session] = field(default_factory=list)


@dataclass
class Ledger:
    """Everything that was answered with success, and so must still be true."""

    users: list[User] = field(default_factory=list)
    promised: list[tuple[str, str, str]] = field(default_factory=list)
    """(client, request id, event type) of each answered change."""
    operations: int = 0
    refused: int = 0
    broken_off: int = 0
    faults: list[str] = field(default_factory=list)
    """Answers that no fault excuses."""


class Actor:
    """One person at a time: signs up, then does whatever a person does, and starts over as another."""

    def __init__(self, stack: Stack, tenant: Tenant, ledger: Ledger, seed: int) -> None:
        """Act at random, in the same order for the same seed."""
        self._stack = stack
        self._tenant = tenant
        self._ledger = ledger
        self._random = random.Random(seed)

    async def act(self, until: Callable[[], bool]) -> None:
        """Act until told to stop."""
        while not until():
            user = await self._sign_up()
            if user is None:
                continue
            self._ledger.users.append(user)
            for _ in range(self._random.randint(4, 10)):
                if not until():
                    await self._step(user)

    async def _step(self, user: User) -> None:
        session = self._random.choice(user.sessions)
        if session.standing is not Standing.OPEN:
            await self._log_in(user)
            return
        steps = [self._log_in, self._change_password]
        own = [self._refresh, self._refresh, self._show, self._rename, self._end]
        step = self._random.randrange(len(steps) + len(own))
        if step < len(steps):
            await steps[step](user)
        else:
            await own[step - len(steps)](session)

    async def _send(
        self, method: str, path: str, caller: Any, event: str | None, body: Any
    ) -> httpx.Response | None:
        """Send one request; None when it was refused for now, or nobody knows what came of it."""
        request_id = f"crash-{secrets.token_hex(8)}"
        self._ledger.operations += 1
        gateway = self._random.randrange(len(self._stack.gateways))
        try:
            answer = await self._stack.call(
                method, path, caller, gateway=gateway, json=body, headers={"x-request-id": request_id}
            )
        except httpx.TransportError:
            self._ledger.broken_off += 1
            await asyncio.sleep(_PAUSE_SECONDS)  # as a client would before it tries again
            return None
        if answer.is_success:
            if event:
                self._ledger.promised.append((self._tenant.id, request_id, event))
            return answer
        if answer.status_code in REFUSED_FOR_NOW:
            self._ledger.refused += 1
            await asyncio.sleep(_PAUSE_SECONDS)
        else:
            self._ledger.faults.append(f"{method} {path}: {answer.status_code} {answer.text}")
        return None

    async def _sign_up(self) -> User | None:
        body = {
            "email": f"{secrets.token_hex(8)}@example.org",
            "password": PASSWORD,
            "token_transport": "json",
        }
        answer = await self._send("POST", "/api/auth/signup", self._tenant, "user_created", body)
        if answer is None:
            return None
        login = Login.of(self._tenant, answer)
        return User(login, [PASSWORD], [Session(login)])

    async def _log_in(self, user: User) -> None:
        if len(user.passwords) > 1:
            return
        body = {"email": user.login.email, "password": user.passwords[0], "token_transport": "json"}
        answer = await self._send("POST", "/api/auth/login", self._tenant, "login_succeeded", body)
        if answer is not None:
            user.sessions.append(Session(Login.of(self._tenant, answer)))

    async def _refresh(self, session: Session) -> None:
        body = {"refresh_token": session.login.refresh_token, "token_transport": "json"}
        answer = await self._send("POST", "/api/auth/refresh", self._tenant, "session_refreshed", body)
        if answer is None:
            session.standing = Standing.UNKNOWN
        else:
            session.login = Login.of(self._tenant, answer)

    async def _show(self, session: Session) -> None:
        await self._send("GET", "/api/auth/me", session.login, None, None)

    async def _rename(self, session: Session) -> None:
        body = {"display_name": secrets.token_hex(4)}
        await self._send("PATCH", "/api/auth/me", session.login, "user_updated", body)

    async def _end(self, session: Session) -> None:
        path = f"/api/auth/sessions/{session.login.session_id}"
        answer = await self._send("DELETE", path, session.login, "session_revoked", None)
        session.standing = Standing.UNKNOWN if answer is None else Standing.ENDED

    async def _change_password(self, user: User) -> None:
        current = next((one for one in user.sessions if one.standing is Standing.OPEN), None)
        if current is None or len(user.passwords) > 1:
            return
        new = f"{PASSWORD}-{secrets.token_hex(4)}"
        body = {"current_password": user.passwords[0], "new_password": new}
        answer = await self._send(
            "POST", "/api/auth/change-password", current.login, "password_changed", body
        )
        user.passwords = [*user.passwords, new] if answer is None else [new]
        for session in user.sessions:
            if session is not current and session.standing is Standing.OPEN:
                session.standing = Standing.UNKNOWN if answer is None else Standing.ENDED
