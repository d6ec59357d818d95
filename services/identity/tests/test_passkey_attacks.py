"""Forged ceremonies (attacks P-01 to P-13, W-04, X-08), each beside the honest one that is accepted."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import cbor2
import pytest
from redis.asyncio import Redis

from services.identity.tests.conftest import Person, address, sign_up
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
from services.identity.tests.second_factors import MFA_REQUIRED
from tests.harness import Answer, System, Tenant
from tests.webauthn_device import (
    BE,
    EDDSA,
    HONEST,
    RS256,
    UP,
    UV,
    Bytes,
    Device,
    Forgery,
    Json,
    Maker,
    b64,
    unb64,
)

AAGUID = bytes(range(16))
FOREIGN_ORIGINS = [
    "https://evil.example",
    "http://localhost:8080.evil.example",
    "http://evil.localhost:8080",
    "http://xn--lcalhost-8ra:8080",
    "http://localhost",
    "https://localhost:8080",
    "HTTP://LOCALHOST:8080",
    "http://localhost:8080/",
    "null",
    "",
]


def respelled(text: str) -> str:
    """The same bytes in base64url of which the unused bits are set."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = text[:-1] + alphabet[alphabet.index(text[-1]) ^ 1]
    assert unb64(other) == unb64(text)
    return other


def flipped(value: bytes) -> bytes:
    """The last bit changed."""
    return value[:-1] + bytes([value[-1] ^ 1])


def always(value: bytes) -> Bytes:
    """Whatever was there, this instead."""
    return lambda _: value


async def another(system: System, tenant: Tenant) -> Person:
    """One more user of a tenant."""
    email = address()
    answer = await sign_up(system, tenant, email)
    return Person(system, tenant, email, answer.json)


FORGED_IN_BOTH = {
    **{f"origin {origin}": (origin, HONEST) for origin in FOREIGN_ORIGINS},
    "origin is no text": (ORIGIN, Forgery(client_data={"origin": [ORIGIN]})),
    "rp id": (ORIGIN, Forgery(rp_id="evil.example")),
    "rp id above": (ORIGIN, Forgery(rp_id="host")),
    "nobody present": (ORIGIN, Forgery(flags=UV)),
    "in a foreign frame": (ORIGIN, Forgery(client_data={"crossOrigin": True})),
    "in a frame, said as text": (ORIGIN, Forgery(client_data={"crossOrigin": "false"})),
    "top origin": (ORIGIN, Forgery(client_data={"topOrigin": "https://evil.example"})),
    "signature": (ORIGIN, Forgery(signature=flipped)),
    "backed up yet not eligible": (ORIGIN, Forgery(flags=UP | UV | 0x10)),
}


async def test_login_when_any_part_is_forged_then_is_refused(system: System, person: Person) -> None:
    """P-01, P-02, P-06, P-08, and the signature."""
    device = Device()
    assert (await register(person, device)).status == 201
    forged = {
        **FORGED_IN_BOTH,
        "type": (ORIGIN, Forgery(type="webauthn.create")),
        "what was signed": (ORIGIN, Forgery(signed_auth_data=flipped)),
        "no signature": (ORIGIN, Forgery(signature=lambda _: b"")),
        "user handle of nobody": (ORIGIN, Forgery(user_handle=bytes(16))),
        "no user handle": (ORIGIN, Forgery(no_user_handle=True)),
        "unknown credential": (ORIGIN, Forgery(credential_id=bytes(32))),
        "backup eligibility": (ORIGIN, Forgery(flags=UP | UV | BE)),
    }
    for name, (origin, forgery) in forged.items():
        answer = await log_in_by(system, person.tenant, device, origin=origin, forged=forgery)
        assert (answer.status, answer.code) == (401, "invalid_passkey"), name
    rows = await system.sql("identity", "SELECT sign_count FROM passkeys WHERE user_id = $1", UUID(person.id))
    assert rows[0]["sign_count"] == 0
    assert (await log_in_by(system, person.tenant, device)).status == 200
    failed = await system.event("login_failed", client_id=person.tenant.id, reason="not_verified")
    assert (failed.target_id, failed.data["method"]) == (person.id, "passkey")
    await system.event("login_failed", client_id=person.tenant.id, reason="unknown_passkey")


async def test_registration_when_any_part_is_forged_then_is_refused(system: System, person: Person) -> None:
    """P-01, P-02, P-06, P-08, P-09."""

    def with_members(**members: Any) -> Callable[[dict[int, Any]], Any]:
        return lambda key: {**key, **{int(name.replace("m", "-")): value for name, value in members.items()}}

    k1 = {1: 2, 3: -47, -1: 8, -2: bytes(31) + b"\1", -3: bytes(31) + b"\1"}
    p384 = {1: 2, 3: -35, -1: 2, -2: bytes(48), -3: bytes(48)}
    rsa_1024 = {1: 3, 3: -257, -1: b"\xff" * 128, -2: b"\1\0\1"}
    forged = {
        **{name: (*case, "self") for name, case in FORGED_IN_BOTH.items()},
        "type": (ORIGIN, Forgery(type="webauthn.get"), "none"),
        "RS1": (
            ORIGIN,
            Forgery(cose_key=lambda _: {1: 3, 3: -65535, -1: b"\xff" * 256, -2: b"\1\0\1"}),
            "none",
        ),
        "ES256K": (ORIGIN, Forgery(cose_key=lambda _: k1), "none"),
        "ES384": (ORIGIN, Forgery(cose_key=lambda _: p384), "none"),
        "short RSA": (ORIGIN, Forgery(cose_key=lambda _: rsa_1024), "none"),
        "long RSA": (ORIGIN, Forgery(cose_key=lambda _: {**rsa_1024, -1: b"\xff" * 2048}), "none"),
        "RSA to the power of 3": (
            ORIGIN,
            Forgery(cose_key=lambda _: {**rsa_1024, -1: b"\xff" * 256, -2: b"\3"}),
            "none",
        ),
        "point zero": (ORIGIN, Forgery(cose_key=with_members(m2=bytes(32), m3=bytes(32))), "none"),
        "point beside the curve": (ORIGIN, Forgery(cose_key=with_members(m2=b"\1" * 32)), "none"),
        "short coordinate": (ORIGIN, Forgery(cose_key=with_members(m3=b"\1" * 31)), "none"),
        "one member more": (ORIGIN, Forgery(cose_key=lambda key: {**key, 4: [2]}), "none"),
        "private key inside": (ORIGIN, Forgery(cose_key=lambda key: {**key, -4: bytes(32)}), "none"),
        "algorithm as a fraction": (ORIGIN, Forgery(cose_key=lambda key: {**key, 3: -7.0}), "none"),
        "curve as a truth": (ORIGIN, Forgery(cose_key=lambda key: {**key, -1: True}), "none"),
        "credential id too long": (ORIGIN, Forgery(credential_id=bytes(1024)), "none"),
        "credential id too short": (ORIGIN, Forgery(credential_id=bytes(15)), "none"),
    }
    for name, (origin, forgery, attestation) in forged.items():
        answer = await register(person, Device(), origin=origin, forged=forgery, attestation=attestation)
        assert (answer.status, answer.code) == (403, "passkey_refused"), (name, answer.body)
    listed = await system.call("identity", "GET", "/api/auth/passkeys", caller=person.caller())
    assert listed.json["items"] == []
    event = await system.event("passkey_registration_refused", client_id=person.tenant.id)
    assert (event.target_id, event.data["reason"]) == (person.id, "passkey_refused")
    for attestation in ("none", "self"):
        for algorithm in (-7, EDDSA, RS256):
            kept = await register(person, Device(algorithm), attestation=attestation)
            assert kept.status == 201, kept.body
    long_id = Device(credential_id=bytes(1023))
    assert (await register(person, long_id)).status == 201
    assert (await log_in_by(system, person.tenant, long_id)).status == 200


async def test_credential_of_another_is_never_taken_over(system: System, person: Person) -> None:
    """P-04, P-09: at one client it is somebody's; another client does not know it."""
    device = Device()
    assert (await register(person, device)).status == 201
    thief = await another(system, person.tenant)
    stranger = await another(system, await system.tenant())
    for taken_by in (person, thief):
        again = await register(taken_by, Device(credential_id=device.credential_id))
        assert (again.status, again.code) == (409, "passkey_known")

    elsewhere = await log_in_by(system, stranger.tenant, device)
    assert (elsewhere.status, elsewhere.code) == (401, "invalid_passkey")
    begun = await begin_login(system, person.tenant)
    shown = device.get(begun.json["options"], origin=ORIGIN)
    crossed = await finish_login(system, stranger.tenant, begun.json["session_id"], shown)
    assert (crossed.status, crossed.code) == (401, "invalid_passkey_session")
    as_thief = await log_in_by(
        system, person.tenant, device, forged=Forgery(user_handle=UUID(thief.id).bytes)
    )
    assert as_thief.code == "invalid_passkey"
    by_email = await log_in_by(system, person.tenant, device, email=thief.email)
    assert by_email.code == "invalid_passkey"

    assert (await register(stranger, Device(credential_id=device.credential_id))).status == 201
    assert (await log_in_by(system, person.tenant, device)).json["user"]["id"] == person.id


async def test_challenge_is_answered_once_in_its_own_ceremony(system: System, person: Person) -> None:
    """P-03."""
    device = Device()
    assert (await register(person, device)).status == 201
    tenant = person.tenant
    first, second = [(await begin_login(system, tenant)).json for _ in range(2)]

    async def finish(begun: Json, options: Json, forged: Forgery = HONEST) -> Answer:
        shown = device.get(options, origin=ORIGIN, forged=forged)
        return await finish_login(system, tenant, begun["session_id"], shown)

    swapped = await finish(first, second["options"])
    assert swapped.code == "invalid_passkey"
    assert (await finish(first, first["options"])).code == "invalid_passkey_session"
    assert (await finish(second, second["options"])).status == 200
    assert (await finish(second, second["options"])).code == "invalid_passkey_session"
    assert (await finish({"session_id": "x" * 200}, second["options"])).status == 422
    for spell in (respelled, lambda text: text + "=", lambda text: text.upper(), lambda text: text + "\n"):
        begun = (await begin_login(system, tenant)).json
        forged = Forgery(challenge=spell(begun["options"]["challenge"]))
        assert (await finish(begun, begun["options"], forged)).code == "invalid_passkey"
    redis = Redis.from_url(system.servers.redis_url)
    before = {name async for name in redis.scan_iter("auth:passkey_login:*")}
    begun = (await begin_login(system, tenant)).json
    (made,) = {name async for name in redis.scan_iter("auth:passkey_login:*")} - before
    await redis.pexpire(made, 1)
    while await redis.exists(made):
        await asyncio.sleep(0.005)
    await redis.aclose()
    assert (await finish(begun, begun["options"])).code == "invalid_passkey_session"


async def test_registration_is_of_one_user_in_one_session(system: System, person: Person) -> None:
    """P-03, P-05."""
    other = await another(system, person.tenant)
    for caller in (fresh(other), replace(fresh(person), session_id=UUID(other.session_id))):
        begun = (await begin_registration(person)).json
        made = Device().create(begun["options"], origin=ORIGIN)
        for _ in range(2):
            answer = await finish_registration(person, made, caller, session_id=begun["session_id"])
            assert (answer.status, answer.code) == (400, "passkey_session_unknown")
    first, second = [(await begin_registration(person)).json for _ in range(2)]
    made = Device().create(first["options"], origin=ORIGIN)
    crossed = await finish_registration(person, made, session_id=second["session_id"])
    assert crossed.code == "passkey_session_unknown"
    begun = (await begin_registration(person)).json
    respelt = Forgery(challenge=respelled(begun["options"]["challenge"]))
    made = Device().create(begun["options"], origin=ORIGIN, forged=respelt)
    assert (await finish_registration(person, made)).code == "passkey_session_unknown"
    voided = (await begin_registration(person)).json
    await system.sql(
        "identity", "UPDATE users SET auth_epoch = auth_epoch + 1 WHERE id = $1", UUID(person.id)
    )
    made = Device().create(voided["options"], origin=ORIGIN)
    assert (await finish_registration(person, made)).code == "passkey_session_unknown"
    without_user = await system.call(
        "identity", "POST", "/api/auth/passkey/register/begin", caller=person.tenant.caller()
    )
    assert without_user.status == 403

    begun = (await begin_registration(person)).json
    made = Device().create(begun["options"], origin=ORIGIN)
    assert (await finish_registration(person, made)).status == 201
    assert (await finish_registration(person, made)).code == "passkey_session_unknown"


async def test_counter_that_goes_back_is_refused_and_told(system: System, person: Person) -> None:
    """P-07."""
    device, uncounted = Device(), Device(counts=False)
    for each in (device, uncounted):
        assert (await register(person, each)).status == 201
        for _ in range(2):
            assert (await log_in_by(system, person.tenant, each)).status == 200
    unsigned = Forgery(sign_count=1, signature=flipped)
    assert (await log_in_by(system, person.tenant, device, forged=unsigned)).status == 401
    told = [event for event in system.events if event.type == "passkey_clone_suspected"]
    assert not [event for event in told if event.client_id == person.tenant.id]

    for count in (2, 1, 0):
        answer = await log_in_by(system, person.tenant, device, forged=Forgery(sign_count=count))
        assert (answer.status, answer.code) == (401, "invalid_passkey")

    event = await system.event("passkey_clone_suspected", client_id=person.tenant.id, shown_count=2)
    assert (event.target_id, event.data["stored_count"]) == (person.id, 2)
    listed = await system.call("identity", "GET", "/api/auth/passkeys", caller=person.caller())
    assert [each["clone_suspected_at"] is not None for each in listed.json["items"]] == [True, False]
    assert (await log_in_by(system, person.tenant, device)).status == 200


async def test_suspended_user_is_refused_as_a_wrong_passkey_is(system: System, person: Person) -> None:
    device = Device()
    assert (await register(person, device)).status == 201
    set_status = "UPDATE users SET status = $2 WHERE id = $1"
    await system.sql("identity", set_status, UUID(person.id), "suspended")

    refused = await log_in_by(system, person.tenant, device)
    assert (refused.status, refused.code) == (401, "invalid_passkey")
    assert (await begin_registration(person)).status == 401

    await system.sql("identity", set_status, UUID(person.id), "active")
    assert (await log_in_by(system, person.tenant, device)).status == 200


async def test_attestation_is_what_the_client_demands(system: System) -> None:
    """P-10."""
    maker, foreign = Maker(AAGUID), Maker(AAGUID)
    strict: Json = {
        "webauthn_attestation": "direct",
        "webauthn_require_attestation": True,
        "webauthn_allowed_attestation_formats": "packed",
        "webauthn_attestation_roots": [maker.root_pem],
    }
    person = await another(system, await system.tenant(settings=strict))
    without_roots = await another(
        system, await system.tenant(settings={**strict, "webauthn_attestation_roots": None})
    )
    u2f = await another(system, await system.tenant(settings={"webauthn_require_attestation": True}))
    refused: list[tuple[str, Person, str, Maker, Forgery]] = [
        ("none", person, "none", maker, HONEST),
        ("of itself", person, "self", maker, HONEST),
        ("a format not allowed", person, "fido-u2f", maker, HONEST),
        ("of a foreign root", person, "packed", foreign, HONEST),
        ("signed by another", person, "packed", maker, Forgery(signature=lambda _: foreign.sign(b""))),
        ("another model's", person, "packed", maker, Forgery(aaguid=bytes(16))),
        ("another model's, no roots", without_roots, "packed", maker, Forgery(aaguid=bytes(16))),
        ("of no authenticator", without_roots, "packed", Maker(AAGUID, unit="Sales"), HONEST),
        ("of an authority", without_roots, "packed", Maker(AAGUID, is_ca=True), HONEST),
        ("which tells another model", without_roots, "packed", Maker(AAGUID, told_aaguid=bytes(16)), HONEST),
        ("U2F with a model", u2f, "fido-u2f", maker, Forgery(aaguid=AAGUID)),
        ("U2F signed by another", u2f, "fido-u2f", maker, Forgery(signature=flipped)),
        ("U2F none", u2f, "none", maker, HONEST),
    ]
    for name, user, attestation, by, forgery in refused:
        device = Device(aaguid=bytes(16) if attestation == "fido-u2f" else AAGUID)
        answer = await register(user, device, attestation=attestation, maker=by, forged=forgery)
        assert (answer.status, answer.code) == (403, "passkey_refused"), (name, answer.body)

    begun = await begin_registration(person)
    assert begun.json["options"]["attestation"] == "direct"
    for user, attestation, by in (
        (person, "packed", maker),
        (without_roots, "packed", foreign),
        (u2f, "fido-u2f", maker),
        (u2f, "packed", maker),
    ):
        device = Device(aaguid=bytes(16) if attestation == "fido-u2f" else AAGUID)
        answer = await register(user, device, attestation=attestation, maker=by)
        assert answer.status == 201, answer.body
        assert (await log_in_by(system, user.tenant, device)).status == 200


MALFORMED = {
    "empty": b"",
    "cut off": b"\xa3\x63fmt",
    "four gigabytes": b"\x5b\x00\x00\x00\x01\x00\x00\x00\x00",
    "an array of four billion": b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00\x01",
    "deep": b"\x81" * 9000,
    "never ending": b"\xbf",
    "a text": b"\x63fmt",
    "an empty map": b"\xa0",
    "wrong members": cbor2.dumps({"fmt": 1, "attStmt": [], "authData": "text"}),
    "no statement": cbor2.dumps({"fmt": "packed", "authData": bytes(37)}),
    "short data": cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": bytes(36)}),
    "a reference to itself": b"\xd8\x1c\x81\xd8\x1d\x00",
}


async def test_malformed_answers_are_400_whatever_they_hold(system: System, person: Person) -> None:
    """P-13."""
    device = Device()
    assert (await register(person, device)).status == 201
    for name, value in MALFORMED.items():
        forged = Forgery(attestation_object=always(value))
        answer = await register(person, Device(), forged=forged)
        assert (answer.status, answer.code) == (400, "invalid_passkey_registration"), (name, answer.body)
    changes: dict[str, Bytes] = {
        "trailing": lambda data: data + b"\0",
        "cut off": lambda data: data[:60],
        "key twice": lambda data: data[:-77] + b"\xa2\x01\x02\x01\x02",
        "key is no map": lambda data: data[:-77] + b"\x01",
    }
    for name, change in changes.items():
        answer = await register(person, Device(), forged=Forgery(auth_data=change))
        assert (answer.status, answer.code) == (400, "invalid_passkey_registration"), (name, answer.body)
    for name, data in {
        "empty": b"",
        "short": bytes(36),
        "trailing": bytes(38),
        "credential missing": bytes(32) + b"\x45" + bytes(4),
        "extensions missing": bytes(32) + b"\x85" + bytes(4),
        "deep extensions": bytes(32) + b"\x85" + bytes(4) + b"\x81" * 9000,
    }.items():
        forged = Forgery(auth_data=always(data))
        answer = await log_in_by(system, person.tenant, device, forged=forged)
        assert (answer.status, answer.code) == (400, "invalid_passkey_answer"), (name, answer.body)
    honest = device.get((await begin_login(system, person.tenant)).json["options"], origin=ORIGIN)
    for raw in (
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"null",
        b'{"challenge":1}',
        b"[" * 12000,
        b'{"type":"webauthn.get"}',
    ):
        response = {**honest["response"], "clientDataJSON": b64(raw)}
        answer = await finish_login(system, person.tenant, "x", {**honest, "response": response})
        assert (answer.status, answer.code) == (400, "invalid_passkey_answer"), raw[:20]
    wrong: list[Json] = [
        {"id": "!"},
        {"rawId": b64(bytes(20))},
        {"type": "password"},
        {"response": {}},
        {"response": {**honest["response"], "signature": "a+b="}},
        {"response": {**honest["response"], "userHandle": 7}},
    ]
    for members in wrong:
        answer = await finish_login(system, person.tenant, "x", {**honest, **members})
        assert answer.status == 422, members
    assert (await log_in_by(system, person.tenant, device)).status == 200


async def test_last_factor_stays_where_one_is_demanded(system: System, person: Person) -> None:
    """P-11."""
    ids = [(await register(person, Device())).json["passkey"]["id"] for _ in range(2)]
    unverified = (await register(person, Device(verifies_user=False))).json["passkey"]["id"]
    other = await another(system, person.tenant)

    async def remove(user: Person, passkey_id: str) -> Answer:
        return await system.call("identity", "DELETE", f"/api/auth/passkeys/{passkey_id}", caller=fresh(user))

    foreign = await remove(other, ids[0])
    assert (foreign.status, foreign.code) == (404, "passkey_not_found")
    renamed = await system.call(
        "identity", "PATCH", f"/api/auth/passkeys/{ids[0]}", caller=other.caller(), json={"name": "mine"}
    )
    assert (renamed.status, renamed.code) == (404, "passkey_not_found")
    path = f"/api/admin/clients/{person.tenant.id}"
    await system.call("orgs", "PATCH", path, caller=system.admin(), json={"settings": MFA_REQUIRED})

    answers = await asyncio.gather(*(remove(person, passkey_id) for passkey_id in ids))

    assert sorted(answer.status for answer in answers) == [204, 403]
    refused = next(answer for answer in answers if answer.status == 403)
    assert refused.code == "mfa_required_by_policy"
    assert (await remove(person, unverified)).status == 204
    off = {"settings": {"adaptive_security": None}}
    await system.call("orgs", "PATCH", path, caller=system.admin(), json=off)
    (left,) = [each for each, answer in zip(ids, answers, strict=True) if answer.status == 403]
    assert (await remove(person, left)).status == 204


async def test_enrollment_token_registers_one_factor_and_is_worth_nothing_beside_one(system: System) -> None:
    """An enrollment token is proof of the password only."""
    tenant = await system.tenant(settings=MFA_REQUIRED)
    email = address()
    assert (await sign_up(system, tenant, email)).json["mfa_enrollment_required"]
    rows = await system.sql("identity", "SELECT id FROM users WHERE client_id = $1", tenant.id)
    user_id = str(rows[0]["id"])
    person = Person(system, tenant, email, {"user": {"id": user_id}, "session": {"id": user_id}})
    enrolling = person.caller(is_enrolling=True, amr=("pwd",))
    begun = [(await begin_registration(person, enrolling)).json["options"] for _ in range(5)]
    made = [Device().create(options, origin=ORIGIN) for options in begun]

    answers = await asyncio.gather(*(finish_registration(person, each, enrolling) for each in made))

    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    late = await begin_registration(person, enrolling)
    assert (late.status, late.code) == (409, "mfa_already_enabled")


async def test_begin_by_email_tells_nothing_of_an_account(system: System, person: Person) -> None:
    """P-12, W-04."""
    assert (await register(person, Device())).status == 201
    plain = await another(system, person.tenant)
    known, without, unknown = person.email, plain.email, address()

    async def ids(email: str) -> list[str]:
        options = (await begin_login(system, person.tenant, email=email)).json["options"]
        assert all(set(each) == {"id", "type"} for each in options["allowCredentials"])
        return [each["id"] for each in options["allowCredentials"]]

    for email in (known, without, unknown):
        listed = await ids(email)
        assert len(set(listed)) == 4
        assert await ids(email.upper()) == listed
        assert all(len(unb64(each)) in (16, 20, 32, 48, 64) for each in listed)
    assert not set(await ids(unknown)) & set(await ids(without))
    elsewhere = await begin_login(system, await system.tenant(), email=unknown)
    assert elsewhere.json["options"]["allowCredentials"][0]["id"] not in await ids(unknown)

    answers = [await begin_login(system, person.tenant, email=email) for email in (known, unknown)]
    shapes = [{name: type(value) for name, value in answer.json["options"].items()} for answer in answers]
    assert shapes[0] == shapes[1]
    assert answers[0].headers.keys() == answers[1].headers.keys()

    times: dict[str, list[float]] = {known: [], unknown: []}
    for _ in range(100):
        for email, taken in times.items():
            started = time.perf_counter()
            await begin_login(system, person.tenant, email=email)
            taken.append(time.perf_counter() - started)
    medians = [statistics.median(taken) for taken in times.values()]
    assert abs(medians[0] - medians[1]) < 0.005


async def test_parallel_answers_to_one_challenge_are_accepted_once(system: System, person: Person) -> None:
    """X-08, P-03."""
    device = Device(counts=False)
    begun = (await begin_registration(person)).json
    made = device.create(begun["options"], origin=ORIGIN)
    registered = await asyncio.gather(*(finish_registration(person, made) for _ in range(20)))
    assert sorted(answer.status for answer in registered) == [201] + [400] * 19

    begun = (await begin_login(system, person.tenant)).json
    shown = device.get(begun["options"], origin=ORIGIN)
    session_id = begun["session_id"]
    opened = await asyncio.gather(
        *(finish_login(system, person.tenant, session_id, shown) for _ in range(20))
    )
    assert sorted(answer.status for answer in opened) == [200] + [401] * 19

    counted = Device()
    assert (await register(person, counted)).status == 201
    copies = []
    for _ in range(5):
        begun = (await begin_login(system, person.tenant)).json
        shown = counted.get(begun["options"], origin=ORIGIN, forged=Forgery(sign_count=1))
        copies.append((begun["session_id"], shown))
    one_counter = await asyncio.gather(*(finish_login(system, person.tenant, *copy) for copy in copies))
    assert sorted(answer.status for answer in one_counter) == [200] + [401] * 4


async def test_a_stolen_session_alone_registers_no_passkey(system: System, person: Person) -> None:
    """A session of some age needs the password; a wrong one counts, and is told."""
    old = person.caller(auth_time=int(time.time()) - 3600)

    bare = await begin_registration(person, old)
    wrong = await begin_registration(person, old, password="not the password")
    right = await begin_registration(person, old, password="correct horse battery staple")

    assert (bare.status, bare.code) == (403, "step_up_required")
    assert (wrong.status, wrong.code) == (403, "wrong_password")
    assert right.status == 200


@pytest.mark.parametrize("path", ["passkey/register/begin", "passkey/login/begin"])
async def test_begin_takes_nothing_that_is_no_object(system: System, person: Person, path: str) -> None:
    bodies: list[Any] = [7, "x", []]
    for body in bodies:
        answer = await system.call("identity", "POST", f"/api/auth/{path}", caller=fresh(person), json=body)
        assert answer.status == 422
