"""New passwords: predictable ones, leaked ones, and what a client asks for beyond the installation."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from services.identity.passwords.predictability import LEAST_SURPRISES, surprises
from services.identity.tests.conftest import PASSWORD, address, another_identity, sign_up
from tests.fake_http import FakeHttp, fake_http
from tests.harness import Answer, System, Tenant


def faults(answer: Answer) -> list[str]:
    """The codes of the rules that a password broke."""
    assert (answer.status, answer.code) == (422, "weak_password")
    return [fault["code"] for fault in answer.json["errors"]]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("aaaaaaaaaaaa", 1),
        ("abcdefgh", 1),
        ("87654321", 1),
        ("qwertzuiop", 1),
        ("poiuytrewq", 1),
        ("abcabcabcabc", 1),
        ("xk4xk4xk4xk4", 3),
        ("abcd1234", 2),
        ("aaaabbbb1111", 3),
        ("qwerty12345", 2),
        ("zxcvbnm,./", 4),
        ("stun4gun", 6),
        ("correct horse battery staple", 28),
    ],
)
def test_surprises(text: str, count: int) -> None:
    assert surprises(text) == count


async def test_predictable_password_is_refused_and_an_unpredictable_one_is_not(
    system: System, shared_tenant: Tenant
) -> None:
    for weak in (
        "abcd1234efgh5678",
        "QwertyuiopAsdfghjkl",
        "Zebra1" * 1 + "zebra1" * 3,
        "11112222333344445555",
    ):
        expected = surprises(weak.casefold()) < LEAST_SURPRISES
        answer = await sign_up(system, shared_tenant, address(), weak)
        assert ("password_too_predictable" in faults(answer)) if expected else answer.status == 201, weak
    assert (await sign_up(system, shared_tenant, address(), "plum-Tractor-19")).status == 201
    async with another_identity(system, password_block_low_entropy=False):
        assert (await sign_up(system, shared_tenant, address(), "abcd1234efgh5678")).status == 201


async def test_leaked_password_is_refused_and_only_five_digits_of_its_hash_are_told(
    system: System, shared_tenant: Tenant
) -> None:
    digest = hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest().upper()
    others = [f"{number:035X}:3" for number in range(20)]
    async with fake_http() as fake, another_identity(system, password_breach_url=f"{fake.url}/range/"):
        fake.answer = "\r\n".join([*others, f"{digest[5:]}:17"]).encode()
        leaked = await sign_up(system, shared_tenant, address())
        other = await sign_up(system, shared_tenant, address(), "another plum 77 tractor")
        fake.answer = "\r\n".join([*others, f"{digest[5:]}:0"]).encode()
        padding = await sign_up(system, shared_tenant, address())

    assert faults(leaked) == ["password_breached"]
    assert (other.status, padding.status) == (201, 201)
    assert fake.asked[0].target == f"/range/{digest[:5]}"
    assert fake.asked[0].headers["add-padding"] == "true"
    assert all(digest[5:] not in str(asked) for asked in fake.asked)


async def test_leaked_passwords_when_they_cannot_be_looked_up_then_nobody_is_refused(
    system: System, shared_tenant: Tenant
) -> None:
    async def answered(fake: FakeHttp, **fault: Any) -> int:
        for name, value in fault.items():
            setattr(fake, name, value)
        return (await sign_up(system, shared_tenant, address())).status

    timeout = timedelta(seconds=0.2)
    async with (
        fake_http() as fake,
        another_identity(system, password_breach_url=fake.url, password_breach_timeout=timeout),
    ):
        assert await answered(fake, status=503) == 201
        assert await answered(fake, status=200, answer=b"\xff" * 600_000) == 201
        assert await answered(fake, is_silent=True) == 201


async def test_client_policy_only_tightens_what_the_installation_asks(system: System) -> None:
    strict = await system.tenant(settings={"password_policy": {"min_length": 20, "min_unique": 12}})
    lax = await system.tenant(settings={"password_policy": {"min_length": 6, "block_common": False}})

    assert faults(await sign_up(system, strict, address(), "plum-Tractor-19")) == ["password_too_short"]
    assert (await sign_up(system, strict, address(), "plum-Tractor-19 over the fence")).status == 201
    assert faults(await sign_up(system, lax, address(), "plum-T9")) == ["password_too_short"]
    assert "password_too_common" in faults(await sign_up(system, lax, address(), "password123"))
    async with fake_http() as fake:
        digest = hashlib.sha1(PASSWORD.encode(), usedforsecurity=False).hexdigest().upper()
        fake.answer = f"{digest[5:]}:1".encode()
        wants = await system.tenant(settings={"password_policy": {"block_breached": True}})
        rules = {"password_breach_url": fake.url, "password_block_breached": False}
        async with another_identity(system, **rules):
            assert faults(await sign_up(system, wants, address())) == ["password_breached"]
            assert (await sign_up(system, lax, address())).status == 201
    path = f"/api/admin/clients/{strict.id}"
    body = {"settings": {"password_policy": {"min_lenght": 20}}}
    refused = await system.call("orgs", "PATCH", path, caller=system.admin(), json=body)
    assert [f["field"] for f in refused.json["errors"]] == ["settings.password_policy.min_lenght"]
