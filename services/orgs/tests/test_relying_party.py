"""Passkey settings that could not work are refused when they are written."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.relying_party import Attestation, RelyingParty, RelyingPartyDefaults
from tests.harness import Answer, System

DEFAULTS = RelyingPartyDefaults("localhost", ("http://localhost:8080",), "Auth Service")


async def create(system: System, **settings: Any) -> Answer:
    """Create a client with these settings."""
    body = {"name": "Relying party", "settings": settings}
    return await system.call("orgs", "POST", "/api/admin/clients", caller=system.admin(), json=body)


async def test_settings_that_contradict_themselves_are_refused_and_good_ones_kept(system: System) -> None:
    refused: list[tuple[str, Any, str]] = [
        ("webauthn_rp_id", "https://example.com", "settings.webauthn_rp_id"),
        ("webauthn_rp_id", "example.com:443", "settings.webauthn_rp_id"),
        ("webauthn_rp_id", "192.0.2.1", "settings.webauthn_rp_id"),
        ("webauthn_rp_id", "com", "settings.webauthn_rp_id"),
        ("webauthn_rp_id", "Example.com", "settings.webauthn_rp_id"),
        ("webauthn_rp_id", 7, "settings.webauthn_rp_id"),
        ("webauthn_rp_origin", "http://example.com", "settings.webauthn_rp_origin.0"),
        ("webauthn_rp_origin", "https://example.com/", "settings.webauthn_rp_origin.0"),
        ("webauthn_rp_origin", "https://user@example.com", "settings.webauthn_rp_origin.0"),
        ("webauthn_rp_origin", "*", "settings.webauthn_rp_origin.0"),
        ("webauthn_rp_origin", [], "settings.webauthn_rp_origin"),
        ("webauthn_display_name", "", "settings.webauthn_display_name"),
        ("webauthn_attestation", "always", "settings.webauthn_attestation"),
        ("webauthn_require_attestation", "yes", "settings.webauthn_require_attestation"),
        (
            "webauthn_allowed_attestation_formats",
            "packed,secret",
            "settings.webauthn_allowed_attestation_formats.1",
        ),
        ("webauthn_attestation_roots", ["no certificate"], "settings.webauthn_attestation_roots.0"),
        ("webauthn_user_verification", "discouraged", "settings.webauthn_user_verification"),
    ]
    for name, value, field in refused:
        answer = await create(system, **{name: value})
        assert answer.status == 422, (name, value)
        assert answer.json["errors"][0]["field"] == field
    mismatch = await create(
        system, webauthn_rp_id="example.com", webauthn_rp_origin="https://evilexample.com"
    )
    assert mismatch.json["errors"][0]["code"] == "webauthn_origin_mismatch"
    empty = await create(system, webauthn_require_attestation=True, webauthn_attestation="none")
    assert empty.json["errors"][0]["code"] == "webauthn_attestation_contradiction"

    good = {
        "webauthn_rp_id": "example.com",
        "webauthn_rp_origin": ["https://app.example.com", "android:apk-key-hash:" + "a" * 43],
        "webauthn_attestation": "direct",
        "webauthn_require_attestation": True,
        "webauthn_allowed_attestation_formats": "packed,tpm",
    }
    kept = await create(system, **good)
    assert kept.status == 201, kept.body
    path = f"/api/admin/clients/{kept.json['client']['id']}"
    other = {"settings": {"webauthn_rp_origin": "https://app.example.org"}}
    assert (await system.call("orgs", "PATCH", path, caller=system.admin(), json=other)).status == 422
    unrelated = {"settings": {"webauthn_rp_origin": None, "brand": "x"}}
    assert (await system.call("orgs", "PATCH", path, caller=system.admin(), json=unrelated)).status == 200


@pytest.mark.parametrize(
    ("settings", "rp_id", "origins"),
    [
        ({}, "localhost", ("http://localhost:8080",)),
        ({"webauthn_rp_id": "example.com"}, "example.com", ("https://example.com",)),
        ({"webauthn_rp_origin": "https://a.example.com"}, "a.example.com", ("https://a.example.com",)),
        ({"webauthn_rp_origin": "http://localhost:3000"}, "localhost", ("http://localhost:3000",)),
        (
            {
                "webauthn_rp_id": "example.com",
                "webauthn_rp_origin": "https://example.com,https://a.example.com",
            },
            "example.com",
            ("https://example.com", "https://a.example.com"),
        ),
    ],
)
def test_what_a_client_leaves_out_follows_from_the_rest(
    settings: dict[str, Any], rp_id: str, origins: tuple[str, ...]
) -> None:
    party = RelyingParty.of(settings, DEFAULTS)

    assert (party.id, party.origins, party.name) == (rp_id, origins, "Auth Service")
    assert party.attestation is Attestation.NONE


def test_required_attestation_is_asked_for() -> None:
    assert RelyingParty.of({"webauthn_require_attestation": True}, DEFAULTS).attestation is Attestation.DIRECT
