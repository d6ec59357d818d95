"""One supervisor per folder: a lock that dies with its holder, and who holds it."""

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from local.errors import LocalError
from local.processes import start_time

_POLL_SECONDS = 0.05


@contextmanager
def _open(folder: Path) -> Iterator[TextIO]:
    with (folder / "lock").open("a+") as file:
        yield file


class FolderLock:
    """Held from `__init__` until `release` or the end of this process, whichever way it ends."""

    def __init__(self, folder: Path) -> None:
        """Take the lock; LocalError names the running system when somebody holds it."""
        self._file = (folder / "lock").open("a+")
        if not _try_lock(self._file):
            self._file.close()
            raise LocalError(_running(folder))
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "started": start_time(os.getpid())}))
        self._file.flush()

    def release(self) -> None:
        """Let the next one in."""
        self._file.truncate(0)
        self._file.close()


def is_held(folder: Path) -> bool:
    """Whether a supervisor lives in the folder."""
    if not (folder / "lock").exists():
        return False
    with _open(folder) as file:
        return not _try_lock(file)


def stop_holder(folder: Path, timeout: float = 40.0) -> int:
    """Ask the folder's supervisor to stop everything and wait until it is gone; answers its pid.

    Raises:
        LocalError: it did not go within `timeout` seconds; it was killed then, and its processes with it.
    """
    holder = json.loads((folder / "lock").read_text())
    pid = int(holder["pid"])
    if start_time(pid) != holder["started"]:
        raise LocalError(
            f"the lock of {folder} is held, but not by pid {pid}: remove {folder}/lock when nothing runs"
        )
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while is_held(folder):
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            raise LocalError(f"pid {pid} did not stop within {timeout:.0f} s and was killed")
        time.sleep(_POLL_SECONDS)
    return pid


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _running(folder: Path) -> str:
    try:
        url = json.loads((folder / "up.json").read_text())["gateway_url"]
    except (OSError, ValueError, KeyError):
        return f"a system is starting or stopping in {folder}: wait for it, or `make down`"
    return f"a system already runs in {folder}, at {url}: `make down` stops it"
