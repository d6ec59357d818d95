"""What the tests of identity share: users made through the sign-up route."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest

from chassis.context import CallerContext
from chassis.probes import Probes
from services.identity.passwords.hasher import SECONDS
from tests.harness import Answer, System, Tenant

PASSWORD = "correct horse battery staple"


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the test's tenant and its first session, as the sign-up answered it."""

    system: System
    tenant: Tenant
    email: str
    document: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        """The user's id."""
        return str(self.document["user"]["id"])

    @property
    def session_id(self) -> str:
        """The first session's id."""
        return str(self.document["session"]["id"])

    def caller(self, **changes: Any) -> CallerContext:
        """The user, in its first session."""
        return self.tenant.user_caller(self.id, self.session_id, **changes)

    async def log_in(self, password: str = PASSWORD, **changes: Any) -> Answer:
        """Log in with the user's address."""
        return await log_in(self.system, self.tenant, self.email, password, **changes)


def address() -> str:
    """An address that nobody has used."""
    return f"u-{secrets.token_hex(6)}@example.com"


async def sign_up(
    system: System, tenant: Tenant, email: str, password: str = PASSWORD, **more: Any
) -> Answer:
    """Call the sign-up route with the JSON transport."""
    body = {"email": email, "password": password, "token_transport": "json", **more}
    return await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)


async def log_in(
    system: System, tenant: Tenant, email: str, password: str = PASSWORD, **changes: Any
) -> Answer:
    """Call the login route with the JSON transport; `changes` are of the caller."""
    body = {"email": email, "password": password, "token_transport": "json"}
    return await system.call(
        "identity", "POST", "/api/auth/login", caller=tenant.caller(**changes), json=body
    )


@pytest.fixture
async def person(system: System, tenant: Tenant) -> Person:
    """A fresh user."""
    email = address()
    answer = await sign_up(system, tenant, email, display_name="Ada")
    assert answer.status == 201, answer.body
    return Person(system, tenant, email, answer.json)


@contextlib.asynccontextmanager
async def another_identity(system: System, **settings: Any) -> AsyncIterator[None]:
    """Start a second identity process's app with other settings; calls to `identity` go to it meanwhile."""
    definition = system.definitions["identity"]
    app = definition.build(system.settings("identity", **settings), system.clock)
    first = system.faces["identity"]
    async with app.started():
        system.faces["identity"] = app.make_face(Probes(app.required, app.optional))
        try:
            yield
        finally:
            system.faces["identity"] = first


def evaluations() -> float:
    """How many passwords the workers of this process have compared so far."""
    samples = (sample for metric in SECONDS.collect() for sample in metric.samples)
    return sum(
        sample.value
        for sample in samples
        if sample.name.endswith("_count") and sample.labels["operation"] == "verify"
    )


async def until(condition: Callable[[], Any]) -> None:
    """Wait for what another process does, ten seconds at most."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


async def no_duties(person: Person) -> None:
    """Wait until nothing is owed to the token service for a user any more, thirty seconds at most."""
    async with asyncio.timeout(30):
        while await person.system.sql(
            "identity", "SELECT 1 FROM session_duties WHERE user_id = $1", UUID(person.id)
        ):
            await asyncio.sleep(0.05)


@pytest.fixture(scope="session")
async def shared_tenant(system: System) -> Tenant:
    """A client for tests that leave nothing behind."""
    return await system.tenant()
