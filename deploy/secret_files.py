"""Make the secrets of one deployment, a file each: `python -m deploy.secret_files FOLDER`.

Compose mounts the files as they are; on Kubernetes an overlay's `secretGenerator` (or a secret manager) takes
them. Every process reads its own through `*_FILE` variables, and no other's. What is random is made once and
kept; what follows from it (URLs, NATS users, the services' internal keys) is written anew each time, so that
the command may be run again after `contracts/` has changed, or to name other servers.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

from chassis.internal_keys import InternalKeys
from contracts.nats_users import ADMIN, authorization, permissions_of_all
from contracts.topology import GATEWAY, SERVICES, pairs_of

_ROLES = {"": "", "jobs_": "_jobs", "migration_": "_owner"}
_STORE = "/data"


class SecretFolder:
    """A folder that only its owner enters.

    The files themselves may be read by everybody: Compose mounts them as they are, and the processes run
    under a number of their own.
    """

    def __init__(self, folder: Path) -> None:
        """Make the folder, closed to others."""
        self._folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)

    def keep(self, name: str, make: Callable[[], str]) -> str:
        """Return what the file of that name holds, made the first time."""
        file = self._folder / name
        if not file.exists():
            self.write(name, make())
        return file.read_text().strip()

    def write(self, name: str, text: str) -> None:
        """Write a file in place: a running container goes on to see it."""
        file = self._folder / name
        file.write_text(text.strip() + "\n")
        file.chmod(0o644)


def password() -> str:
    """Return a random password, safe in URLs and configuration files."""
    return secrets.token_urlsafe(24)


def root_key() -> str:
    """Return 32 random bytes as base64url: the form of MASTER_KEY and INTERNAL_AUTH_KEY."""
    return secrets.token_urlsafe(32)


def write_all(folder: Path, *, postgres: str, redis: str, nats: str) -> None:
    """Write every secret of a deployment.

    Args:
        folder: where; made if need be.
        postgres: `host:port` of PostgreSQL, where `chassis.provision` will create databases and roles.
        redis: `host:port` of Redis or Valkey.
        nats: `host:port` of NATS.
    """
    files = SecretFolder(folder)
    files.keep("admin_api_key", lambda: f"aak_{password()}{password()}")
    files.keep("admin_token_secret", root_key)
    root = files.keep("internal_auth_key", root_key)
    superuser = files.keep("postgres_password", password)
    files.write("provision_database_url", f"postgresql://postgres:{quote(superuser)}@{postgres}/postgres")
    for service in SERVICES:
        files.keep(f"{service}_master_key", root_key)
        files.write(f"{service}_internal_keys", InternalKeys.derive(root, pairs_of(service)).render())
        for prefix, suffix in _ROLES.items():
            role = f"{service}{suffix}"
            secret = files.keep(f"{role}_password", password)
            files.write(
                f"{service}_{prefix}database_url", f"postgresql://{role}:{secret}@{postgres}/{service}"
            )
    _write_redis(files, redis)
    _write_nats(files, nats)


def _write_redis(files: SecretFolder, address: str) -> None:
    secret = files.keep("redis_password", password)
    files.write("redis_url", f"redis://auth:{secret}@{address}/0")
    # What it holds is short-lived. When full it must refuse, not forget: a forgotten limit is no limit.
    files.write(
        "valkey.conf",
        'bind * -::*\nsave ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy noeviction\n'
        f"user default off\nuser auth on >{secret} ~auth:* &auth:* +@all -@admin -@dangerous\n",
    )


def _write_nats(files: SecretFolder, address: str) -> None:
    passwords = {user: files.keep(f"{user}_nats_password", password) for user in (ADMIN, GATEWAY, *SERVICES)}
    for user, secret in passwords.items():
        files.write(f"{user}_nats_url", f"nats://{user}:{secret}@{address}")
    configuration = {
        "port": 4222,
        "http_port": 8222,
        "jetstream": {"store_dir": _STORE, "max_memory_store": 64 * 1024**2, "max_file_store": 8 * 1024**3},
        "authorization": authorization(passwords, permissions_of_all()),
    }
    files.write("nats.conf", json.dumps(configuration, indent=2))


def main(arguments: Sequence[str]) -> int:
    """Write the secrets into the folder that the arguments name."""
    parser = argparse.ArgumentParser(
        prog="python -m deploy.secret_files", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("folder", type=Path, help="written into; what is random there is kept")
    parser.add_argument("--postgres", default="postgres:5432", metavar="HOST:PORT")
    parser.add_argument("--redis", default="valkey:6379", metavar="HOST:PORT")
    parser.add_argument("--nats", default="nats:4222", metavar="HOST:PORT")
    given = parser.parse_args(arguments)
    write_all(given.folder, postgres=given.postgres, redis=given.redis, nats=given.nats)
    sys.stdout.write(f"wrote the secrets into {given.folder}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
