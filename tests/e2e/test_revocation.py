"""What is revoked is refused within a second, by everybody who judges tokens in his own way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import jwt
import pytest
from authservice_validator import (
    HmacKey,
    JwksKeys,
    StatusLists,
    TokenRevoked,
    TokenVerifier,
)
from authservice_validator.stream import RevocationStream

from tests.e2e.stack import Login, Stack, Tenant

# A second is a second only while nothing else runs.
pytestmark = pytest.mark.alone

WITHIN_SECONDS = 1.0
"""From the answer that something was revoked to its refusal everywhere."""

Judge = Callable[[str], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class World:
    """A tenant, and those who judge its tokens."""

    stack: Stack
    tenant: Tenant
    secret: str | None
    stream: RevocationStream
    judges: dict[str, Judge]

    async def judgements(self, token: str, names: set[str]) -> dict[str, bool]:
        """Ask them all at once."""
        asked = [name for name in self.judges if name in names]
        answers = await asyncio.gather(*(self.judges[name](token) for name in asked))
        return dict(zip(asked, answers, strict=True))

    async def refused(self, token: str, names: set[str]) -> None:
        """Ask each of them until it refuses: whoever is asked a second from now, or later, must.

        How long an answer takes does not count: that is the machine's load.
        """
        clock = asyncio.get_running_loop().time
        until = clock() + WITHIN_SECONDS

        async def by(name: str) -> None:
            while True:
                began = clock()
                if not await self.judges[name](token):
                    return
                assert began < until, f"{name} accepts it still"
                await asyncio.sleep(0.02)

        await asyncio.gather(*map(by, names))


@contextlib.asynccontextmanager
async def world_of(stack: Stack, token_mode: str) -> AsyncIterator[World]:
    """Make a tenant, and a validator of each kind for it."""
    tenant = await stack.tenant(token_mode=token_mode)
    secret: str | None = None
    issuer = stack.base_url
    keys = JwksKeys(f"{stack.gateways[0]}/.well-known/jwks.json?client_id={tenant.id}")
    source: Any = keys
    if token_mode == "v1_hs256":
        rotated = await stack.call(
            "POST", f"/api/admin/clients/{tenant.id}/rotate-secret", stack.admin, json={}
        )
        secret = rotated.json()["jwt_secret"]
        source = HmacKey(secret)
    lists = StatusLists(keys, issuer=issuer, max_age=timedelta(seconds=0.1))
    uses = {"access", "client_credentials"}
    async with RevocationStream(stack.gateways[1], api_key=tenant.api_key) as stream:
        following = TokenVerifier(source, issuer=issuer, token_uses=uses, revocations=stream)
        listed = TokenVerifier(source, issuer=issuer, token_uses=uses, status_lists=lists)

        def at_gateway(number: int) -> Judge:
            async def judge(token: str) -> bool:
                headers = {**tenant.headers, "authorization": f"Bearer {token}"}
                return (await stack.call("GET", "/api/auth/me", headers=headers, gateway=number)).is_success

            return judge

        def over_grpc(number: int) -> Judge:
            async def judge(token: str) -> bool:
                return (await stack.validate(token, tenant.api_key, gateway=number)).valid

            return judge

        def with_validator(verifier: TokenVerifier) -> Judge:
            async def judge(token: str) -> bool:
                try:
                    return bool(verifier.cached(token) or await verifier.verify(token))
                except TokenRevoked:
                    return False

            return judge

        yield World(
            stack,
            tenant,
            secret,
            stream,
            {
                **{f"gateway {number}": at_gateway(number) for number in (0, 1)},
                **{f"grpc {number}": over_grpc(number) for number in (0, 1)},
                "stream": with_validator(following),
                "status list": with_validator(listed),
            },
        )
        await lists.aclose()
        await keys.aclose()


def claims_of(token: str) -> dict[str, Any]:
    """What a token says, unverified."""
    return dict(jwt.decode(token, options={"verify_signature": False}))


async def log_out(world: World, user: Login) -> None:
    """End the session."""
    body = {"refresh_token": user.refresh_token}
    answer = await world.stack.call("POST", "/api/auth/logout", user.tenant, json=body)
    assert answer.status_code == 204


async def suspend_user(world: World, user: Login) -> None:
    """Suspend the user."""
    path = f"/api/admin/clients/{user.tenant.id}/users/{user.user_id}"
    answer = await world.stack.call("PATCH", path, world.stack.admin, json={"status": "suspended"})
    assert answer.status_code == 200, answer.text


async def revoke_all(world: World, user: Login) -> None:
    """Revoke all tokens of the client."""
    path = f"/api/admin/clients/{user.tenant.id}/revoke-tokens"
    answer = await world.stack.call("POST", path, world.stack.admin)
    assert answer.status_code == 200, answer.text


async def suspend_client(world: World, user: Login) -> None:
    """Suspend the client: its own key opens nothing any more either, so the stream ends."""
    path = f"/api/admin/clients/{user.tenant.id}"
    answer = await world.stack.call("PATCH", path, world.stack.admin, json={"status": "suspended"})
    assert answer.status_code == 200, answer.text


async def destroy_key(world: World, user: Login) -> None:
    """Revoke the key that has signed the token, or replace the secret."""
    kid = jwt.get_unverified_header(user.access_token)["kid"]
    path = f"/api/admin/clients/{user.tenant.id}"
    path += "/rotate-secret" if world.secret else f"/signing-keys/{kid}/revoke"
    answer = await world.stack.call("POST", path, world.stack.admin)
    assert answer.status_code == 200, answer.text


WAYS = {
    "session": log_out,
    "user": suspend_user,
    "all": revoke_all,
    "key": destroy_key,
    "client": suspend_client,
}


@pytest.mark.parametrize("token_mode", ["v3_es256", "v1_hs256"])
async def test_token_when_anything_of_it_is_revoked_then_refused_everywhere_within_a_second(
    stack: Stack, token_mode: str
) -> None:
    async with world_of(stack, token_mode) as world:
        for way, revoke in WAYS.items():
            if way == "client" and world.secret:
                continue  # the secret was just replaced, and the validators have the old one
            user, other = await asyncio.gather(*(stack.sign_up(world.tenant) for _ in range(2)))
            # The positive control: each of them accepts both.
            for token in (user.access_token, other.access_token):
                assert all((await world.judgements(token, set(world.judges))).values()), way
            await revoke(world, user)
            await world.refused(user.access_token, set(world.judges))
            if way in ("session", "user"):
                assert all((await world.judgements(other.access_token, set(world.judges))).values()), way
            if way == "all":
                # The session goes on, and the next token is another.
                await asyncio.sleep(1)  # `iat` counts whole seconds
                renewed = (await stack.refresh(world.tenant, user.refresh_token)).json()["access_token"]
                assert all((await world.judgements(renewed, set(world.judges))).values())


async def revoked_by_its_client(world: World, token: str, client_id: str, secret: str) -> None:
    """Have a token revoked by the client that got it (RFC 7009)."""
    basic = (client_id, secret)
    answer = await world.stack.http.post(
        f"{world.stack.gateways[0]}/revoke", data={"token": token}, auth=basic
    )
    assert (answer.status_code, answer.content) == (200, b""), answer.text


async def test_token_when_revoked_alone_then_dead_itself_and_neither_its_session_nor_a_namesake(
    stack: Stack,
) -> None:
    """O-26: the tenant signs what it likes, here the `jti` of another's token, and revokes that."""
    async with world_of(stack, "v1_hs256") as world, world_of(stack, "v3_es256") as others:
        assert world.secret is not None
        user, victim = await stack.sign_up(world.tenant), await stack.sign_up(others.tenant)
        claims = {**claims_of(user.access_token), "azp": world.tenant.id}
        claims["jti"] = claims_of(victim.access_token)["jti"]
        header = {"typ": "at+jwt", "kid": jwt.get_unverified_header(user.access_token)["kid"]}
        token = jwt.encode(claims, world.secret, algorithm="HS256", headers=header)
        everybody = set(world.judges)
        for good, by in ((token, world), (user.access_token, world), (victim.access_token, others)):
            assert all((await by.judgements(good, everybody)).values())
        # Another client's credentials revoke nothing, and hear the same.
        await revoked_by_its_client(others, token, others.tenant.id, others.tenant.api_key)
        assert all((await world.judgements(token, everybody)).values())
        await revoked_by_its_client(world, token, world.tenant.id, world.tenant.api_key)
        await world.refused(token, everybody)
        # The session lives on; a list has one bit for its tokens, and its next token another.
        judged = await world.judgements(user.access_token, everybody)
        assert judged == {name: name != "status list" for name in world.judges}
        renewed = (await stack.refresh(world.tenant, user.refresh_token)).json()["access_token"]
        assert all((await world.judgements(renewed, everybody)).values())
        assert all((await others.judgements(victim.access_token, everybody)).values())


async def test_machine_when_its_token_secret_or_account_is_revoked_then_refused_within_a_second(
    stack: Stack,
) -> None:
    """O-23. Gateways take no machine's token, and no list has a bit for it."""
    async with world_of(stack, "v3_es256") as world:
        judges = {"grpc 0", "grpc 1", "stream"}
        accounts = f"/api/admin/clients/{world.tenant.id}/service-accounts"
        for way in ("token", "secret", "account"):
            made = (await stack.call("POST", accounts, stack.admin, json={"name": "Worker"})).json()
            account, secret = made["service_account"]["id"], made["client_secret"]
            form = {"grant_type": "client_credentials"}
            url = f"{stack.gateways[0]}/oauth/token"
            token = (await stack.http.post(url, data=form, auth=(account, secret))).json()["access_token"]
            assert "status" not in claims_of(token)
            assert all((await world.judgements(token, judges)).values())
            if way == "token":
                await revoked_by_its_client(world, token, account, secret)
            elif way == "secret":
                listed = (await stack.call("GET", f"{accounts}/{account}/keys", stack.admin)).json()
                path = f"{accounts}/{account}/keys/{listed['items'][0]['id']}"
                assert (await stack.call("DELETE", path, stack.admin)).status_code == 204
            else:
                path = f"{accounts}/{account}"
                off = await stack.call("PATCH", path, stack.admin, json={"status": "disabled"})
                assert off.status_code == 200, off.text
            await world.refused(token, judges)
            again = await stack.http.post(url, data=form, auth=(account, secret))
            assert again.status_code == (200 if way == "token" else 401), again.text
            if way == "token":
                introspected = await stack.http.post(
                    f"{stack.gateways[1]}/introspect", data={"token": token}, auth=(account, secret)
                )
                assert introspected.json() == {"active": False}
