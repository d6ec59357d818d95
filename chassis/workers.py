"""`WEB_CONCURRENCY`: several processes of one kind on the same ports (SO_REUSEPORT).

The parent serves nothing: it starts the workers, passes SIGTERM and SIGINT on, and replaces one that died.
A worker ends by itself when the parent is gone, because its end of a pipe closes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from types import FrameType

import structlog

log = structlog.get_logger()

_MARK = "AUTHSERVICE_WORKER"
"""Set for a worker; its value is the pipe that closes when the parent ends."""

_RESTART_SECONDS = 1.0
_POLL_SECONDS = 0.2


def is_worker() -> bool:
    """True in a process that shares its ports with others."""
    return _MARK in os.environ


def serve_many(count: int) -> int:
    """Run this very command line `count` times until told to stop; return the worst exit status."""
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    read_end, _write_end = os.pipe()
    with tempfile.TemporaryDirectory(prefix="metrics-") as metrics:
        environment = {**os.environ, _MARK: str(read_end), "PROMETHEUS_MULTIPROC_DIR": metrics}
        workers = [_start(environment, read_end) for _ in range(count)]
        while not stopping.wait(_POLL_SECONDS):
            for number, worker in enumerate(workers):
                if worker.poll() is not None:
                    log.error("worker died, starting another", status=worker.returncode)
                    time.sleep(_RESTART_SECONDS)
                    workers[number] = _start(environment, read_end)
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        # One that had just been started may not yet know SIGTERM as a request to drain.
        return max(0 if worker.wait() == -signal.SIGTERM else abs(worker.returncode) for worker in workers)


def end_with_parent() -> None:
    """In a worker: stop as on SIGTERM when the parent has ended, however it ended."""
    pipe = int(os.environ[_MARK])

    def watch() -> None:
        os.read(pipe, 1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _start(environment: dict[str, str], pipe: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, *sys.orig_argv[1:]]
    return subprocess.Popen(command, env=environment, pass_fds=[pipe])  # noqa: S603 - our own command line again
