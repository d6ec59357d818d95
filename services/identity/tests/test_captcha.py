"""CAPTCHA at sign-up and login, against a verifier that the test rules."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from services.identity.captcha.service import VERIFY_URLS
from services.identity.config import IdentitySettings
from services.identity.passwords.routes import LoginRequest
from services.identity.tests.conftest import (
    PASSWORD,
    Person,
    address,
    another_identity,
    evaluations,
    sign_up,
)
from tests.fake_http import fake_http
from tests.harness import Answer, System, Tenant

REQUIRED: dict[str, Any] = {
    "captcha_provider": "turnstile",
    "captcha_secret": "secret-of-the-verifier",
    "captcha_signup_required": True,
    "captcha_login_required": True,
    "captcha_timeout": timedelta(seconds=0.3),
}


async def log_in(person: Person, token: str | None, password: str = PASSWORD) -> Answer:
    body = {"email": person.email, "password": password, "captcha_token": token, "token_transport": "json"}
    return await person.system.call(
        "identity", "POST", "/api/auth/login", caller=person.tenant.caller(), json=body
    )


async def test_captcha_when_required_then_only_a_solved_one_lets_in(
    system: System, tenant: Tenant, person: Person
) -> None:
    solved = {"success": True, "hostname": "app.example.com"}
    async with fake_http() as fake, another_identity(system, **REQUIRED, captcha_verify_url=fake.url):
        before = evaluations()
        missing = [await log_in(person, None), await sign_up(system, tenant, address())]
        fake.answer = {"success": False, "error-codes": ["invalid-input-response"]}
        failed = [
            await log_in(person, "forged"),
            await sign_up(system, tenant, address(), captcha_token="forged"),
        ]
        assert evaluations() == before, "refused before anything is hashed"
        fake.answer = solved
        entered = await log_in(person, "solved")
        made = await sign_up(system, tenant, address(), captcha_token="solved")
        wrong = await log_in(person, "solved", "wrong password")

    assert [(a.status, a.code) for a in missing] == [(422, "captcha_required")] * 2
    assert [(a.status, a.code) for a in failed] == [(422, "captcha_failed")] * 2
    assert {a.json["errors"][0]["field"] for a in (*missing, *failed)} == {"captcha_token"}
    assert (entered.status, made.status, wrong.status) == (200, 201, 401)
    assert fake.asked[0].form == {
        "secret": "secret-of-the-verifier",
        "response": "forged",
        "remoteip": "203.0.113.7",
    }
    await system.event("signup_refused", client_id=tenant.id, reason="captcha_required")
    await system.event("login_failed", client_id=tenant.id, reason="captcha_failed")


UNUSABLE: list[dict[str, Any]] = [
    {"is_silent": True},
    {"status": 500},
    {"status": 302, "headers": {"location": "/elsewhere"}},
    {"answer": b"<html>"},
    {"answer": []},
    {"answer": {"success": "true"}},
    {"answer": {"success": False, "error-codes": ["invalid-input-secret"]}},
    {"answer": b"x" * 70_000},
]


async def test_captcha_when_the_verifier_gives_no_verdict_then_nobody_is_let_in(
    system: System, person: Person
) -> None:
    for fault in UNUSABLE:
        async with fake_http() as fake, another_identity(system, **REQUIRED, captcha_verify_url=fake.url):
            for name, value in fault.items():
                setattr(fake, name, value)
            answer = await log_in(person, "solved")
            assert (answer.status, answer.code) == (503, "captcha_unavailable"), fault
            assert "retry-after" in answer.headers
            assert all(asked.target == "/" for asked in fake.asked)


VERDICTS: list[tuple[dict[str, Any], int]] = [
    ({"success": True, "hostname": "app.example.com"}, 200),
    ({"success": True, "hostname": "evil.example"}, 422),
    ({"success": True}, 422),
    ({"success": True, "hostname": "app.example.com", "score": 0.9}, 200),
    ({"success": True, "hostname": "app.example.com", "score": 0.1}, 422),
]


async def test_captcha_when_of_another_page_or_of_low_score_then_is_refused_also_where_optional(
    system: System, person: Person
) -> None:
    rules = {
        "captcha_provider": "recaptcha",
        "captcha_secret": "s",
        "captcha_hostnames": ["app.example.com"],
    }
    async with fake_http() as fake, another_identity(system, **rules, captcha_verify_url=fake.url):
        for verdict, status in VERDICTS:
            fake.answer = verdict
            assert (await log_in(person, "token")).status == status, verdict
        asked = len(fake.asked)
        assert (await log_in(person, None)).status == 200, "optional"
        assert len(fake.asked) == asked
    assert (await log_in(person, "token")).status == 200, "not looked at without a provider"


def test_captcha_when_settings_cannot_work_then_are_refused(system: System) -> None:
    for wrong in ({"captcha_login_required": True}, {"captcha_provider": "hcaptcha"}):
        with pytest.raises(ValueError, match="CAPTCHA_"):
            system.settings("identity", **wrong)
    settings = cast("IdentitySettings", system.settings("identity", **REQUIRED))
    assert settings.captcha_provider is not None
    assert VERIFY_URLS[settings.captcha_provider].startswith("https://challenges.cloudflare.com/")
    assert "secret-of" not in repr(settings)
    assert LoginRequest.model_fields["captcha_token"].default is None
