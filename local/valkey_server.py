"""A Valkey server (or Redis) in a folder, with a user and password, in memory only."""

import os
import socket
from pathlib import Path

from local.binaries import find_valkey
from local.processes import ManagedProcess

_USER = "auth"


class ValkeyServer(ManagedProcess):
    """The server process; what it holds is short-lived by design and gone when it stops."""

    def __init__(self, folder: Path, *, port: int, password: str) -> None:
        """Describe the server and write its configuration (the password stays out of the arguments)."""
        self.port = port
        self._password = password
        home = folder / "valkey"
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = home / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(
            f"bind 127.0.0.1\nport {port}\ndir {_quoted(home)}\n"
            'save ""\nappendonly no\nmaxmemory 256mb\nmaxmemory-policy noeviction\n'
            f"user default off\nuser {_USER} on >{password} ~* &* +@all\n"
        )
        super().__init__(
            "valkey",
            [str(find_valkey()), str(config)],
            folder=folder,
            env={"PATH": os.defpath, "TZ": "UTC"},
            cwd=home,
        )

    @property
    def url(self) -> str:
        """The URL with user and password."""
        return f"redis://{_USER}:{self._password}@127.0.0.1:{self.port}/0"

    def prepare(self) -> None:
        """Nothing to prepare; the configuration was written."""

    def is_ready(self) -> bool:
        """Whether it answers (that a password is wanted is an answer)."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith((b"-NOAUTH", b"+PONG"))
        except OSError:
            return False


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
