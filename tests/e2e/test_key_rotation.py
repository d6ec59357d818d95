"""Rotation of signing keys on the running system: three under load without a miss, one in an emergency."""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from authservice_validator import JwksKeys, TokenVerifier
from authservice_validator.fetch import FetchedJwks, HttpJwksFetcher

from local.service_process import REPOSITORY
from services.token.signing.stages import LEAD_TIME
from tests.e2e.stack import TOKEN_MODES, Login, Stack, Tenant, eventually
from tests.e2e.test_token_attacks import assert_accepted, part

ROTATIONS = 3
VALIDATIONS_PER_SECOND = 50
BELIEVED = timedelta(seconds=2)
"""For how long the validators of this test keep a set: their `max-age` passes in real time.

What else is in `LEAD_TIME` is skipped by making the next key older: the rest of five minutes, and what the
clocks of several machines may differ by.
"""


class Validator:
    """A customer's service: the Python package with the key set over HTTP from one gateway."""

    def __init__(self, stack: Stack, tenant: Tenant, gateway: int) -> None:
        url = f"{stack.gateways[gateway]}/.well-known/jwks.json?client_id={tenant.id}"
        self._fetch = HttpJwksFetcher(url, timeout=timedelta(seconds=5))
        self.seen: set[object] = set()
        keys = JwksKeys(self._get, longest_max_age=BELIEVED, cooldown=timedelta(seconds=1))
        self._verifier = TokenVerifier(keys, issuer=stack.base_url, client_id=tenant.id, cache_size=0)

    async def _get(self) -> FetchedJwks:
        fetched = await self._fetch()
        keys: Any = fetched.document["keys"]
        self.seen |= {key["kid"] for key in keys}
        return fetched

    async def check(self, token: str) -> None:
        """Verify; it must have known the key before it met a token of it, and not have had to look for it."""
        if self.seen:
            assert part(token, 0)["kid"] in self.seen, "a key signs that this validator has never seen"
        await self._verifier.verify(token)


class Load:
    """Validations of every kind at a steady pace, and new tokens all the time."""

    def __init__(self, stack: Stack, user: Login) -> None:
        self._stack = stack
        self._user = user
        self._tokens: deque[str] = deque([user.access_token], maxlen=100)
        self._stopped = asyncio.Event()
        self.done: Counter[str] = Counter()
        self.kids: Counter[str] = Counter()
        self.failures: list[str] = []
        self.validators = [Validator(stack, user.tenant, gateway) for gateway in (0, 1)]

    def start(self, group: asyncio.TaskGroup) -> None:
        """Begin: forty a second by the package, sixteen at `/me`, sixteen by gRPC."""
        for gateway in (0, 1):
            group.create_task(self._keep(f"package {gateway}", 20, self.validators[gateway].check))
            group.create_task(self._keep(f"me {gateway}", 8, self._me(gateway)))
            group.create_task(self._keep(f"grpc {gateway}", 8, self._grpc(gateway)))
        group.create_task(self._renew())

    def stop(self) -> None:
        """End, when the calls under way have been answered."""
        self._stopped.set()

    async def _keep(self, name: str, per_second: int, check: Callable[[str], Awaitable[None]]) -> None:
        due = time.monotonic()
        while not self._stopped.is_set():
            token = self._tokens[-1] if random.random() < 0.5 else random.choice(self._tokens)
            try:
                await check(token)
            except Exception as error:  # every failure counts, whatever it is
                self.failures.append(f"{name}: {type(error).__name__}: {error}")
            else:
                self.done[name] += 1
                self.kids[f"{name} {part(token, 0)['kid']}"] += 1
            due += 1 / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    def _me(self, gateway: int) -> Callable[[str], Awaitable[None]]:
        async def check(token: str) -> None:
            headers = {**self._user.tenant.headers, "authorization": f"Bearer {token}"}
            answer = await self._stack.call("GET", "/api/auth/me", gateway=gateway, headers=headers)
            assert answer.status_code == 200, answer.text

        return check

    def _grpc(self, gateway: int) -> Callable[[str], Awaitable[None]]:
        async def check(token: str) -> None:
            answer = await self._stack.validate(token, self._user.tenant.api_key, gateway=gateway)
            assert answer.valid, answer.error

        return check

    async def _renew(self) -> None:
        refresh_token, gateway = self._user.refresh_token, 0
        while not self._stopped.is_set():
            answer = await self._stack.refresh(self._user.tenant, refresh_token, gateway=gateway)
            if answer.status_code != 200:
                self.failures.append(f"refresh: {answer.text}")
                return
            refresh_token, gateway = answer.json()["refresh_token"], 1 - gateway
            self._tokens.append(answer.json()["access_token"])
            await asyncio.sleep(0.2)


async def test_signing_key_when_rotated_three_times_under_load_then_no_validation_fails(stack: Stack) -> None:
    tenant = await stack.tenant(token_mode="v3_es256")
    user = await stack.sign_up(tenant)
    load = Load(stack, user)
    began = time.monotonic()
    active = []
    async with asyncio.TaskGroup() as group:
        load.start(group)
        try:
            for _ in range(ROTATIONS):
                active.append(await rotate(stack, tenant))

                async def is_validated_everywhere() -> bool:
                    return sum(count > 1 for name, count in load.kids.items() if active[-1] in name) == 6

                await eventually(is_validated_everywhere, within=10, what="tokens of the new key are used")
        finally:
            load.stop()
    seconds = time.monotonic() - began
    assert load.failures == []
    assert len(set(active)) == ROTATIONS
    assert len({name.rpartition(" ")[2] for name in load.kids}) == ROTATIONS + 1
    assert sum(load.done.values()) / seconds >= VALIDATIONS_PER_SECOND, (load.done, seconds)
    # The control: a key that signs before anybody could have seen it would have been noticed.
    for _ in range(2):
        path = f"/api/admin/clients/{tenant.id}/rotate-signing-key?force=true"
        assert (await stack.call("POST", path, stack.admin)).status_code == 200
    hasty = await stack.log_in(user)
    with pytest.raises(AssertionError, match="has never seen"):
        await load.validators[0].check(hasty.access_token)


async def rotate(stack: Stack, tenant: Tenant) -> str:
    """Rotate when a whole `max-age` of the validators has passed since the next key was there; its name."""
    published = time.monotonic()

    async def has_passed() -> bool:
        return time.monotonic() - published > (BELIEVED + timedelta(seconds=1)).total_seconds()

    await eventually(has_passed, within=5, what="a whole max-age")
    path = f"/api/admin/clients/{tenant.id}/rotate-signing-key"
    too_soon = await stack.call("POST", path, stack.admin)
    assert (too_soon.status_code, too_soon.json()["code"]) == (409, "rotation_too_soon")
    await stack.sql(
        "token",
        "UPDATE signing_keys SET created_at = created_at - $2::interval "
        "WHERE client_id = $1::text::uuid AND status = 'next'",
        tenant.id,
        LEAD_TIME,
    )
    rotated = await stack.call("POST", path, stack.admin, gateway=1)
    assert rotated.status_code == 200, rotated.text
    return str(rotated.json()["active_kid"])


@pytest.mark.parametrize("mode", [mode for mode in TOKEN_MODES if mode != "v1_hs256"])
async def test_signing_key_when_revoked_then_its_tokens_die_at_every_gateway_within_a_second(
    stack: Stack, mode: str
) -> None:
    tenant, other = await stack.tenant(token_mode=mode), await stack.tenant(token_mode=mode)
    user, stranger = await stack.sign_up(tenant), await stack.sign_up(other)
    await assert_accepted(stack, user)
    await assert_accepted(stack, stranger)
    kid = part(user.access_token, 0)["kid"]
    path = f"/api/admin/clients/{tenant.id}/signing-keys/{kid}/revoke"
    revoked = await stack.call("POST", path, stack.admin)
    assert revoked.status_code == 200, revoked.text

    async def is_refused() -> bool:
        answers = [await stack.call("GET", "/api/auth/me", user, gateway=gateway) for gateway in (0, 1)]
        verdicts = [await stack.validate(user.access_token, tenant.api_key, gateway=n) for n in (0, 1)]
        return {answer.status_code for answer in answers} == {401} and not any(v.valid for v in verdicts)

    await eventually(is_refused, within=1, what="the tokens of the revoked key are dead")
    for gateway in (0, 1):
        parameters = {"client_id": tenant.id}
        keys = await stack.call("GET", "/.well-known/jwks.json", params=parameters, gateway=gateway)
        assert kid not in {key["kid"] for key in keys.json()["keys"]}
        # Who logs in or refreshes gets a token of the key that took over, and it is good everywhere.
        again = await stack.log_in(user, gateway=gateway)
        assert part(again.access_token, 0)["kid"] == revoked.json()["active_kid"]
        await assert_accepted(stack, again)
    refreshed = await stack.refresh(tenant, user.refresh_token)
    await assert_accepted(stack, Login.of(tenant, refreshed))
    await assert_accepted(stack, stranger)
    told = await stack.event(tenant.id, "signing_key_revoked")
    assert told["data"]["kid"] == kid
    listed = await stack.call("GET", f"/api/admin/clients/{tenant.id}/signing-keys", stack.admin)
    assert [key["status"] for key in listed.json()["items"]] == ["active", "next"]


async def test_signing_key_when_rotated_then_no_token_is_refused(stack: Stack, shop: Tenant) -> None:
    """Rollover without a miss, at the gateways and over gRPC, for old and new tokens."""
    before = await stack.sign_up(shop)
    await assert_accepted(stack, before)
    path = f"/api/admin/clients/{shop.id}/rotate-signing-key"
    rotated = await stack.call("POST", path, stack.admin, params={"force": "true"})
    assert rotated.status_code == 200, rotated.text
    after = await stack.log_in(before)
    assert part(after.access_token, 0)["kid"] != part(before.access_token, 0)["kid"]
    for user in (before, after):
        for gateway in (0, 1):
            assert (await stack.call("GET", "/api/auth/me", user, gateway=gateway)).status_code == 200
            assert (await stack.validate(user.access_token, shop.api_key, gateway=gateway)).valid


async def test_secret_when_rotated_then_earlier_tokens_fail_at_rest_and_grpc(stack: Stack) -> None:
    """O-27."""
    tenant = await stack.tenant(token_mode="v1_hs256")
    user = await stack.sign_up(tenant)
    await assert_accepted(stack, user)
    answer = await stack.call("POST", f"/api/admin/clients/{tenant.id}/rotate-secret", stack.admin)
    assert answer.status_code == 200

    async def is_refused() -> bool:
        answers = [await stack.call("GET", "/api/auth/me", user, gateway=gateway) for gateway in (0, 1)]
        verdicts = [await stack.validate(user.access_token, tenant.api_key, gateway=n) for n in (0, 1)]
        return {answer.status_code for answer in answers} == {401} and not any(v.valid for v in verdicts)

    await eventually(is_refused, within=1, what="tokens under the old secret are dead")
    await assert_accepted(stack, await stack.log_in(user))


async def test_page_about_keys_when_its_commands_are_run_then_they_do_what_it_says(stack: Stack) -> None:
    tenant = await stack.tenant()
    await stack.sign_up(tenant)
    page = (REPOSITORY / "docs" / "keys.md").read_text()
    script = "set -euo pipefail\n" + "".join(
        re.findall(r"^```sh\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    )
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        env={
            "PATH": os.environ["PATH"],
            "AUTHSERVICE_URL": stack.base_url,
            "ADMIN_API_KEY": stack.admin.key,
            "CLIENT_ID": tenant.id,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    seen, errors = await asyncio.wait_for(shell.communicate(), 60)
    assert shell.returncode == 0, (seen, errors)
    text = seen.decode()
    for expected in (
        "active ",
        "next ",
        '"signing_key_rotation": "30d"',
        "now signs: ",
        "ES256",
        "revoked active",
    ):
        assert expected in text, text
