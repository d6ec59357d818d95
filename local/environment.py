"""The environment of the whole system, and the part of it that each process is given.

`complete` is what `.local/env` holds; `of_process` leaves in it only what one process needs: a service never
sees the admin key, the root of the internal keys, or the database and NATS credentials of another process.
"""

import os
from collections.abc import Iterable, Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from chassis.internal_keys import InternalKeys
from contracts.topology import CALLS, GATEWAY, SERVICES, pairs_of
from local.credentials import Credentials, password, root_key
from local.servers import Servers

# For every process; an environment given from outside wins.
_SHARED = {
    "ENVIRONMENT": "development",
    "HOST": "127.0.0.1",
    "REDIS_KEY_PREFIX": "auth:",
    "LOG_LEVEL": "info",
    "LOG_FORMAT": "json",
    # On a laptop nobody waits for long requests when the system is stopped.
    "DRAIN_TIMEOUT": "5s",
}
_SECRETS = {
    "MASTER_KEY": root_key,
    "INTERNAL_AUTH_KEY": root_key,
    "ADMIN_API_KEY": lambda: f"aak_{password()}",
    "ADMIN_TOKEN_SECRET": root_key,
}
_ROLES = {"": "", "JOBS_": "_jobs", "MIGRATION_": "_owner"}
_GATEWAY_ONLY = frozenset({"ADMIN_API_KEY", "INTERNAL_AUTH_KEY"})
# Who issues admin tokens, and who verifies them.
_OF_ADMIN_TOKENS = "ADMIN_TOKEN_SECRET"
_SERVICES_ONLY = frozenset({"MASTER_KEY", "MASTER_KEY_PREVIOUS"})
# URLs of superusers and of everybody: for `make up` itself.
_NOBODYS = frozenset({"DATABASE_URL", "PROVISION_DATABASE_URL", "NATS_URL", "PORT", "GRPC_PORT", "LOCAL_DIR"})


def complete(
    servers: Servers,
    credentials: Credentials,
    addresses: Mapping[str, tuple[list[str], list[str]]],
    base_url: str,
    given: Mapping[str, str],
) -> dict[str, str]:
    """Build the complete environment.

    Args:
        servers: where PostgreSQL, Valkey and NATS are.
        credentials: the folder's secrets.
        addresses: HTTP URLs and gRPC addresses of each kind of process.
        base_url: public origin, unless `given` names one.
        given: wins over what is made here, by name.
    """
    env = {**_SHARED, "BASE_URL": base_url, "REDIS_URL": servers.redis_url}
    for name, make in _SECRETS.items():
        env[name] = given.get(name) or credentials.get(name, make)
    for kind, (urls, grpc) in addresses.items():
        env[f"{kind.upper()}_URL"] = ",".join(urls)
        env[f"{kind.upper()}_GRPC"] = ",".join(grpc)
        env[f"{kind.upper()}_NATS_URL"] = servers.nats_url(kind)
    for service in SERVICES:
        keys = InternalKeys.derive(env["INTERNAL_AUTH_KEY"], pairs_of(service))
        env[f"{service.upper()}_INTERNAL_KEYS"] = keys.render()
        for prefix, suffix in _ROLES.items():
            role = f"{service}{suffix}"
            url = _database_url(servers.postgres_url, service, role, credentials.get(f"postgres {role}"))
            env[f"{service.upper()}_{prefix}DATABASE_URL"] = url
    # Not HOST: some shells and toolchains export one that means something else; GATEWAY_HOST is ours alone.
    return env | {name: given[name] for name in env if given.get(name) and name != "HOST"}


def of_process(kind: str, env: Mapping[str, str], *, migrates: bool = False) -> dict[str, str]:
    """Return what one process is given: our own surroundings, and of `env` what its kind needs."""
    names = {*env, *os.environ} - _NOBODYS
    names = {name for name in names if _is_for(kind, name, migrates)}
    merged = {**os.environ, **env}
    return {**{name: merged[name] for name in names}, "PYTHONUNBUFFERED": "1"}


def _is_for(kind: str, name: str, migrates: bool) -> bool:
    base = name.removesuffix("_FILE")
    if base in _GATEWAY_ONLY:
        return kind == GATEWAY
    if base == _OF_ADMIN_TOKENS:
        return kind in (GATEWAY, "identity")
    if base in _SERVICES_ONLY:
        return kind != GATEWAY
    owner, _, rest = base.partition("_")
    owner = owner.lower()
    if owner not in (GATEWAY, *SERVICES):
        return True
    if rest in {"URL", "GRPC"}:
        return owner in CALLS.get(kind, frozenset())
    return owner == kind and (migrates or rest != "MIGRATION_DATABASE_URL")


def render(env: Mapping[str, str]) -> str:
    """Write the environment as a file that a shell can source (`set -a; . .local/env`)."""
    return "".join(f"{name}={_quoted(value)}\n" for name, value in sorted(env.items()))


def parse(lines: Iterable[str]) -> dict[str, str]:
    """Read what `render` wrote."""
    pairs = (line.rstrip("\n").partition("=") for line in lines if "=" in line)
    return {name: value.removeprefix("'").removesuffix("'") for name, _, value in pairs}


def _quoted(value: str) -> str:
    """Quote for a shell where it would read more than a word; no value of ours holds a quote."""
    return f"'{value}'" if set(value) & set(" >&;|$<()*?#") else value


def _database_url(admin_url: str, database: str, role: str, secret: str) -> str:
    parts = urlsplit(admin_url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{quote(role)}:{quote(secret)}@{host}", path=f"/{database}"))
