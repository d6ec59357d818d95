"""Every operation against every wrong credential; made from the contract, so later routes are covered."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from uuid import UUID

import httpx
import pytest

from tests.contract.operations import FORM, Operation, named, operations
from tests.e2e.stack import PASSWORD, Caller, Login, Stack

HOSTILE = {"origin": "https://evil.example"}
OF_A_CLIENT = [operation for operation in operations() if operation.access in ("api_key", "user")]
OF_USERS = [operation for operation in OF_A_CLIENT if operation.access == "user"]
OF_ADMINS = [operation for operation in operations() if operation.access == "admin"]
OF_OAUTH = [operation for operation in operations() if operation.access == "oauth"]
OF_MACHINES = ("/oauth/token", "/oauth/introspect")
BY_BEARER = ("/userinfo", "/register", "/register/{app_id}")
"""What a bearer token opens; each has tests of its own for a good one."""
OTHERS = [
    operation
    for operation in operations()
    if operation.access not in ("public", "api_key", "user", "admin", "oauth")
]


@dataclass(frozen=True)
class World:
    """Two tenants with a user each, and the ids of what the first one has."""

    stack: Stack
    a: Login
    b: Login
    ids: dict[str, str]
    app_secret: str

    @property
    def secrets(self) -> list[str]:
        """What must never be shown to the second."""
        return [self.a.tenant.id, self.a.user_id, self.a.session_id, self.a.email, *self.ids.values()]

    def path(self, operation: Operation) -> str:
        """The operation's path with ids of the first tenant."""
        unknown = set(operation.path_parameters) - set(self.ids)
        if unknown:
            pytest.fail(
                f"{operation.name} has the path parameter {', '.join(sorted(unknown))}, which this matrix "
                "does not know: add an id of an object of tenant A to `world` below, so the route is covered"
            )
        return operation.path(self.ids)

    async def call(
        self, operation: Operation, caller: Caller | None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        """Call the operation on the first tenant's objects, with an acceptable body; a form is empty."""
        if operation.is_form_only:
            headers = {**(headers or {}), "content-type": FORM}
        if operation.is_endless:
            return await self._beginning(operation, caller, headers)
        return await self.stack.call(
            operation.method, self.path(operation), caller, headers=headers, json=operation.body()
        )

    async def _beginning(
        self, operation: Operation, caller: Caller | None, headers: dict[str, str] | None
    ) -> httpx.Response:
        """Call for an answer without an end, and return what it begins with."""
        sent = {**(caller.headers if caller else {}), **(headers or {})}
        url = self.stack.gateways[0] + self.path(operation)
        async with self.stack.http.stream(operation.method, url, headers=sent) as answer:
            if answer.is_error:
                await answer.aread()
                return answer
            first = await anext(answer.aiter_bytes())
            return httpx.Response(answer.status_code, headers=answer.headers, content=first)


@dataclass
class Worlds:
    """The world of the last test, to be used again as long as nothing can have changed it."""

    last: World | None = None


@pytest.fixture(scope="module")
def worlds() -> Worlds:
    """None yet."""
    return Worlds()


@pytest.fixture
async def world(stack: Stack, worlds: Worlds, operation: Operation) -> World:
    """Two tenants; fresh ones after an operation that may have ended sessions or replaced keys."""
    current = worlds.last or await made_world(stack)
    worlds.last = current if operation.method == "GET" else None
    return current


async def made_world(stack: Stack) -> World:
    """Make two tenants, and in the first one something of everything."""
    a = await stack.sign_up(await stack.tenant())
    b = await stack.sign_up(await stack.tenant())
    keys = await stack.call("GET", f"/api/admin/clients/{a.tenant.id}/api-keys", stack.admin)
    publishable = next(key for key in keys.json()["items"] if key["kind"] == "publishable")
    # A browser is remembered, a server that asks for tokens in the body is not.
    by_browser = {"email": a.email, "password": PASSWORD}
    await stack.call("POST", "/api/auth/login", a.tenant, json=by_browser)
    devices = await stack.call("GET", "/api/auth/devices", a)
    accounts = f"/api/admin/clients/{a.tenant.id}/service-accounts"
    account = await stack.call("POST", accounts, stack.admin, json={"name": "Worker"})
    someone = {"email": f"{a.user_id}@example.org", "roles": ["billing_admin"], "scopes": ["all"]}
    admin = await stack.call("POST", "/api/admin/users", stack.admin, json=someone)
    signing = await stack.call("GET", f"/api/admin/clients/{a.tenant.id}/signing-keys", stack.admin)
    apps = f"/api/admin/clients/{a.tenant.id}/apps"
    redirect = ["https://app.example.com/callback"]
    app = await stack.call("POST", apps, stack.admin, json={"name": "App", "redirect_uris": redirect})
    app_id = app.json()["app"]["id"]
    tokens = f"/api/admin/clients/{a.tenant.id}/initial-access-tokens"
    initial = await stack.call("POST", tokens, stack.admin, json={"name": "CI"})
    ids = {
        "app_id": app_id,
        "secret_id": app.json()["secret"]["id"],
        "token_id": initial.json()["initial_access_token"]["id"],
        "consent_id": await consent_of(stack, a, app_id),
        "kid": signing.json()["items"][0]["kid"],
        "admin_id": admin.json()["id"],
        "client_id": a.tenant.id,
        "key_id": publishable["id"],
        "passkey_id": await passkey_of(stack, a),
        "session_id": a.session_id,
        "device_id": devices.json()["items"][0]["id"],
        "user_id": a.user_id,
        "account_id": account.json()["service_account"]["id"],
    }
    return World(stack, a, b, ids, app.json()["client_secret"])


async def consent_of(stack: Stack, user: Login, app_id: str) -> str:
    """Let a user have agreed to an app, and return the consent's id."""
    rows = await stack.sql(
        "federation",
        """
        INSERT INTO consents (id, client_id, user_id, app_id, app_name, scopes, resources, granted_at,
            updated_at)
        VALUES (gen_random_uuid(), $1, $2, $3, 'App', '{openid}', '{}', now(), now())
        RETURNING id
        """,
        UUID(user.tenant.id),
        UUID(user.user_id),
        app_id,
    )
    return str(rows[0]["id"])


async def passkey_of(stack: Stack, user: Login) -> str:
    """Give a user a passkey, and return its id."""
    rows = await stack.sql(
        "identity",
        """
        INSERT INTO passkeys (id, client_id, user_id, credential_id, public_key, sign_count, name, aaguid,
            transports, attestation_format, backup_eligible, backed_up, created_at)
        VALUES (gen_random_uuid(), $1, $2, uuid_send(gen_random_uuid()), '', 0, 'key', gen_random_uuid(),
            '{}', 'none', false, false, now())
        RETURNING id
        """,
        UUID(user.tenant.id),
        UUID(user.user_id),
    )
    return str(rows[0]["id"])


def assert_nothing_shown(world: World, answer: httpx.Response) -> None:
    """The answer holds nothing of the first tenant."""
    assert answer.status_code < 500, answer.text
    for secret in world.secrets:
        assert secret not in answer.text


@pytest.mark.parametrize("operation", OF_A_CLIENT, ids=named)
async def test_operation_when_without_a_key_then_is_401(world: World, operation: Operation) -> None:
    bearer = {"authorization": f"Bearer {world.a.access_token}"}
    for headers in ({}, bearer, {"x-api-key": ""}, {**bearer, "x-api-key": "ask_unknown"}):
        answer = await world.call(operation, None, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "invalid_api_key")
        assert "www-authenticate" in answer.headers
        assert_nothing_shown(world, answer)


@pytest.mark.parametrize("operation", OF_A_CLIENT, ids=named)
async def test_operation_when_called_by_another_tenant_then_shows_and_changes_nothing(
    world: World, operation: Operation
) -> None:
    answer = await world.call(operation, world.b if operation.access == "user" else world.b.tenant)
    if operation.path_parameters:
        assert answer.status_code in (401, 403, 404), answer.text
    assert_nothing_shown(world, answer)
    assert (await world.stack.call("GET", "/api/auth/me", world.a)).status_code == 200
    own = await world.call(operation, world.a if operation.access == "user" else world.a.tenant)
    credentials_are_refused = own.status_code in (401, 403) and own.json()["code"] in (
        "invalid_api_key",
        "invalid_token",
        "unauthenticated",
        "forbidden",
    )
    assert not credentials_are_refused, own.text
    assert own.status_code < 500, own.text


@pytest.mark.parametrize("operation", OF_USERS, ids=named)
async def test_operation_when_token_and_key_are_of_two_tenants_then_is_401(
    world: World, operation: Operation
) -> None:
    for user, key in ((world.a, world.b.tenant.api_key), (world.b, world.a.tenant.api_key)):
        answer = await world.call(operation, user, {"x-api-key": key})
        assert answer.status_code == 401, answer.text
        assert_nothing_shown(world, answer)
    only_key = await world.call(operation, world.a.tenant)
    assert only_key.status_code == 401


@pytest.mark.parametrize("operation", OF_A_CLIENT, ids=named)
async def test_operation_when_publishable_key_is_on_a_foreign_page_then_is_403(
    world: World, operation: Operation
) -> None:
    caller = world.a if operation.access == "user" else world.a.tenant
    key = {"x-api-key": world.a.tenant.publishable_key}
    refused = await world.call(operation, caller, {**key, **HOSTILE})
    assert (refused.status_code, refused.json()["code"]) == (403, "origin_not_allowed")
    assert_nothing_shown(world, refused)
    accepted = await world.call(operation, caller, key)
    assert accepted.status_code < 500
    assert accepted.status_code != 403 or accepted.json()["code"] != "origin_not_allowed"


@pytest.mark.parametrize("operation", OF_ADMINS, ids=named)
async def test_admin_operation_when_called_without_the_admin_key_then_is_refused(
    world: World, operation: Operation
) -> None:
    publishable = {"x-api-key": world.a.tenant.publishable_key}
    for caller, headers in (
        (None, {}),
        (None, publishable),
        (world.a.tenant, {}),
        (world.a, {}),
        (world.b, {}),
    ):
        answer = await world.call(operation, caller, headers)
        assert answer.status_code in (401, 403), answer.text
        assert_nothing_shown(world, answer)
    assert (await world.stack.call("GET", "/api/auth/me", world.a)).status_code == 200
    allowed = await world.call(operation, world.stack.admin)
    assert allowed.status_code != 401, allowed.text
    # A challenge that there is none of is 403, too, and says so.
    assert allowed.status_code != 403 or allowed.json()["code"] == "invalid_challenge", allowed.text
    assert allowed.status_code < 500, allowed.text


@pytest.mark.parametrize("operation", OF_OAUTH, ids=named)
async def test_oauth_operation_when_called_without_its_own_credentials_then_is_refused(
    world: World, operation: Operation
) -> None:
    """Neither keys nor tokens of users open it, nor the id of an account or an app with another's secret."""
    error = "invalid_token" if operation.template in BY_BEARER else "invalid_client"
    account, app = world.ids["account_id"], world.ids["app_id"]
    for caller in (None, world.a.tenant, world.a, world.b, world.stack.admin):
        answer = await world.call(operation, caller)
        assert (answer.status_code, answer.json()["error"]) == (401, error), answer.text
    for client in (account, app):
        for secret in ("", world.a.tenant.api_key, world.b.tenant.api_key, world.a.access_token):
            answer = await world.call(operation, None, basic(client, secret))
            assert (answer.status_code, answer.json()["error"]) == (401, error), answer.text
    if operation.template in OF_MACHINES:
        keys = f"/api/admin/clients/{world.a.tenant.id}/service-accounts/{account}/keys"
        made = await world.stack.call("POST", keys, world.stack.admin)
        own = await world.call(operation, None, basic(account, made.json()["client_secret"]))
        assert own.status_code == 200, own.text
    elif operation.template not in BY_BEARER:
        own = await world.call(operation, None, basic(app, world.app_secret))
        assert own.status_code != 401, own.text


def basic(client: str, secret: str) -> dict[str, str]:
    """HTTP Basic."""
    return {"authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


def test_credential_class_when_new_then_this_matrix_is_taught_it() -> None:
    assert [operation.name for operation in OTHERS] == [], "say here what another tenant may do with these"
