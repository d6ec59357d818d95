"""Risk of logins: every signal, what follows from it, and that nothing outside can stop a login."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from mmdb_writer import MMDBWriter
from netaddr import IPSet
from prometheus_client import REGISTRY

from chassis.geo import Place
from contracts.security_policy import RiskLevel, RiskPolicy, check_policy
from services.identity.logins.policy import Circumstances, Decision, decide
from services.identity.risk.models import Background, PastLogin, ProviderVerdict, Visit
from services.identity.risk.signals import network_of, signals
from services.identity.tests.conftest import PASSWORD, another_identity
from services.identity.tests.second_factors import Protected, new_person, new_protected
from services.identity.tests.test_devices import CHROME, FIREFOX, device_cookie, enter, is_challenged
from tests.fake_http import FakeHttp, fake_http
from tests.harness import Answer, System, Tenant

ADAPTIVE: dict[str, Any] = {
    "mfa": {"mode": "adaptive", "trusted_device_bypass": True},
    "risk": {
        "block_level": "critical",
        "blocked_ip_cidrs": ["192.0.2.66/32"],
        "tor_ip_cidrs": ["192.0.2.128/25"],
        "trusted_ip_cidrs": ["10.0.0.0/8"],
        "high_risk_asns": [64512],
        "trusted_asns": [64513],
    },
}
BERLIN, SYDNEY = "198.51.100.1", "198.51.100.200"


@pytest.fixture(scope="module")
async def adaptive(system: System) -> Tenant:
    """A client whose logins are challenged from medium risk on."""
    return await system.tenant(settings={"adaptive_security": ADAPTIVE})


async def at_home(user: Protected, **changes: Any) -> str:
    """Let a user be known in one browser at the usual address only, and return the device token."""
    forget = "DELETE FROM login_history WHERE user_id = $1"
    await user.person.system.sql("identity", forget, UUID(user.person.id))
    opened = await enter(user.person, **changes)
    assert not is_challenged(opened), "nothing to compare with yet is not risky"
    return device_cookie(opened)


def risk_of(answer: Answer) -> tuple[str, list[str]]:
    """The level and the signals that a challenge shows."""
    return answer.json["risk"]["level"], answer.json["risk"]["signals"]


async def test_adaptive_login_when_usual_then_is_let_in_and_when_new_then_is_challenged(
    system: System, adaptive: Tenant
) -> None:
    user = await new_protected(system, adaptive)
    token = await at_home(user)

    usual = await enter(user.person, token)
    moved = await enter(user.person, device_cookie(usual), ip="198.51.100.7")
    new_browser = await enter(user.person, user_agent=FIREFOX, ip="198.51.100.99")
    both = await enter(user.person, user_agent=FIREFOX, ip="192.0.2.1")
    without_cookie = await enter(user.person)

    assert not is_challenged(usual)
    assert not is_challenged(moved), "a new address alone is low"
    assert is_challenged(new_browser)
    assert risk_of(new_browser) == ("medium", ["new_device"])
    assert risk_of(both) == ("medium", ["new_device", "new_ip"])
    assert not is_challenged(without_cookie), "the same browser at the same network, without its cookie"
    history = await system.sql(
        "identity",
        "SELECT network, risk_level, signals FROM login_history WHERE user_id = $1 ORDER BY at",
        UUID(user.person.id),
    )
    assert [tuple(row) for row in history[-3:]] == [
        ("203.0.113.0/24", "low", []),
        ("198.51.100.0/24", "low", ["new_ip"]),
        ("203.0.113.0/24", "low", []),
    ]
    challenged = await system.event("mfa_challenged", client_id=adaptive.id)
    assert (challenged.data["risk_level"], challenged.data["signals"]) == ("medium", ["new_device"])


async def test_risky_login_when_blocked_or_from_tor_then_by_the_lists_of_the_policy(
    system: System, adaptive: Tenant
) -> None:
    user = await new_protected(system, adaptive)
    token = await at_home(user)

    tor = await enter(user.person, token, ip="192.0.2.200")
    blocked = await enter(user.person, token, ip="192.0.2.66")
    mapped = await enter(user.person, token, ip="::ffff:192.0.2.66")
    wrong = await system.call(
        "identity",
        "POST",
        "/api/auth/login",
        caller=adaptive.caller(ip="192.0.2.66"),
        json={"email": user.person.email, "password": "wrong password"},
    )
    trusted = await enter(user.person, user_agent=FIREFOX, ip="10.9.8.7")
    control = await enter(user.person, token)

    assert risk_of(tor) == ("high", ["tor", "new_ip"])
    detected = await system.event("risk_detected", client_id=adaptive.id, level="high")
    assert detected.target_id == user.person.id
    assert detected.data["decision"] == "challenge"
    assert detected.data["explanation"] == {
        "level": "high",
        "decision": "challenge",
        "signals": [
            {"name": "tor", "level": "high", "detail": "The address is on the client's list of Tor exits."},
            {
                "name": "new_ip",
                "level": "low",
                "detail": "The user has not logged in from this network lately.",
            },
        ],
        "policy": {
            "mode": "adaptive",
            "challenge_level": "medium",
            "block_level": "critical",
            "enrollment_required": False,
            "trusted_device": False,
            "trusted_device_bypass": True,
        },
    }
    assert [(a.status, a.code) for a in (blocked, mapped)] == [(403, "login_blocked")] * 2
    event = await system.event("login_blocked", client_id=adaptive.id)
    assert (event.target_id, event.data["level"]) == (user.person.id, "critical")
    assert (wrong.status, wrong.code) == (401, "invalid_credentials"), "the list tells nothing of accounts"
    assert not is_challenged(trusted), "on the client's own network a new browser is no risk"
    assert not is_challenged(control)


async def test_trusted_device_when_the_risk_is_high_then_skips_nothing(
    system: System, adaptive: Tenant
) -> None:
    user = await new_protected(system, adaptive)
    token = await at_home(user)
    await system.sql(
        "identity",
        """
        UPDATE devices AS d SET trusted_until = now() + interval '9 days', trusted_epoch = u.auth_epoch
        FROM users AS u WHERE u.id = d.user_id AND u.id = $1
        """,
        UUID(user.person.id),
    )
    wrong = [await user.person.log_in("wrong password") for _ in range(3)]
    assert [answer.status for answer in wrong] == [401] * 3

    medium = await enter(user.person, token)
    high = await enter(user.person, device_cookie(medium), ip="192.0.2.200")
    control = await enter(user.person, ip="203.0.113.7", user_agent=FIREFOX)

    assert not is_challenged(medium), "three failures are medium, and the device is trusted"
    assert risk_of(high)[0] == "high"
    assert risk_of(control) == ("medium", ["failed_velocity", "new_device"])


async def test_reused_refresh_token_when_seen_by_the_token_service_then_next_logins_are_high_risk(
    system: System, adaptive: Tenant
) -> None:
    user = await new_protected(system, adaptive)
    token = await at_home(user)
    opened = await user.person.system.call(
        "identity",
        "POST",
        "/api/auth/login",
        caller=adaptive.caller(user_agent=CHROME),
        json={"email": user.person.email, "password": PASSWORD, "token_transport": "json"},
        cookies={"auth_device": token},
    )
    assert not is_challenged(opened)
    stolen = opened.json["refresh_token"]

    async def refresh(refresh_token: str) -> Answer:
        body = {"refresh_token": refresh_token, "token_transport": "json"}
        return await system.call("token", "POST", "/api/auth/refresh", caller=adaptive.caller(), json=body)

    second = await refresh(stolen)
    assert (await refresh(second.json["refresh_token"])).status == 200
    assert (await refresh(stolen)).status == 401
    event = await system.event("refresh_token_reuse_detected", client_id=adaptive.id)
    marked = "SELECT 1 FROM risk_marks WHERE user_id = $1"
    while not await system.sql("identity", marked, UUID(user.person.id)):
        await system.event("refresh_token_reuse_detected", client_id=adaptive.id)

    again = await enter(user.person, device_cookie(opened))

    assert event.data["user_id"] == user.person.id
    assert risk_of(again) == ("high", ["refresh_token_reuse"])
    with system.clock.advanced(timedelta(days=2)):
        assert not is_challenged(await enter(user.person))


async def test_user_without_a_factor_when_risky_then_by_policy_is_let_in_with_a_notice_or_must_enroll(
    system: System, adaptive: Tenant
) -> None:
    """T-10."""
    lax = await new_person(system, adaptive)
    await enter(lax)
    strict_policy = {"mfa": {"mode": "adaptive", "enrollment_required": True}}
    strict = await system.tenant(settings={"adaptive_security": strict_policy})
    signed_up = await new_person_answer(system, strict)

    noticed = await enter(lax, user_agent=FIREFOX, ip="192.0.2.1")

    assert not is_challenged(noticed)
    event = await system.event("risk_detected", client_id=adaptive.id, decision="notify")
    assert (event.target_id, event.data["level"]) == (lax.id, "medium")
    mail = await system.event("mail_queued", client_id=adaptive.id, template="new_sign_in")
    assert mail.data["email_hash"] != ""
    assert signed_up.status == 201
    assert signed_up.json["mfa_enrollment_required"] is True
    assert "access_token" not in signed_up.json


async def new_person_answer(system: System, tenant: Tenant) -> Answer:
    """What the sign-up of a fresh user answers."""
    body = {"email": f"u-{uuid4().hex}@example.com", "password": PASSWORD}
    return await system.call("identity", "POST", "/api/auth/signup", caller=tenant.caller(), json=body)


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two small MaxMind-format files: Berlin and Sydney, and three networks."""
    folder = tmp_path_factory.mktemp("geo")
    places = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-City", float_type="f64")
    for cidr, country, city, latitude, longitude in (
        ("198.51.100.0/25", "DE", "Berlin", 52.52, 13.4),
        ("198.51.100.128/25", "AU", "Sydney", -33.87, 151.21),
    ):
        record = {
            "country": {"iso_code": country},
            "city": {"names": {"en": city}},
            "location": {"latitude": latitude, "longitude": longitude},
        }
        places.insert_network(IPSet([cidr]), record)
    networks = MMDBWriter(ip_version=6, ipv4_compatible=True, database_type="GeoLite2-ASN")
    for cidr, asn in (("192.0.2.0/26", 64512), ("192.0.2.64/26", 64513)):
        networks.insert_network(IPSet([cidr]), {"autonomous_system_number": asn})
    for name, writer in (("places", places), ("networks", networks)):
        writer.to_db_file(str(folder / f"{name}.mmdb"))
    return folder / "places.mmdb", folder / "networks.mmdb"


async def test_travel_and_networks_when_databases_are_configured(
    system: System, adaptive: Tenant, databases: tuple[Path, Path]
) -> None:
    user = await new_protected(system, adaptive)
    silent_token = await at_home(user, ip=BERLIN)
    silent = await enter(user.person, silent_token, ip=SYDNEY)
    assert not is_challenged(silent), "silent without a database"
    async with another_identity(system, geoip_db=databases[0], asn_db=databases[1]):
        token = device_cookie(at_berlin := await enter(user.person, device_cookie(silent), ip=BERLIN))
        caller = adaptive.user_caller(user.person.id, at_berlin.json["session"]["id"])
        devices = await system.call("identity", "GET", "/api/auth/devices", caller=caller)
        travelled = await enter(user.person, token, ip=SYDNEY)
        with system.clock.advanced(timedelta(hours=20)):
            flown = await enter(user.person, token, ip=SYDNEY)
        distrusted = await enter(user.person, device_cookie(flown), ip="192.0.2.1")
        trusted = await enter(user.person, user_agent=FIREFOX, ip="192.0.2.70")

    assert [device["place"] for device in devices.json["items"] if device["current"]] == ["Berlin, DE"]
    assert risk_of(travelled) == ("high", ["impossible_travel"])
    assert not is_challenged(flown), "16,000 km in 20 hours are a flight"
    assert risk_of(distrusted)[1][0] == "high_risk_asn"
    assert not is_challenged(trusted)
    stored = await system.sql(
        "identity",
        "SELECT country FROM login_history WHERE user_id = $1 ORDER BY at",
        UUID(user.person.id),
    )
    assert [row["country"] for row in stored] == [None, None, "DE", None, "AU"]


@pytest.fixture
async def provider() -> AsyncIterator[FakeHttp]:
    """A risk provider that the test rules."""
    async with fake_http() as fake:
        yield fake


def calls(result: str) -> float:
    """How many questions to the provider had a result so far."""
    return REGISTRY.get_sample_value("risk_provider_calls_total", {"result": result}) or 0.0


async def test_provider_when_asked_then_its_word_counts_and_its_failure_never_blocks(
    system: System, adaptive: Tenant, provider: FakeHttp
) -> None:
    user = await new_protected(system, adaptive)
    await at_home(user)
    settings = {
        "risk_provider_url": f"{provider.url}/judge",
        "risk_provider_api_key": "key-of-the-provider",
        "risk_provider_timeout": timedelta(seconds=0.2),
    }
    async with another_identity(system, **settings):
        answers: list[tuple[Any, str, list[str]]] = [
            ({"level": "medium", "signals": ["new_sim"]}, "medium", ["provider"]),
            ({"score": 0.75}, "high", ["provider"]),
            ({"vpn": True, "proxy": False, "bot": True}, "high", ["bot", "vpn"]),
        ]
        for said, level, names in answers:
            provider.answer = said
            assert risk_of(await enter(user.person)) == (level, names)
        provider.answer = {"level": "critical"}
        assert (await enter(user.person)).code == "login_blocked"
        asked = provider.asked[0]
        provider.answer = {"level": "low", "score": "much", "signals": 7, "vpn": "yes"}
        assert not is_challenged(await enter(user.person))

        failed = calls("failed")
        faults = (
            {"status": 302, "headers": {"location": f"{provider.url}/elsewhere"}},
            {"status": 200, "headers": {}, "answer": b"no json"},
        )
        for fault in faults:
            for name, value in fault.items():
                setattr(provider, name, value)
            assert not is_challenged(await enter(user.person))
        provider.is_silent = True
        assert not is_challenged(await enter(user.person)), "late"
        assert calls("failed") == failed + 3
        before, skipped = len(provider.asked), calls("skipped")
        assert not is_challenged(await enter(user.person))
        assert (len(provider.asked), calls("skipped")) == (before, skipped + 1), "it is given a rest"

    assert asked.target == "/judge"
    assert asked.headers["authorization"] == "Bearer key-of-the-provider"
    assert asked.json == {
        "client_id": str(adaptive.id),
        "user_id": user.person.id,
        "email_hash": asked.json["email_hash"],
        "ip": "203.0.113.7",
        "user_agent": CHROME,
        "action": "login.password",
        "signals": asked.json["signals"],
    }
    assert user.person.email not in asked.body.decode()
    assert all(request.target != "/elsewhere" for request in provider.asked)


MEDIUM, HIGH, CRITICAL = RiskLevel.MEDIUM, RiskLevel.HIGH, RiskLevel.CRITICAL
DECISIONS: list[tuple[dict[str, Any], RiskLevel, str, Decision]] = [
    # policy, risk, what the user is and shows, decision
    ({}, RiskLevel.LOW, "", Decision.ALLOW),
    ({}, CRITICAL, "", Decision.NOTIFY),
    ({}, RiskLevel.LOW, "enabled factors", Decision.CHALLENGE),
    ({}, RiskLevel.LOW, "factors", Decision.ALLOW),
    ({}, RiskLevel.LOW, "enabled factors mfa", Decision.ALLOW),
    ({"mfa": {"enrollment_required": True}}, RiskLevel.LOW, "", Decision.ENROLL),
    ({"mfa": {"enrollment_required": True}}, RiskLevel.LOW, "mfa", Decision.ALLOW),
    ({"mfa": {"mode": "off"}}, HIGH, "enabled factors", Decision.NOTIFY),
    ({"mfa": {"mode": "off", "block_risk_level": "high"}}, HIGH, "", Decision.BLOCK),
    ({"mfa": {"mode": "required"}}, RiskLevel.LOW, "", Decision.ENROLL),
    ({"mfa": {"mode": "required"}}, RiskLevel.LOW, "factors", Decision.CHALLENGE),
    ({"mfa": {"mode": "required"}}, RiskLevel.LOW, "factors trusted", Decision.CHALLENGE),
    ({"mfa": {"mode": "required", "trusted_device_bypass": True}}, MEDIUM, "factors trusted", Decision.ALLOW),
    (
        {"mfa": {"mode": "required", "trusted_device_bypass": True}},
        HIGH,
        "factors trusted",
        Decision.CHALLENGE,
    ),
    ({"mfa": {"mode": "required", "trusted_device_bypass": True}}, RiskLevel.LOW, "trusted", Decision.ENROLL),
    ({"mfa": {"mode": "adaptive"}}, RiskLevel.LOW, "enabled factors", Decision.ALLOW),
    ({"mfa": {"mode": "adaptive"}}, MEDIUM, "enabled factors", Decision.CHALLENGE),
    ({"mfa": {"mode": "adaptive"}}, MEDIUM, "enabled", Decision.ENROLL),
    ({"mfa": {"mode": "adaptive"}}, MEDIUM, "", Decision.NOTIFY),
    ({"mfa": {"mode": "adaptive"}}, MEDIUM, "mfa", Decision.NOTIFY),
    ({"mfa": {"mode": "adaptive", "challenge_risk_level": "high"}}, MEDIUM, "factors", Decision.ALLOW),
    ({"mfa": {"mode": "adaptive"}, "risk": {"block_level": "high"}}, HIGH, "mfa", Decision.BLOCK),
]


@pytest.mark.parametrize(("policy", "risk", "given", "decision"), DECISIONS)
def test_decision(policy: dict[str, Any], risk: RiskLevel, given: str, decision: Decision) -> None:
    is_ = given.split()
    circumstances = Circumstances(
        risk=risk,
        is_mfa="mfa" in is_,
        mfa_enabled="enabled" in is_,
        has_factors="factors" in is_,
        is_trusted_device="trusted" in is_,
    )
    assert decide(check_policy(policy), circumstances) is decision


def test_signals_when_first_login_then_none_and_when_many_failures_then_high() -> None:
    now = datetime.now(UTC)
    visit = Visit("203.0.113.7", network_of("203.0.113.7"), CHROME, Place(), None, False, now)
    policy = RiskPolicy(failed_velocity_threshold=2)

    assert signals(policy, Background(), visit, ProviderVerdict()) == ()
    many = signals(policy, Background(failures=10), visit, ProviderVerdict())
    assert [(signal.name, signal.level) for signal in many] == [("failed_velocity", HIGH)]
    past = PastLogin(now, network_of("2001:db8::1"), CHROME, Place())
    v6 = Visit("2001:db8::ffff", network_of("2001:db8::ffff"), CHROME, Place(), None, True, now)
    assert signals(policy, Background((past,)), v6, ProviderVerdict()) == (), "one /64"
    assert network_of("not an address") == ""
    new = signals(policy, Background((past,)), visit, ProviderVerdict())
    assert [(signal.name, signal.level) for signal in new] == [
        ("new_device", MEDIUM),
        ("new_ip", RiskLevel.LOW),
    ]
