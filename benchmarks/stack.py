"""The system under measurement, and the tenants and people in it, all made through the gateway.

One process of each kind, each server durable (a commit is on disk before it is answered), and limits that no
journey reaches: what is measured is work, not refusals.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import secrets
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.servers import delete_folder
from local.system import System

PASSWORD = "violet-harbour-27-lanterns"
MODES = {"RS256": "v2_jwks", "ES256": "v3_es256"}

_CLASSES = ("DEFAULT", "LOGIN", "SIGNUP", "REFRESH", "SENSITIVE", "PUBLIC", "OAUTH", "ADMIN", "DECISION")
_ENVIRONMENT = {
    **{f"RATE_LIMIT_{name}": "9999999/60" for name in _CLASSES},
    # Many logins of one user at once are many attempts that are not decided yet.
    "LOCKOUT_THRESHOLD": "100",
    "LOCKOUT_ACCOUNT_THRESHOLD": "10000",
    # The cheap one at first: it also makes the people. `use_hash` changes it.
    "IDENTITY_PASSWORD_HASH": "argon2id",
    # No token expires under a journey.
    "JWT_ACCESS_TTL": "6h",
    "LOG_LEVEL": "warning",
}


@dataclass(frozen=True, slots=True)
class Person:
    """A user with an open session."""

    email: str
    access_token: str
    refresh_token: str


@dataclass(frozen=True, slots=True)
class Tenant:
    """A client of one token mode, and its people."""

    id: str
    api_key: str
    people: list[Person]

    @property
    def headers(self) -> dict[str, str]:
        """What proves the client."""
        return {"x-api-key": self.api_key}

    def headers_of(self, person: Person) -> dict[str, str]:
        """What proves the client and one of its users."""
        return {**self.headers, "authorization": f"Bearer {person.access_token}"}


class Stack:
    """A running system; tenants are made when first asked for."""

    def __init__(self, system: System) -> None:
        """Take a running system."""
        self.system = system
        self.port = system.process("gateway").port
        self._admin = {"x-admin-key": system.env["ADMIN_API_KEY"]}
        self._tenants: dict[str, Tenant] = {}

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Stack]:
        """Run a system in a folder of its own, which is deleted at the end."""
        folder = Path(tempfile.mkdtemp(prefix="authservice-bench-"))
        system = System(folder, env=_ENVIRONMENT, with_demo=False)
        try:
            system.start_all()
            yield cls(system)
        finally:
            system.stop()
            delete_folder(folder)

    def tenant(self, algorithm: str, people: int, name: str = "") -> Tenant:
        """Return the tenant of this name whose tokens are signed so, with at least so many people."""
        key = f"{algorithm}-{name or 'people'}"
        tenant = self._tenants.get(key)
        if tenant is None:
            body = {"name": key, "slug": f"bench-{key.lower()}", "token_mode": MODES[algorithm]}
            answer = self.call("POST", "/api/admin/clients", self._admin, body)
            tenant = self._tenants[key] = Tenant(answer["client"]["id"], answer["api_key"], [])
        tenant.people.extend(self.people(tenant, people - len(tenant.people)))
        return tenant

    def people(self, tenant: Tenant, count: int) -> list[Person]:
        """Sign up new users of a tenant."""
        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(self._sign_up, [tenant] * max(0, count)))

    def _sign_up(self, tenant: Tenant) -> Person:
        email = f"{secrets.token_hex(8)}@example.com"
        body = {"email": email, "password": PASSWORD, "token_transport": "json"}
        answer = self.call("POST", "/api/auth/signup", tenant.headers, body)
        return Person(email, answer["access_token"], answer["refresh_token"])

    def use_hash(self, scheme: str) -> None:
        """Start identity again with another way to hash passwords; no effect on those that exist."""
        identity = self.system.process("identity")
        if identity.env["IDENTITY_PASSWORD_HASH"] != scheme:
            identity.env["IDENTITY_PASSWORD_HASH"] = scheme
            identity.restart()
            self.system.await_ready(["identity", "gateway"])

    def newest_audit_event(self, tenant: Tenant) -> dict[str, Any] | None:
        """Return the newest event of the tenant that can be queried."""
        path = f"/api/admin/audit-events?client_id={tenant.id}&limit=1"
        items = self.call("GET", path, self._admin)["items"]
        return dict(items[0]) if items else None

    def call(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Mapping[str, object] | None = None,
    ) -> dict[str, Any]:
        """Send one request through the gateway and return its answer.

        Raises:
            RuntimeError: it was refused; says how.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {**headers, "content-type": "application/json"} if body is not None else dict(headers)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, sent)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path} answered {answer.status}: {text[:500]}")
        return dict(json.loads(text))
