"""What a page does with passkeys: begin, let the authenticator answer, finish."""

from __future__ import annotations

import time
from typing import Any
from uuid import UUID

import cbor2

from chassis.context import CallerContext
from services.identity.tests.conftest import Person
from tests.harness import Answer, System, Tenant
from tests.webauthn_device import HONEST, Device, Forgery, Json

ORIGIN = "http://localhost:8080"


def fresh(person: Person, **changes: Any) -> CallerContext:
    """The user, who has logged in just now, with a passkey unless told otherwise."""
    return person.caller(**{"auth_time": int(time.time()), "amr": ("hwk", "user", "mfa"), **changes})


async def begin_registration(person: Person, caller: CallerContext | None = None, **body: Any) -> Answer:
    """Call register/begin."""
    return await person.system.call(
        "identity", "POST", "/api/auth/passkey/register/begin", caller=caller or fresh(person), json=body
    )


async def finish_registration(
    person: Person,
    credential: Json,
    caller: CallerContext | None = None,
    *,
    session_id: str = "",
    **body: Any,
) -> Answer:
    """Call register/finish."""
    path = "/api/auth/passkey/register/finish" + (f"?session_id={session_id}" if session_id else "")
    return await person.system.call(
        "identity", "POST", path, caller=caller or fresh(person), json={"credential": credential, **body}
    )


async def register(
    person: Person,
    device: Device,
    *,
    caller: CallerContext | None = None,
    origin: str = ORIGIN,
    forged: Forgery = HONEST,
    body: Json | None = None,
    **how: Any,
) -> Answer:
    """Register a device's credential for a user; `how` is of the device."""
    begun = await begin_registration(person, caller)
    assert begun.status == 200, begun.body
    made = device.create(begun.json["options"], origin=origin, forged=forged, **how)
    return await finish_registration(
        person, made, caller, session_id=begun.json["session_id"], **(body or {})
    )


async def begin_login(system: System, tenant: Tenant, **body: Any) -> Answer:
    """Call login/begin."""
    return await system.call(
        "identity", "POST", "/api/auth/passkey/login/begin", caller=tenant.caller(), json=body or None
    )


async def finish_login(
    system: System, tenant: Tenant, session_id: str, credential: Json, **body: Any
) -> Answer:
    """Call login/finish with the JSON transport."""
    path = f"/api/auth/passkey/login/finish?session_id={session_id}&token_transport=json"
    return await system.call(
        "identity", "POST", path, caller=tenant.caller(), json={"credential": credential, **body}
    )


async def log_in_by(
    system: System,
    tenant: Tenant,
    device: Device,
    *,
    origin: str = ORIGIN,
    forged: Forgery = HONEST,
    **body: Any,
) -> Answer:
    """Log in by a device; `body` is of login/begin."""
    begun = await begin_login(system, tenant, **body)
    assert begun.status == 200, begun.body
    shown = device.get(begun.json["options"], origin=origin, forged=forged)
    return await finish_login(system, tenant, begun.json["session_id"], shown)


async def plant(person: Person, device: Device) -> None:
    """Give a user the passkey of a device without a ceremony: as a user has one from before a rule."""
    device.user_handle = UUID(person.id).bytes
    await person.system.sql(
        "identity",
        """
        INSERT INTO passkeys (id, client_id, user_id, credential_id, public_key, sign_count, name, aaguid,
            transports, attestation_format, backup_eligible, backed_up, user_verified, created_at)
        VALUES (gen_random_uuid(), $1, $2, $3, $4, 0, 'planted', gen_random_uuid(), '{}', 'none', $5, $5, $6,
            now())
        """,
        person.tenant.id,
        UUID(person.id),
        device.credential_id,
        cbor2.dumps(device.cose_key()),
        device.synced,
        device.verifies_user,
    )
