"""Drives a port with whole requests at a fixed concurrency, from a process of its own.

wrk does it where it is on PATH: it costs microseconds a request and is never what limits. Else
`benchmarks.driver` does the same in Python, at some forty microseconds.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = Path(__file__).with_name("load.lua")
_SLACK_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Load:
    """What came of driving a port.

    `rate` counts answers of 2xx and 3xx a second; `driver_us` is the generator's own CPU per request.
    """

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    errors: int
    driver_us: float

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return (self.requests - self.errors) / self.seconds if self.seconds else 0.0


def request(
    method: str, path: str, headers: Mapping[str, str], body: Mapping[str, object] | None = None
) -> bytes:
    """Return a whole HTTP/1.1 request."""
    content = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", *(f"{n}: {v}" for n, v in headers.items())]
    if content:
        lines += ["content-type: application/json", f"content-length: {len(content)}"]
    return "\r\n".join((*lines, "", "")).encode() + content


def has_wrk() -> bool:
    """Whether the better generator is there."""
    return shutil.which("wrk") is not None


def drive(
    port: int, requests: Sequence[bytes], *, connections: int, seconds: float, chain: bool = False
) -> Load:
    """Send the requests in turn over so many connections for so long.

    With `chain` each answer's refresh token goes into the next request: `requests` are refreshes, more of
    them than connections.
    """
    with tempfile.NamedTemporaryFile(prefix="authservice-load-") as file:
        file.write(b"\0".join(requests))
        file.flush()
        mode = ["chain"] if chain else []
        if has_wrk():
            rounded = max(1, round(seconds))
            command = ["wrk", "-t1", f"-c{connections}", f"-d{rounded}s", "--timeout", "60s"]
            command += ["-s", str(_SCRIPT), f"http://127.0.0.1:{port}", "--", file.name, *mode]
        else:
            command = [sys.executable, "-m", "benchmarks.driver", str(port), str(connections), str(seconds)]
            command += [file.name, *mode]
        return run(command, seconds)


def run(command: Sequence[str], seconds: float, given: bytes = b"") -> Load:
    """Run a generator that prints a line `RESULT {…}`, and read it.

    Raises:
        RuntimeError: it failed; says what it wrote.
    """
    before = _children_cpu()
    done = subprocess.run(
        command, input=given, capture_output=True, check=False, timeout=seconds + _SLACK_SECONDS
    )
    cpu = _children_cpu() - before
    lines = [line for line in done.stdout.decode().splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        said = (done.stderr or done.stdout).decode(errors="replace")
        raise RuntimeError(f"{command[0]} failed with code {done.returncode}: {said[-2000:]}")
    result = json.loads(lines[-1].removeprefix("RESULT "))
    return Load(**result, driver_us=cpu / max(1, result["requests"]) * 1e6)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
