"""A signed-up user of a tenant, for tests through the gateway."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from gateway.tests.running import RunningGateway
from tests.harness import Tenant

PASSWORD = "Correct-Horse-9-Battery"


@dataclass(frozen=True, slots=True)
class Person:
    """A user with a session."""

    id: str
    email: str
    access_token: str
    refresh_token: str
    session_id: str
    api_key: str

    @property
    def headers(self) -> dict[str, str]:
        """What a request of this user carries."""
        return {"X-API-Key": self.api_key, "Authorization": f"Bearer {self.access_token}"}


async def sign_up(gateway: RunningGateway, tenant: Tenant) -> Person:
    """Sign a new user up through the gateway."""
    email = f"{secrets.token_hex(6)}@example.com"
    answer = await gateway.client.post(
        "/api/auth/signup?token_transport=json",
        headers={"X-API-Key": tenant.api_key},
        json={"email": email, "password": PASSWORD, "token_transport": "json"},
    )
    assert answer.status_code == 201, answer.text
    opened = answer.json()
    return Person(
        id=opened["user"]["id"],
        email=email,
        access_token=opened["access_token"],
        refresh_token=opened["refresh_token"],
        session_id=opened["session"]["id"],
        api_key=tenant.api_key,
    )
