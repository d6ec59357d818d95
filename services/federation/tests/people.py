"""Users of a tenant, made through the routes of identity, with the factors they have."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any

from tests.authenticator_app import App
from tests.harness import Answer, System, Tenant
from tests.webauthn_device import Device

PASSWORD = "violet-harbour-27-lanterns"
PAGE = "http://localhost:8080"


@dataclass(slots=True)
class Person:
    """A user, with an authenticator app and recovery codes if it has set them up."""

    system: System
    tenant: Tenant
    email: str
    id: str
    session_id: str
    app: App | None = None
    recovery_codes: list[str] = field(default_factory=list)

    @classmethod
    async def new(cls, system: System, tenant: Tenant) -> Person:
        """Sign up."""
        email = f"u-{secrets.token_hex(6)}@example.com"
        body = {"email": email, "password": PASSWORD, "token_transport": "json"}
        answer = await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)
        assert answer.status == 201, answer.body
        made = answer.json
        return cls(system, tenant, email, made["user"]["id"], made["session"]["id"])

    async def call(self, path: str, body: dict[str, Any]) -> Answer:
        """Call a route as the user, who has just logged in."""
        caller = self.tenant.user_caller(
            self.id, self.session_id, auth_time=int(self.system.clock.now().timestamp())
        )
        answer = await self.system.call("identity", "POST", f"/api/auth/{path}", caller=caller, json=body)
        assert answer.status in (200, 201), answer.body
        return answer

    async def protect(self) -> Person:
        """Set up an authenticator app."""
        self.app = App(self.system, (await self.call("totp/setup", {})).json["secret"])
        answer = await self.call("totp/enable", {"code": self.code()})
        self.recovery_codes = list(answer.json["recovery_codes"])
        return self

    def code(self) -> str:
        """A code that the app has not shown before."""
        return self._app_at_hand.code()

    def wrong_code(self) -> str:
        """Six digits that are no code near now."""
        return self._app_at_hand.wrong()

    async def register(self, device: Device) -> None:
        """Register a device's passkey; a user with an app shows a code of it."""
        proof = {"code": self.code()} if self.app else {}
        begun = (await self.call("passkey/register/begin", proof)).json
        made = device.create(begun["options"], origin=PAGE)
        await self.call(f"passkey/register/finish?session_id={begun['session_id']}", {"credential": made})

    async def sessions(self) -> list[dict[str, Any]]:
        """Its sessions of the hosted page, the oldest first, as `token` keeps them."""
        rows = await self.system.sql(
            "token",
            """
            SELECT id, amr, acr, ended_at,
                   (SELECT count(*) FROM refresh_tokens WHERE session_id = s.id) AS tokens
            FROM sessions AS s WHERE user_id = $1 AND id <> $2 AND app_id IS NULL ORDER BY id
            """,
            self.id,
            self.session_id,
        )
        return [dict(row) for row in rows]

    @property
    def _app_at_hand(self) -> App:
        assert self.app is not None, "no app is set up"
        return self.app
