"""Imports: every form of hash opens its account once and is replaced, and no line can harm another."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any

import argon2.low_level
import bcrypt
import pytest

from chassis.ids import new_id
from services.identity.imports.lines import MAX_LINE, lines_of
from services.identity.passwords.foreign import accepts_foreign, read_exported
from services.identity.passwords.hasher import PasswordHasher
from services.identity.passwords.schemes import HashPolicy
from services.identity.tests.conftest import address, another_identity, log_in, sign_up
from tests.harness import Answer, System, Tenant

RIGHT = "user1password"

# github.com/firebase/scrypt, README.
FIREBASE = {
    "signer_key": "jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA==",
    "salt_separator": "Bw==",
    "rounds": 8,
    "mem_cost": 14,
}
FIREBASE_HASH = {
    "algorithm": "firebase_scrypt",
    "hash": "lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ==",
    "salt": "42xEC+ixf3L2lw==",
}


def b64(value: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(value).decode()


def pbkdf2(digest: str, salt: bytes, rounds: int = 1000) -> bytes:
    """What Django and the others compute."""
    return hashlib.pbkdf2_hmac(digest, RIGHT.encode(), salt, rounds)


def ssha(digest: str) -> str:
    """A salted digest as LDAP servers store it."""
    return b64(hashlib.new(digest, RIGHT.encode() + b"salt-of-8").digest() + b"salt-of-8")


def argon2_of(kind: argon2.low_level.Type) -> str:
    """A small hash."""
    return argon2.low_level.hash_secret(RIGHT.encode(), b"0123456789abcdef", 2, 1024, 1, 32, kind).decode()


BCRYPT = bcrypt.hashpw(RIGHT.encode(), bcrypt.gensalt(4)).decode()
EXPORTED: dict[str, Any] = {
    "bcrypt 2b": BCRYPT,
    "bcrypt 2a": BCRYPT.replace("$2b$", "$2a$"),
    "bcrypt 2y": BCRYPT.replace("$2b$", "$2y$"),
    "argon2id": argon2_of(argon2.low_level.Type.ID),
    "argon2i": argon2_of(argon2.low_level.Type.I),
    "django sha256": f"pbkdf2_sha256$1000$seasalt${b64(pbkdf2('sha256', b'seasalt'))}",
    "django sha1": f"pbkdf2_sha1$1000$seasalt${b64(pbkdf2('sha1', b'seasalt'))}",
    "passlib sha512": "$pbkdf2-sha512$1000$c2Vhc2FsdA$"
    + b64(pbkdf2("sha512", b"seasalt")).rstrip("=").replace("+", "."),
    "passlib sha1": "$pbkdf2$1000$c2Vhc2FsdA$"
    + b64(pbkdf2("sha1", b"seasalt")).rstrip("=").replace("+", "."),
    "phc sha256": f"$pbkdf2-sha256$i=1000,l=32$c2Vhc2FsdA${b64(pbkdf2('sha256', b'seasalt')).rstrip('=')}",
    "werkzeug": f"pbkdf2:sha256:1000$seasalt${pbkdf2('sha256', b'seasalt').hex()}",
    "ssha": "{SSHA}" + ssha("sha1"),
    "ssha256": "{SSHA256}" + ssha("sha256"),
    "ssha512": "{SSHA512}" + ssha("sha512"),
    "firebase": FIREBASE_HASH,
}


async def imported(
    system: System, tenant: Tenant, lines: list[Any], **options: Any
) -> tuple[Answer, list[dict[str, Any]]]:
    """Import lines, JSON values or raw bytes; the report, its summary last."""
    body = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path = f"/api/admin/clients/{tenant.id}/users/import"
    answer = await system.call(
        "identity", "POST", path, caller=system.admin(), **{"content": body, **options}
    )
    report = [json.loads(line) for line in answer.body.splitlines()] if answer.status == 200 else []
    return answer, report


async def test_every_form_of_hash_opens_its_account_and_is_replaced_at_the_first_login(
    system: System, tenant: Tenant
) -> None:
    emails = {name: address() for name in EXPORTED}
    lines: list[Any] = [{"firebase_scrypt": FIREBASE}]
    lines += [{"email": emails[name], "password_hash": exported} for name, exported in EXPORTED.items()]

    answer, report = await imported(system, tenant, lines)

    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [(item["line"], item["status"]) for item in report[:-1]] == [
        (number, "created") for number in range(2, len(lines) + 1)
    ]
    assert report[-1] == {"status": "done", "created": len(EXPORTED), "skipped": 0, "errors": 0}
    for name, email in emails.items():
        caller = {"ip": f"198.51.100.{len(name)}"}
        assert (await log_in(system, tenant, email, RIGHT + "x", **caller)).status == 401, name
        first = await log_in(system, tenant, email, RIGHT, **caller)
        assert first.status == 200, name
        stored = await system.sql(
            "identity", "SELECT hash FROM passwords WHERE user_id = $1", first.json["user"]["id"]
        )
        assert stored[0]["hash"].startswith("$2b$10$"), name  # W-14
    assert (await log_in(system, tenant, email, RIGHT)).status == 200
    rehashed = await system.event("password_rehashed", client_id=tenant.id)
    assert rehashed.data == {"scheme": "bcrypt"}
    summed = await system.event("users_imported", client_id=tenant.id)
    assert (summed.actor_type, summed.target_id) == ("admin_key", str(tenant.id))
    assert summed.data == {"created": len(EXPORTED), "skipped": 0, "errors": 0, "is_complete": True}
    created = await system.event("user_created", client_id=tenant.id, method="import")
    assert created.actor_type == "admin_key"


async def test_a_line_is_judged_alone_and_a_known_address_is_left_alone(
    system: System, tenant: Tenant
) -> None:
    known = (await sign_up(system, tenant, "known@example.com", display_name="Known")).json["user"]
    full = {
        "email": "Full@Example.com",
        "email_verified": True,
        "display_name": "Full",
        "role": "editor",
        "status": "suspended",
        "metadata": {"plan": "pro"},
        "locale": "de",
        "phone": "+4915112345678",
        "created_at": "2020-01-02T03:04:05.000000Z",
        # W-10, C-03: never a line's to say.
        "id": known["id"],
        "client_id": str(new_id()),
        "mfa_enabled": True,
    }
    faults: list[tuple[Any, str]] = [
        (b"not json", "line_unreadable"),
        (b"[1]", "line_unreadable"),
        (b"\xff\xfe", "line_unreadable"),
        (b"[" * 30_000, "line_unreadable"),
        (b'{"email": "' + b"x" * MAX_LINE + b'"}', "line_too_long"),
        ({"display_name": "nobody"}, "validation_failed"),
        ({"email": "a@x.example,b@x.example"}, "invalid_email"),
        ({"email": "nul@x.example", "metadata": {"a": "\x00"}}, "validation_failed"),
        ({"email": "role@x.example", "role": "Owner"}, "validation_failed"),
        ({"email": "time@x.example", "created_at": "0001-01-01T00:00:00Z"}, "validation_failed"),
        (
            {"email": "hash@x.example", "password_hash": "5f4dcc3b5aa765d61d8327deb882cf99"},
            "hash_not_supported",
        ),
        ({"email": "hash@x.example", "password_hash": "plaintext"}, "hash_not_supported"),
        ({"email": "fire@x.example", "password_hash": FIREBASE_HASH}, "hash_not_supported"),
        ({"firebase_scrypt": {"signer_key": "x", "rounds": 1000}}, "validation_failed"),
    ]
    lines = [
        b"\xef\xbb\xbf" + json.dumps(full).encode(),
        b"",
        *(line for line, _ in faults),
        {"email": " KNOWN@example.com", "display_name": "Evil", "password_hash": BCRYPT},
        {"email": "twice@example.com", "display_name": "First"},
        {"email": "Twice@example.com", "display_name": "Second"},
    ]

    _, report = await imported(system, tenant, lines)

    assert [(item["status"], item.get("code")) for item in report] == [
        ("created", None),
        *(("error", code) for _, code in faults),
        ("skipped", "email_taken"),
        ("created", None),
        ("skipped", "email_taken"),
        ("done", None),
    ]
    assert [item["line"] for item in report[:-1]] == [1, *range(3, len(lines) + 1)]
    assert report[-4]["user_id"] == known["id"]
    assert report[-3]["user_id"] == report[-2]["user_id"]
    users = f"/api/admin/clients/{tenant.id}/users"
    made = await system.call("identity", "GET", f"{users}/{report[0]['user_id']}", caller=system.admin())
    shown = {name: made.json[name] for name in full if name not in ("id", "client_id", "mfa_enabled")}
    assert shown == {name: full[name] for name in shown}
    assert (made.json["mfa_enabled"], made.json["has_password"]) == (False, False)
    assert made.json["id"] != known["id"]
    assert made.json["client_id"] == str(tenant.id)
    same = await system.call("identity", "GET", f"{users}/{known['id']}", caller=system.admin())
    assert same.json["display_name"] == "Known"
    assert (await log_in(system, tenant, "known@example.com", RIGHT)).status == 401
    # Nobody without a password logs in by an empty or a decoy one.
    assert (await log_in(system, tenant, "twice@example.com", "x")).status == 401
    # The same again creates nobody.
    _, again = await imported(system, tenant, lines)
    assert again[-1] == {"status": "done", "created": 0, "skipped": 4, "errors": len(faults)}
    # A stranger's client, and callers who are no admins.
    path = f"/api/admin/clients/{new_id()}/users/import"
    refused = await system.call("identity", "POST", path, caller=system.admin(), content=b"{}")
    assert (refused.status, refused.code) == (404, "client_not_found")
    refused = await system.call("identity", "POST", path, caller=tenant.caller(), content=b"{}")
    assert refused.status == 403


@pytest.mark.parametrize(
    "absurd",
    [
        BCRYPT.replace("$04$", "$15$"),
        BCRYPT.replace("$04$", "$31$"),
        "$argon2id$v=19$m=4194304,t=3,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + "A" * 43,
        "$argon2i$v=19$m=1024,t=999,p=1$MDEyMzQ1Njc4OWFiY2RlZg$" + "A" * 43,
        f"pbkdf2_sha256$99999999$salt${b64(bytes(32))}",
        # Two blocks cost all rounds twice.
        f"$pbkdf2-sha256$i=1500000$c2FsdA${b64(bytes(64)).rstrip('=')}",
        "pbkdf2:sha256:1000$salt$" + "a" * 41,
        "$firescrypt$ln=20,r=16,p=1$AAAA$" + "A" * 86 + "$$" + "A" * 86,
        "{SSHA}" + b64(bytes(20)),
        "{SSHA}" + "A" * 29,
        "$2x$10$" + "A" * 53,
        "{MD5}X03MO1qnZdYdgyfeuILPmQ==",
    ],
    ids=lambda absurd: absurd[:7],
)
def test_a_hash_that_could_stop_the_service_or_proves_nothing_is_refused(absurd: str) -> None:
    policy = HashPolicy("bcrypt", 12)
    with_error = False
    try:
        accepted = policy.accepts_import(read_exported(absurd))
    except ValueError:
        with_error, accepted = True, False
    assert with_error or not accepted
    assert not accepts_foreign(absurd)


async def test_no_password_over_72_bytes_opens_an_imported_account() -> None:
    """W-01."""
    stored = bcrypt.hashpw(b"p" * 72, bcrypt.gensalt(4)).decode()
    hasher = PasswordHasher(HashPolicy("bcrypt", 10), workers=1, queue=8, niceness=0)
    await hasher.start()
    try:
        assert await hasher.verify(stored, "p" * 72)
        assert not await hasher.verify(stored, "p" * 72 + "a")
        long = hashlib.pbkdf2_hmac("sha256", b"p" * 80, b"salt", 1)
        assert not await hasher.verify(f"$pbkdf2-sha256$i=1$c2FsdA${b64(long).rstrip('=')}", "p" * 80)
    finally:
        await hasher.stop()


async def test_two_imports_of_the_same_users_at_once_create_each_once(system: System, tenant: Tenant) -> None:
    lines = [{"email": f"same-{number}@example.com"} for number in range(250)]

    (_, one), (_, other) = await asyncio.gather(
        imported(system, tenant, lines), imported(system, tenant, lines[::-1])
    )

    created = [item["user_id"] for item in (*one[:-1], *other[:-1]) if item["status"] == "created"]
    assert len(created) == len(set(created)) == 250
    assert one[-1]["created"] + other[-1]["created"] == one[-1]["skipped"] + other[-1]["skipped"] == 250
    rows = await system.sql("identity", "SELECT count(*) FROM users WHERE client_id = $1", tenant.id)
    assert rows[0]["count"] == 250


async def test_an_import_that_breaks_off_says_where_and_goes_on_when_repeated(
    system: System, tenant: Tenant
) -> None:
    lines = [{"email": f"cut-{number}@example.com"} for number in range(150)]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)

    async def endless() -> AsyncIterator[bytes]:
        yield body
        while True:
            yield b" " * 1024 * 1024

    answer, report = await imported(system, tenant, [], content=endless())

    assert answer.status == 200
    assert report[-1] == {
        "status": "aborted",
        "created": 150,
        "skipped": 0,
        "errors": 0,
        "code": "body_too_large",
    }
    event = await system.event("users_imported", client_id=tenant.id)
    assert event.data["is_complete"] is False
    _, again = await imported(system, tenant, lines)
    assert again[-1] == {"status": "done", "created": 0, "skipped": 150, "errors": 0}
    declared = {"headers": {"content-length": str(51 * 1024 * 1024)}}
    refused, _ = await imported(system, tenant, [], **declared)
    assert (refused.status, refused.code) == (413, "body_too_large")


async def test_lines_are_the_same_however_the_body_is_cut() -> None:
    text = b"one\n\n" + b"x" * (MAX_LINE + 1) + b"\ntwo\r\nlast"
    expected = [(1, b"one"), (2, b""), (3, None), (4, b"two\r"), (5, b"last")]
    for size in (1, 7, 1000, len(text)):

        async def parts(size: int = size) -> AsyncIterator[bytes]:
            for start in range(0, len(text), size):
                yield text[start : start + size]

        assert [line async for line in lines_of(parts())] == expected


async def test_hashes_of_another_scheme_make_every_miss_cost_both_from_the_import_on(
    system: System, tenant: Tenant
) -> None:
    async with another_identity(system, password_hash="argon2id"):
        await imported(system, tenant, [{"email": address(), "password_hash": BCRYPT}])
        email = address()
        await imported(system, tenant, [{"email": email, "password_hash": EXPORTED["ssha"]}])
        first = await log_in(system, tenant, email, RIGHT)
        assert first.status == 200
    stored = await system.sql(
        "identity", "SELECT hash FROM passwords WHERE user_id = $1", first.json["user"]["id"]
    )
    assert stored[0]["hash"].startswith("$argon2id$")
