"""One of our own processes: a service or the gateway."""

import http.client
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from contracts.topology import GATEWAY
from local.environment import of_process
from local.processes import ManagedProcess

REPOSITORY = Path(__file__).resolve().parent.parent
_PROBE_TIMEOUT = 2.0


def module_of(kind: str) -> str:
    """The module that `python -m` runs for a kind of process."""
    return kind if kind == GATEWAY else f"services.{kind}"


class ServiceProcess(ManagedProcess):
    """A running service or gateway, with its two addresses."""

    def __init__(
        self, name: str, kind: str, *, folder: Path, env: Mapping[str, str], port: int, grpc_port: int
    ) -> None:
        """Describe the process.

        Args:
            name: `identity`, `identity-2`, ...
            kind: which program: `gateway` or a service.
            folder: the system's folder.
            env: the complete environment; the process is given its part.
            port: of its HTTP face.
            grpc_port: of its gRPC face.
        """
        self.kind = kind
        self.port = port
        self.grpc_port = grpc_port
        own = of_process(kind, env)
        own[f"{kind.upper()}_PORT"] = str(port)
        own[f"{kind.upper()}_GRPC_PORT"] = str(grpc_port)
        command = [sys.executable, "-m", module_of(kind), "serve"]
        super().__init__(name, command, folder=folder, env=own, cwd=REPOSITORY)

    @property
    def url(self) -> str:
        """Its HTTP address, reached directly."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def grpc(self) -> str:
        """Its gRPC address."""
        return f"127.0.0.1:{self.grpc_port}"

    def restart(self) -> None:
        """Stop it (if it runs) and start it again at the same addresses; `is_ready` tells when it serves."""
        self.stop()
        self.start()

    def is_ready(self) -> bool:
        """Whether `/readyz` says that it serves with all it depends on."""
        return self._readiness()[0]

    def why_not_ready(self) -> str:
        """What `/readyz` names as missing, on one line."""
        return self._readiness()[1]

    def _readiness(self) -> tuple[bool, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_PROBE_TIMEOUT)
        try:
            connection.request("GET", "/readyz")
            answer = connection.getresponse()
            body = answer.read(4096).decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return False, "does not listen yet"
        finally:
            connection.close()
        return answer.status == http.client.OK, _one_line(body)


def _one_line(body: str) -> str:
    try:
        return json.dumps(json.loads(body))
    except ValueError:
        return " ".join(body.split())
