"""Sealing, settings, limits, ids, cursors: the small parts with rules of their own."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError
from redis.asyncio import Redis

from chassis.clock import rfc3339
from chassis.events import Event
from chassis.ids import new_id, new_secret
from chassis.paging import Cursors, InvalidCursor
from chassis.ratelimit import Limit, RateLimiter, connect_redis
from chassis.sealing import SealBroken, Sealer, parse_key
from chassis.settings import Duration, Environment, ServiceSettings
from local.servers import Servers

KEY = secrets.token_bytes(32)


class ExampleSettings(ServiceSettings):
    """Settings for these tests."""

    service = "example"
    retry_ttl: Duration = timedelta(seconds=1)


def good(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "database_url": SecretStr(f"postgresql://a:{secrets.token_urlsafe(16)}@localhost/x"),
        "jobs_database_url": SecretStr(f"postgresql://a:{secrets.token_urlsafe(16)}@localhost/x"),
        "nats_url": SecretStr(f"nats://a:{secrets.token_urlsafe(16)}@localhost"),
        "master_key": SecretStr(secrets.token_urlsafe(32)),
        "internal_keys": SecretStr("a>b=" + secrets.token_urlsafe(32)),
    }
    return {**values, **changes}


def test_sealed_value_opens_for_its_row_only_and_with_a_previous_key() -> None:
    sealed = Sealer(KEY).seal(b"secret", "key:1")
    assert Sealer(KEY).open(sealed, "key:1") == b"secret"
    assert Sealer(secrets.token_bytes(32), KEY).open(sealed, "key:1") == b"secret"
    for broken, row in (
        (sealed, "key:2"),
        (sealed[:-1] + b"x", "key:1"),
        (b"\x02" + sealed[1:], "key:1"),
        (b"", "key:1"),
    ):
        with pytest.raises(SealBroken):
            Sealer(KEY).open(broken, row)
    with pytest.raises(SealBroken):
        Sealer(secrets.token_bytes(32)).open(sealed, "key:1")


def test_same_value_sealed_twice_looks_different() -> None:
    assert Sealer(KEY).seal(b"secret", "a") != Sealer(KEY).seal(b"secret", "a")


@pytest.mark.parametrize("text", ["", "short", "zz" * 8, "ab" * 8])
def test_root_key_when_weak_or_malformed_then_refused(text: str) -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        parse_key(text)


def test_service_variable_wins_and_file_stands_for_value(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    secret_file = tmp_path / "master"
    secret_file.write_text(secrets.token_urlsafe(32) + "\n")
    for name, value in {
        "DATABASE_URL": "postgresql://general@localhost/x",
        "EXAMPLE_DATABASE_URL": "postgresql://special@localhost/x",
        "JOBS_DATABASE_URL": "postgresql://jobs@localhost/x",
        "NATS_URL": "nats://localhost",
        "MASTER_KEY_FILE": str(secret_file),
        "INTERNAL_KEYS": "a>b=" + secrets.token_urlsafe(32),
        "RETRY_TTL": "15m",
    }.items():
        monkeypatch.setenv(name, value)
    settings = ExampleSettings.load()
    assert settings.database_url.get_secret_value() == "postgresql://special@localhost/x"
    assert settings.master_key.get_secret_value() == secret_file.read_text().strip()
    assert settings.retry_ttl == timedelta(minutes=15)


def test_load_when_a_value_is_wrong_then_one_line_names_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SystemExit) as stop:
        ExampleSettings.load()
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("PORT was given 'http'") for line in lines)
    assert any(line.startswith("DATABASE_URL is not set") for line in lines)


@pytest.mark.parametrize(
    "secret",
    ["change-me-change-me-change-me-change-me", "short", "a" * 64, "my-secret-key-0123456789abcdefghij"],
)
def test_production_refuses_guessable_secrets(secret: str) -> None:
    with pytest.raises(ValidationError, match="MASTER_KEY"):
        ExampleSettings(**good(master_key=SecretStr(secret), environment=Environment.PRODUCTION))  # type: ignore[arg-type]
    assert ExampleSettings(**good(master_key=SecretStr(secret)))  # type: ignore[arg-type]
    assert ExampleSettings(**good(environment=Environment.PRODUCTION))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a@localhost/x",
        "postgresql://a:a@localhost/x",
        "postgresql://a:change-me-please@localhost/x",
    ],
)
def test_production_refuses_urls_without_a_good_password(url: str) -> None:
    wrong = good(database_url=SecretStr(url), environment=Environment.PRODUCTION)
    with pytest.raises(ValidationError, match="DATABASE_URL"):
        ExampleSettings(**wrong)  # type: ignore[arg-type]
    by_certificate = good(
        database_url=SecretStr("postgresql://a@localhost/x?sslcert=/c.pem"),
        environment=Environment.PRODUCTION,
    )
    assert ExampleSettings(**by_certificate)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("15m", 900), ("168h", 604800), ("7d", 604800), ("90", 90), ("500ms", 0.5), (30, 30)],
)
def test_duration_forms(text: str | int, expected: float) -> None:
    settings = ExampleSettings(**good(retry_ttl=text))  # type: ignore[arg-type]
    assert settings.retry_ttl.total_seconds() == expected


async def test_limit_counts_over_processes_and_falls_back_without_redis(servers: Servers) -> None:
    redis = connect_redis(servers.redis_url)
    prefix = f"test:{new_id()}:"
    first, second = RateLimiter(redis, prefix), RateLimiter(redis, prefix)
    limit = Limit(count=4, window=3600)
    decisions = [await (first, second)[number % 2].hit("login", "ip", limit) for number in range(6)]
    assert [decision.allowed for decision in decisions] == [True] * 4 + [False] * 2
    assert decisions[0].remaining == 3
    assert 0 < decisions[0].reset <= 3600
    assert (await first.hit("login", "another", limit)).allowed
    await redis.aclose()

    away: Redis = connect_redis("redis://127.0.0.1:1/0")
    alone = RateLimiter(away, prefix)
    decisions = [await alone.hit("login", "ip", limit) for _ in range(6)]
    assert [decision.allowed for decision in decisions] == [True] * 4 + [False] * 2
    await away.aclose()


def test_ids_sort_by_time_and_secrets_have_a_prefix() -> None:
    ids = []
    for _ in range(3):
        ids.append(new_id())
        until = time.time_ns() // 1_000_000 + 2
        while time.time_ns() // 1_000_000 < until:
            pass
    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}
    assert new_secret("ask_").startswith("ask_")
    assert len(new_secret("ask_")) == 47


def test_cursor_when_changed_or_of_another_list_then_refused() -> None:
    cursors = Cursors(Sealer(KEY))
    cursor = cursors.make(["2026-01-01", 7], "clients|a")
    assert cursors.read(cursor, "clients|a") == ["2026-01-01", 7]
    changed = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    for wrong, scope in (
        (cursor, "clients|b"),
        (changed, "clients|a"),
        ("", "clients|a"),
        ("é", "clients|a"),
        ("x" * 50, "clients|a"),
    ):
        with pytest.raises(InvalidCursor):
            cursors.read(wrong, scope)


@given(st.text(), st.dictionaries(st.text(), st.text() | st.integers() | st.none()))
def test_event_survives_its_encoding(agent: str, data: dict[str, object]) -> None:
    event = Event(
        id=new_id(),
        type="tested",
        service="example",
        occurred_at=datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
        client_id=new_id(),
        actor_type="user",
        actor_id="1",
        target_type=None,
        target_id=None,
        session_id=None,
        ip="::1",
        user_agent=agent.encode("utf-8", "replace").decode(),
        request_id="r",
        data={
            key.encode("utf-8", "replace").decode(): value
            for key, value in data.items()
            if not isinstance(value, str)
        },
    )
    assert Event.decode(event.encode()) == event


def test_times_are_rfc3339_with_z() -> None:
    assert rfc3339(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00.000000Z"
