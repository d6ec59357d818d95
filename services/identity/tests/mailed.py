"""Mailed links, as the tests of every slice that has some ask for and follow them."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from chassis.context import Access, CallerContext
from tests.harness import Answer, Mail, System, Tenant

PUBLIC = CallerContext(access=Access.PUBLIC, request_id="test-public", ip="203.0.113.9", user_agent="pytest")
VERIFY = "/api/auth/magic-link/verify"


async def ask(system: System, tenant: Tenant, path: str, email: Any, **members: Any) -> Answer:
    """Ask for a mail to an address."""
    body = {"email": email, **members}
    return await system.call("identity", "POST", f"/api/auth/{path}", caller=tenant.caller(), json=body)


async def magic_link(system: System, tenant: Tenant, email: str, *, after: int = 0, **members: Any) -> Mail:
    """Ask for a link to log in by and return the mail; `after` is how many such mails came before."""
    answer = await ask(system, tenant, "magic-link/send", email, **members)
    assert answer.status == 202, answer.body
    return (await system.mails(email, "magic_link", count=after + 1))[after]


async def reset_link(system: System, tenant: Tenant, email: str, *, after: int = 0) -> Mail:
    """Ask for a link to reset a password and return the mail."""
    answer = await ask(system, tenant, "forgot-password", email)
    assert answer.status == 202, answer.body
    return (await system.mails(email, "reset_password", count=after + 1))[after]


async def follow(
    system: System,
    token: str,
    caller: CallerContext = PUBLIC,
    *,
    method: str = "GET",
    query: str = "&token_transport=json",
    **options: Any,
) -> Answer:
    """Follow a link to log in by."""
    path = f"{VERIFY}?token={quote(token)}{query}"
    return await system.call("identity", method, path, caller=caller, **options)


async def reset(
    system: System, token: Any, password: Any = "another long password 7", caller: CallerContext = PUBLIC
) -> Answer:
    """Choose another password by a token."""
    body = {"token": token, "password": password}
    return await system.call("identity", "POST", "/api/auth/reset-password", caller=caller, json=body)


async def verify(system: System, token: Any, caller: CallerContext = PUBLIC) -> Answer:
    """Verify an address by a token."""
    return await system.call(
        "identity", "POST", "/api/auth/verify-email", caller=caller, json={"token": token}
    )


async def exchange(system: System, tenant: Tenant, code: str, **members: Any) -> Answer:
    """Exchange the code of a redirect with a key of a client."""
    body = {"code": code, "token_transport": "json", **members}
    return await system.call(
        "token", "POST", "/api/auth/redirect/exchange", caller=tenant.caller(), json=body
    )
