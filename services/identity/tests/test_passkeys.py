"""Passkeys as they are meant to be used: registration, the three ways to log in, and the user's list."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from redis.asyncio import Redis

from services.identity.tests.conftest import Person, address, another_identity, log_in, sign_up
from services.identity.tests.pages import (
    ORIGIN,
    begin_login,
    begin_registration,
    finish_login,
    finish_registration,
    fresh,
    log_in_by,
    register,
)
from tests.harness import System
from tests.webauthn_device import EDDSA, ES256, RS256, Device, Forgery, b64

CHROMIUM = UUID("b5397666-4885-aa6b-cebf-e52262a439a2")
REQUIRED = {"adaptive_security": {"mfa": {"mode": "required"}}}


async def joined(system: System, **settings: Any) -> Person:
    """A user of a client with these settings."""
    tenant = await system.tenant(settings=settings)
    email = address()
    answer = await sign_up(system, tenant, email)
    assert answer.status == 201, answer.body
    return Person(system, tenant, email, answer.json)


async def test_begin_of_a_registration_tells_the_browser_all_it_needs(person: Person) -> None:
    device = Device()
    assert (await register(person, device)).status == 201

    begun = await begin_registration(person, authenticator_attachment="cross-platform")

    assert (begun.status, begun.json["expires_in"]) == (200, 300)
    options = begun.json["options"]
    assert options["rp"] == {"id": "localhost", "name": "Auth Service"}
    assert options["user"] == {"id": b64(UUID(person.id).bytes), "name": person.email, "displayName": "Ada"}
    assert [each["alg"] for each in options["pubKeyCredParams"]] == [-8, -7, -257]
    assert options["excludeCredentials"] == [
        {"type": "public-key", "id": b64(device.credential_id), "transports": ["hybrid", "internal"]}
    ]
    assert options["authenticatorSelection"] == {
        "residentKey": "required",
        "requireResidentKey": True,
        "userVerification": "preferred",
        "authenticatorAttachment": "cross-platform",
    }
    assert options["attestation"] == "none"


@pytest.mark.parametrize("algorithm", [ES256, EDDSA, RS256])
async def test_passkey_when_registered_then_logs_its_user_in(
    system: System, person: Person, algorithm: int
) -> None:
    device = Device(algorithm, aaguid=CHROMIUM.bytes, synced=algorithm == EDDSA)

    registered = await register(person, device)

    assert registered.status == 201, registered.body
    passkey = registered.json["passkey"]
    assert passkey == {
        "id": passkey["id"],
        "credential_id": b64(device.credential_id),
        "name": "Chromium Browser",
        "aaguid": str(CHROMIUM),
        "aaguid_name": "Chromium Browser",
        "transports": ["hybrid", "internal"],
        "backup_eligible": device.synced,
        "backed_up": device.synced,
        "user_verified": True,
        "clone_suspected_at": None,
        "created_at": passkey["created_at"],
        "last_used_at": None,
    }
    event = await system.event("passkey_registered", client_id=person.tenant.id)
    assert (event.target_id, event.data["passkey_id"]) == (person.id, passkey["id"])

    opened = await log_in_by(system, person.tenant, device)

    assert opened.status == 200, opened.body
    assert opened.json["user"]["id"] == person.id
    assert opened.json["refresh"]["transport"] == "json"
    succeeded = await system.event("login_succeeded", client_id=person.tenant.id, method="passkey")
    assert succeeded.data["opened_session_id"] == opened.json["session"]["id"]
    session = await system.event(
        "session_opened", client_id=person.tenant.id, user_id=person.id, amr=[_key(device), "user", "mfa"]
    )
    assert session.target_id == opened.json["session"]["id"]
    listed = await system.call("identity", "GET", "/api/auth/passkeys", caller=person.caller())
    assert listed.json["items"] == listed.json["passkeys"]
    assert listed.json["items"][0]["last_used_at"] is not None


def _key(device: Device) -> str:
    return "swk" if device.synced else "hwk"


async def test_passkey_logs_in_by_email_too_and_sends_the_credential_as_the_body(
    system: System, person: Person
) -> None:
    device = Device(counts=False)
    assert (await register(person, device, body={"name": "  My phone "})).json["passkey"][
        "name"
    ] == "My phone"
    mail, *_ = await system.mails(person.email, "passkey_added")
    assert "My phone" in mail.text

    for email in (person.email, f" {person.email.upper()} "):
        begun = await begin_login(system, person.tenant, email=email)
        ids = [each["id"] for each in begun.json["options"]["allowCredentials"]]
        assert b64(device.credential_id) in ids
        shown = device.get(begun.json["options"], origin=ORIGIN, forged=Forgery(no_user_handle=True))
        path = f"/api/auth/passkey/login/finish?session_id={begun.json['session_id']}"
        answer = await system.call("identity", "POST", path, caller=person.tenant.caller(), json=shown)
        assert answer.status == 200, answer.body
        assert answer.json["user"]["id"] == person.id
        assert "auth_refresh=" in answer.headers["set-cookie"]

    assert (await begin_login(system, person.tenant, email="no address")).code == "invalid_email"


async def test_passkey_without_user_verification_is_one_factor_and_never_a_second(system: System) -> None:
    person = await joined(system)
    key, verified = Device(verifies_user=False), Device()
    assert (await register(person, key)).status == 201
    assert (await log_in_by(system, person.tenant, key)).json["user"]["id"] == person.id
    assert (await register(person, verified)).status == 201
    await system.call(
        "orgs",
        "PATCH",
        f"/api/admin/clients/{person.tenant.id}",
        caller=system.admin(),
        json={"settings": REQUIRED},
    )

    challenged = await log_in_by(system, person.tenant, key)

    assert challenged.status == 200
    assert (challenged.json["mfa_required"], challenged.json["factors"]) == (True, ["passkey"])
    assert "access_token" not in challenged.json
    mfa_token = challenged.json["mfa_token"]
    again = await log_in_by(system, person.tenant, key, mfa_token=mfa_token)
    assert (again.status, again.code) == (401, "invalid_passkey")
    completed = await log_in_by(system, person.tenant, verified, mfa_token=mfa_token)
    assert completed.json["user"]["id"] == person.id
    assert (await log_in_by(system, person.tenant, verified)).json["user"]["id"] == person.id


async def test_passkey_as_second_factor_completes_the_login_it_was_begun_for_once(system: System) -> None:
    person = await joined(system)
    device = Device()
    assert (await register(person, device)).status == 201
    await system.sql("identity", "UPDATE users SET mfa_enabled = true WHERE id = $1", UUID(person.id))
    challenged = await log_in(system, person.tenant, person.email)
    assert challenged.json["factors"] == ["totp", "passkey"]
    mfa_token = challenged.json["mfa_token"]

    begun = await begin_login(system, person.tenant, mfa_token=mfa_token)
    assert begun.json["options"]["userVerification"] == "required"
    assert begun.json["options"]["allowCredentials"] == [
        {"type": "public-key", "id": b64(device.credential_id), "transports": ["hybrid", "internal"]}
    ]
    shown = device.get(begun.json["options"], origin=ORIGIN)
    opened = await finish_login(system, person.tenant, begun.json["session_id"], shown)

    assert opened.json["user"]["id"] == person.id
    event = await system.event("login_succeeded", client_id=person.tenant.id, factor="passkey")
    assert event.data["method"] == "password"
    assert (await begin_login(system, person.tenant, mfa_token=mfa_token)).code == "invalid_mfa_token"


async def test_registration_by_an_enrollment_token_answers_the_session_only_of_a_verified_user(
    system: System,
) -> None:
    person = await joined(system)
    tenant = await system.tenant(settings=REQUIRED)
    email = address()
    due = await sign_up(system, tenant, email)
    assert due.json["mfa_enrollment_required"], due.body
    rows = await system.sql("identity", "SELECT id FROM users WHERE client_id = $1", tenant.id)
    new = Person(
        system, tenant, email, {"user": {"id": str(rows[0]["id"])}, "session": {"id": person.session_id}}
    )
    enrolling = new.caller(is_enrolling=True, amr=("pwd",))

    begun = await begin_registration(new, enrolling)
    assert begun.json["options"]["authenticatorSelection"]["userVerification"] == "required"
    refused = await register(new, Device(verifies_user=False), caller=enrolling)
    assert (refused.status, refused.code) == (403, "passkey_refused")
    listed = await system.call("identity", "GET", "/api/auth/passkeys", caller=enrolling)
    assert listed.status == 401

    device = Device()
    answer = await register(new, device, caller=enrolling, body={"token_transport": "json"})

    assert answer.status == 201, answer.body
    assert answer.json["session"]["user"]["id"] == new.id
    assert answer.json["session"]["refresh_token"]
    session = await system.event("session_opened", client_id=tenant.id, amr=["pwd", "hwk", "user", "mfa"])
    assert session.target_id == answer.json["session"]["session"]["id"]
    assert (await log_in_by(system, tenant, device)).json["user"]["id"] == new.id


async def test_registration_and_removal_need_a_login_of_the_last_minutes(
    system: System, person: Person
) -> None:
    kept = (await register(person, Device())).json["passkey"]["id"]
    now = int(system.clock.now().timestamp())

    for caller in (person.caller(), person.caller(auth_time=now - 16 * 60)):
        begun = await begin_registration(person, caller)
        removed = await system.call("identity", "DELETE", f"/api/auth/passkeys/{kept}", caller=caller)
        for answer in (begun, removed):
            assert (answer.status, answer.code) == (403, "step_up_required")

    just_now = {"auth_time": now - 14 * 60}
    by_password = await begin_registration(person, person.caller(**just_now, amr=("pwd",)))
    assert (by_password.status, by_password.code) == (403, "step_up_required")
    assert by_password.json["factors"] == ["passkey"]
    by_passkey = person.caller(**just_now, amr=("hwk", "user", "mfa"))
    assert (await begin_registration(person, by_passkey)).status == 200


async def test_passkeys_are_renamed_and_removed_by_their_owner(system: System, person: Person) -> None:
    first, second = [(await register(person, Device())).json["passkey"]["id"] for _ in range(2)]

    renamed = await system.call(
        "identity", "PATCH", f"/api/auth/passkeys/{first}", caller=person.caller(), json={"name": "Key ring"}
    )
    assert (renamed.status, renamed.json["name"]) == (200, "Key ring")
    assert (await system.event("passkey_renamed", client_id=person.tenant.id)).data == {"passkey_id": first}
    for name in ("", "   ", "x" * 65, "two\nlines"):
        answer = await system.call(
            "identity", "PATCH", f"/api/auth/passkeys/{first}", caller=person.caller(), json={"name": name}
        )
        assert answer.status == 422, name

    by_body = await system.call(
        "identity", "DELETE", "/api/auth/passkeys", caller=fresh(person), json={"id": first}
    )
    by_path = await system.call("identity", "DELETE", f"/api/auth/passkeys/{second}", caller=fresh(person))

    assert (by_body.status, by_path.status) == (204, 204)
    assert (await system.event("passkey_removed", client_id=person.tenant.id)).target_id == person.id
    listed = await system.call("identity", "GET", "/api/auth/passkeys", caller=person.caller())
    assert listed.json == {"items": [], "passkeys": [], "next_cursor": None}


async def test_passkey_ceremonies_need_redis(system: System, person: Person) -> None:
    device = Device()
    assert (await register(person, device)).status == 201
    begun = await begin_login(system, person.tenant)

    async with another_identity(system, redis_url=None):
        for answer in (
            await begin_registration(person),
            await begin_login(system, person.tenant),
            await begin_login(system, person.tenant, email=person.email),
            await finish_login(system, person.tenant, "x", device.get(begun.json["options"], origin=ORIGIN)),
        ):
            assert (answer.status, answer.code) == (503, "feature_unavailable")

    assert (await log_in_by(system, person.tenant, device)).status == 200


async def test_client_settings_name_the_relying_party(system: System) -> None:
    person = await joined(
        system,
        webauthn_rp_id="example.com",
        webauthn_rp_origin=["https://login.example.com", "https://example.com"],
        webauthn_display_name="Shop",
        webauthn_user_verification="required",
    )
    device = Device()

    answer = await register(person, device, origin="https://login.example.com")

    assert answer.status == 201, answer.body
    begun = await begin_login(system, person.tenant)
    assert begun.json["options"]["rpId"] == "example.com"
    assert begun.json["options"]["userVerification"] == "required"
    opened = await log_in_by(system, person.tenant, device, origin="https://example.com")
    assert opened.status == 200, opened.body
    unverified = Forgery(flags=0x01)
    refused = await log_in_by(system, person.tenant, device, origin="https://example.com", forged=unverified)
    assert (refused.status, refused.code) == (401, "invalid_passkey")


async def test_user_has_at_most_twenty_five_passkeys(system: System, person: Person) -> None:
    begun = await begin_registration(person)
    await system.sql(
        "identity",
        """
        INSERT INTO passkeys (id, client_id, user_id, credential_id, public_key, sign_count, name, aaguid,
            transports, attestation_format, backup_eligible, backed_up, created_at)
        SELECT gen_random_uuid(), $1, $2, int4send(n), '', 0, 'key', gen_random_uuid(), '{}', 'none', false,
            false, now()
        FROM generate_series(1, 25) AS n
        """,
        person.tenant.id,
        UUID(person.id),
    )

    made = Device().create(begun.json["options"], origin=ORIGIN)

    assert (await finish_registration(person, made)).code == "too_many_passkeys"
    assert (await begin_registration(person)).code == "too_many_passkeys"


async def test_ceremonies_wait_five_minutes(system: System, person: Person) -> None:
    redis = Redis.from_url(system.servers.redis_url)
    before = {name async for name in redis.scan_iter("auth:passkey_*")}
    await begin_registration(person)
    await begin_login(system, person.tenant, email=person.email)

    made = {name async for name in redis.scan_iter("auth:passkey_*")} - before

    assert len(made) == 2
    assert all([290 < await redis.ttl(name) <= 300 for name in made])
    await redis.aclose()
