"""Typed settings, read once at start from the environment.

For a service, `<SERVICE>_<NAME>` wins over `<NAME>`, and `<NAME>_FILE` (a mounted secret) stands for any
`<NAME>`. A value that is not acceptable stops the process with a line that names the variable, what was given
and what is accepted.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")
_EXAMPLE = re.compile(r"change.?me|example|default|secret|password|replace", re.IGNORECASE)
_MIN_SECRET_LENGTH = 32
_MIN_PASSWORD_LENGTH = 12
_MIN_SECRET_VARIETY = 10


def parse_duration(value: object) -> object:
    """Turn `15m`, `168h`, `7d`, `500ms` or plain seconds into a timedelta; leave the rest to pydantic."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise ValueError("expected a duration such as 15m, 168h, 7d, 500ms or seconds")
        return timedelta(seconds=float(match[1]) * _UNITS[match[2]])
    return value


def split_commas(value: object) -> object:
    """Turn `a, b` into ["a", "b"]."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
CommaList = Annotated[list[str], BeforeValidator(split_commas)]


class ForeignSecret(SecretStr):
    """A secret that somebody else made, such as a mail provider: its form is not ours to judge."""


class Environment(StrEnum):
    """Where the process runs; production refuses what is only safe on a laptop."""

    DEVELOPMENT = "development"
    PRODUCTION = "production"


class _EnvironmentSource(PydanticBaseSettingsSource):
    """Reads `<SERVICE>_<NAME>`, then `<NAME>`, each also as `_FILE`; an empty value counts as not set."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Find one field's raw text."""
        service = getattr(self.settings_cls, "service", "")
        names = [f"{service}_{field_name}".upper(), field_name.upper()] if service else [field_name.upper()]
        for name in names:
            if os.environ.get(name):
                return os.environ[name], field_name, False
            if os.environ.get(f"{name}_FILE"):
                return Path(os.environ[f"{name}_FILE"]).read_text().strip(), field_name, False
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Collect every field that is set."""
        found = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in found.items() if value is not None}


class Settings(BaseSettings):
    """What every process is told. Services add their own fields and name themselves in `service`."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True)
    service: ClassVar[str] = ""

    environment: Environment = Field(
        Environment.DEVELOPMENT, description="`production` refuses unsafe settings."
    )
    host: str = Field("127.0.0.1", description="Address the process listens on.")
    port: int = Field(0, ge=0, le=65535, description="HTTP port; 0 picks a free one.")
    grpc_port: int = Field(0, ge=0, le=65535, description="gRPC port; 0 picks a free one.")
    probe_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Serves `/healthz`, `/readyz` and `/metrics` alone, for probes without a certificate.",
    )
    web_concurrency: int = Field(
        1, ge=1, le=64, description="Processes that share the ports by SO_REUSEPORT."
    )
    base_url: str = Field(
        "http://localhost:8080", description="Public origin: issuer, and base of every link."
    )
    internal_tls_cert: Path | None = Field(None, description="Certificate of this process for internal mTLS.")
    internal_tls_key: Path | None = Field(None, description="Its private key.")
    internal_tls_ca: Path | None = Field(
        None, description="CA of the peers; set, every peer must show a certificate."
    )
    drain_delay: Duration = Field(
        timedelta(0), description="Between readiness going off and the listeners closing on SIGTERM."
    )
    drain_timeout: Duration = Field(
        timedelta(seconds=20), description="For requests in flight to finish on SIGTERM."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe level logged."
    )
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal."
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take constructor arguments (tests), then the environment by our rule."""
        return init_settings, _EnvironmentSource(settings_cls)

    @classmethod
    def load(cls) -> Self:
        """Read the environment, or print what is wrong with it and exit with status 2."""
        try:
            return cls()
        except ValidationError as error:
            for fault in error.errors():
                sys.stderr.write(_explain(cls, fault["loc"], fault["msg"], fault["input"]) + "\n")
            raise SystemExit(2) from None
        except OSError as error:
            sys.stderr.write(f"A file named by a *_FILE variable cannot be read: {error}\n")
            raise SystemExit(2) from None

    @model_validator(mode="after")
    def _refuse_example_secrets(self) -> Self:
        if self.environment is Environment.PRODUCTION:
            for name in type(self).model_fields:
                value = getattr(self, name)
                is_ours = isinstance(value, SecretStr) and not isinstance(value, ForeignSecret)
                if is_ours and _is_guessable(value.get_secret_value()):
                    raise ValueError(
                        f"{name.upper()} is a default, an example or too short for production: "
                        f"give at least {_MIN_SECRET_LENGTH} random characters (`openssl rand -base64 32`)"
                    )
        return self


class ServiceSettings(Settings):
    """What every service (a process with a database) is told beside that."""

    database_url: SecretStr = Field(
        description="PostgreSQL, as the role that row-level security binds to a tenant."
    )
    jobs_database_url: SecretStr = Field(description="PostgreSQL, as the role of jobs that span tenants.")
    migration_database_url: SecretStr | None = Field(
        None, description="PostgreSQL, as owner; only `migrate` needs it."
    )
    database_pool_size: int = Field(10, ge=2, le=200, description="Connections per process for tenant work.")
    database_statement_timeout: Duration = Field(
        timedelta(seconds=5), description="A statement's longest time."
    )
    nats_url: SecretStr = Field(description="NATS with JetStream.")
    redis_url: SecretStr | None = Field(
        None, description="Redis or Valkey; without it what needs it answers 503."
    )
    redis_key_prefix: str = Field("auth:", description="Prefix of all keys in Redis.")
    master_key: SecretStr = Field(
        description="Root key of secrets at rest: 32 random bytes, base64url or hex."
    )
    master_key_previous: SecretStr | None = Field(
        None, description="Former root keys, comma separated: opened, not used."
    )
    internal_keys: SecretStr = Field(
        description="This service's keys, `caller>callee=key` comma separated (`contracts.topology`)."
    )


def _is_guessable(secret: str) -> bool:
    """True for what nobody drew at random. Of a URL the password is judged, and must be there."""
    if ">" in secret:
        return False  # derived keys, by pair
    if "://" in secret:
        return _has_guessable_password(secret)
    too_simple = len(secret) < _MIN_SECRET_LENGTH or len(set(secret)) < _MIN_SECRET_VARIETY
    return too_simple or _EXAMPLE.search(secret) is not None


def _has_guessable_password(url: str) -> bool:
    if "sslcert=" in url:
        return False  # a certificate stands for the password
    password = unquote(urlsplit(url).password or "")
    return len(password) < _MIN_PASSWORD_LENGTH or _EXAMPLE.search(password) is not None


def _explain(cls: type[Settings], loc: tuple[int | str, ...], message: str, given: object) -> str:
    if not loc:
        return message.removeprefix("Value error, ")
    name = str(loc[0])
    field = cls.model_fields.get(name)
    secret = field is not None and "Secret" in str(field.annotation)
    shown = "is not set" if isinstance(given, dict) else f"was given {'a value' if secret else repr(given)}"
    described = f" ({field.description})" if field is not None and field.description else ""
    return f"{name.upper()} {shown}: {message.removeprefix('Value error, ')}{described}"
