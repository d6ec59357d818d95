"""A NATS server with JetStream in a folder, where each process has a user and only the subjects it needs."""

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from contracts.nats_users import NatsPermissions, authorization
from local.binaries import find_nats
from local.processes import ManagedProcess


class NatsServer(ManagedProcess):
    """The server process, with its users."""

    def __init__(
        self,
        folder: Path,
        *,
        port: int,
        passwords: Mapping[str, str],
        permissions: Mapping[str, NatsPermissions],
    ) -> None:
        """Describe the server and write its configuration.

        Args:
            folder: the system's folder.
            port: where to listen on 127.0.0.1.
            passwords: of each user, `ADMIN` among them; names and passwords are URL-safe.
            permissions: of each user except `ADMIN`.
        """
        self.port = port
        self._passwords = dict(passwords)
        home = folder / "nats"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = home / "nats.conf"
        config.touch(mode=0o600)
        config.write_text(_configuration(port, home / "jetstream", passwords, permissions))
        super().__init__(
            "nats",
            [str(find_nats()), "--config", str(config)],
            folder=folder,
            env={"PATH": os.defpath, "TZ": "UTC"},
            cwd=home,
        )

    def url(self, user: str) -> str:
        """The URL of one user; KeyError for one who is not known."""
        return f"nats://{user}:{self._passwords[user]}@127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Nothing to prepare; the configuration was written."""

    def is_ready(self) -> bool:
        """Whether it greets, and with JetStream."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                greeting = connection.makefile("rb").readline()
        except OSError:
            return False
        return greeting.startswith(b"INFO ") and json.loads(greeting[5:]).get("jetstream") is True


def _configuration(
    port: int, store: Path, passwords: Mapping[str, str], permissions: Mapping[str, NatsPermissions]
) -> str:
    """The configuration file; NATS reads JSON."""
    return json.dumps(
        {
            "host": "127.0.0.1",
            "port": port,
            "server_name": "local",
            "jetstream": {
                "store_dir": str(store),
                "max_memory_store": 64 * 1024**2,
                "max_file_store": 4 * 1024**3,
            },
            "authorization": authorization(passwords, permissions),
            "lame_duck_duration": "30s",
        },
        indent=2,
    )
