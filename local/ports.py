"""Free ports, chosen once per folder."""

import json
import random
import socket
from pathlib import Path

# Below the range that systems give to outgoing connections (Linux: from 32768, macOS: from 49152), so that a
# port noted down while nothing ran is not handed to somebody's outgoing connection.
_RANGE = range(20_000, 32_000)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether we could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


class Ports:
    """The ports of one folder: the same at each start, chosen anew where another program has taken one."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ports.json"
        self._known: dict[str, int] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def take(self, name: str) -> int:
        """The port for `name`, free at this moment; must be called before the one who listens is started."""
        port = self._known.get(name)
        if port is None or not is_free(port):
            port = self._choose()
            self._known[name] = port
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.write_text(json.dumps(self._known, indent=2))
        return port

    def _choose(self) -> int:
        taken = set(self._known.values())
        for port in random.SystemRandom().sample(_RANGE, 200):
            if port not in taken and is_free(port):
                return port
        raise OSError("no free port between 20000 and 32000")
