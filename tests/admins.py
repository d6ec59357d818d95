"""Admins with tokens, for the tests of every slice that meets them."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from chassis.context import Access, CallerContext
from contracts.admin_roles import permissions_of
from services.identity.tests.conftest import address
from tests.authenticator_app import App
from tests.harness import Answer, System

USERS = "/api/admin/users"
AUTH = "/api/admin/auth"
PASSWORD = "a-long-admin-phrase-7"


@dataclass(slots=True)
class TestAdmin:
    """An admin and what it logs in with."""

    __test__ = False

    system: System
    document: dict[str, Any] = field(repr=False)
    app: App | None = None

    @property
    def id(self) -> str:
        """The admin's id."""
        return str(self.document["id"])

    def caller(self, **changes: Any) -> CallerContext:
        """The admin, as the gateway names it after the directory was asked."""
        named = {
            "admin_id": UUID(self.id),
            "admin_permissions": tuple(sorted(permissions_of(self.document["roles"]))),
            "admin_scopes": tuple(self.document["scopes"]),
        }
        return self.system.admin(**{**named, **changes})

    async def log_in(self, password: str = PASSWORD, **changes: Any) -> Answer:
        """Send address and password."""
        body = {"email": self.document["email"], "password": password}
        return await call_anonymously(self.system, "login", body, **changes)

    async def token(self) -> str:
        """Log in by password and app; the app is set up at the first time."""
        answer = await self.log_in()
        assert answer.status == 200, answer.body
        token = answer.json.get("mfa_token")
        if token is None:
            return str(answer.json["access_token"])
        step = "mfa/verify"
        if self.app is None:
            made = await call_anonymously(self.system, "totp/setup", {"mfa_token": token})
            self.app = App(self.system, made.json["secret"])
            step = "totp/enable"
        granted = await call_anonymously(self.system, step, {"mfa_token": token, "code": self.app.code()})
        assert granted.status == 200, granted.body
        return str(granted.json["access_token"])


async def call_anonymously(system: System, step: str, body: dict[str, Any], **changes: Any) -> Answer:
    """Call one of the routes of admins' logins."""
    caller = system.admin(**{"access": Access.PUBLIC, "ip": "198.51.100.7", **changes})
    return await system.call("identity", "POST", f"{AUTH}/{step}", caller=caller, json=body)


async def add(system: System, *, by: CallerContext | None = None, **members: Any) -> Answer:
    """Add an admin, an owner of everything unless told otherwise."""
    body = {
        "email": address(),
        "display_name": secrets.token_hex(4),
        "password": PASSWORD,
        "roles": ["owner"],
        "scopes": ["all"],
        **members,
    }
    return await system.call("identity", "POST", USERS, caller=by or system.admin(), json=body)


async def new_admin(system: System, **members: Any) -> TestAdmin:
    """A fresh admin, added with the break-glass key."""
    answer = await add(system, **members)
    assert answer.status == 201, answer.body
    return TestAdmin(system, answer.json)
