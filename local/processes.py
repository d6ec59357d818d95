"""A child process that is watched, logged, and never outlives us.

Every process that the local system runs (servers, services, gateway) is one `ManagedProcess`: its own process
group, output appended to a log file, a record of its pid and start time on disk, so that a later `down` finds
what a crash left behind and never signals a stranger who got the same pid.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError

# Parent-death is about the *thread* that forked: one thread forks for all and lives as long as us.
_spawner = ThreadPoolExecutor(max_workers=1, thread_name_prefix="spawner")

_LAUNCHER = Path(__file__).with_name("launch.py")
_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Unprivileged:
    """The user a process runs as when we are root."""

    uid: int
    gid: int


def start_time(pid: int) -> str | None:
    """When the process started, in the system's own words; None when it is gone.

    Together with the pid it names one process for good.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        # The name in parentheses may hold spaces; after it come field 3 (state) to field 22 (start in ticks).
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    answer = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None


def program_of(pid: int) -> str | None:
    """The name of the program that runs as this pid; None when there is none."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/comm").read_text().strip()
        except OSError:
            return None
    answer = subprocess.run(
        ["ps", "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return Path(answer.stdout.strip()).name or None


class ManagedProcess:
    """One child process, to start, stop, kill, pause and start again; by one thread at a time."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        folder: Path,
        env: Mapping[str, str],
        cwd: Path,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        user: Unprivileged | None = None,
    ) -> None:
        """Describe the process; nothing runs yet.

        Args:
            name: names the log (`folder/logs/<name>.log`) and the record (`folder/pids/<name>.json`).
            command: program and arguments; never a secret, arguments are public.
            folder: the system's folder.
            env: the complete environment of the process.
            cwd: working directory.
            stop_signal: what asks it to stop gracefully.
            death_signal: what the kernel sends it when we die.
            user: who runs it; None for ourselves.
        """
        self.name = name
        self.command = list(command)
        self.env = dict(env)
        self.log = folder / "logs" / f"{name}.log"
        self._record = folder / "pids" / f"{name}.json"
        self._cwd = cwd
        self._stop_signal = stop_signal
        self._death_signal = death_signal
        self._user = user
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int:
        """The process id; LocalError when it was never started."""
        if self._popen is None:
            raise LocalError(f"{self.name} is not running")
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code once it has ended (negative: the signal); None before."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        """Start it; returns at once, readiness is the caller's to watch."""
        if self.is_running:
            raise LocalError(f"{self.name} is already running (pid {self.pid})")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        _spawner.submit(self._spawn).result()
        self._record.parent.mkdir(parents=True, exist_ok=True)
        record = {"pid": self.pid, "started": start_time(self.pid), "signal": int(self._stop_signal)}
        self._record.write_text(json.dumps(record))

    def _spawn(self) -> None:
        user = self._user
        who = [str(user.uid), str(user.gid)] if user else ["-", "-"]
        launcher = [
            sys.executable,
            "-I",
            "-S",
            str(_LAUNCHER),
            str(int(self._death_signal)),
            str(os.getpid()),
            *who,
            "--",
        ]
        with self.log.open("ab") as log:
            self._popen = subprocess.Popen(
                [*launcher, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.env,
                cwd=self._cwd,
                process_group=0,
            )

    def ask_to_stop(self) -> None:
        """Send the graceful signal and return; `wait_stopped` waits."""
        # A start that Ctrl-C interrupted may still be on its way through the spawner.
        _spawner.submit(int).result()
        if self.is_running:
            # A paused process would never hear it.
            self.send(signal.SIGCONT)
            self.send(self._stop_signal)

    def wait_stopped(self, timeout: float) -> None:
        """Wait `timeout` seconds for the end, then kill the whole process group."""
        if self._popen is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        # Also after a graceful end: children it may have left in its group go with it.
        self._signal_group(signal.SIGKILL)
        self._popen.wait()
        self._record.unlink(missing_ok=True)

    def stop(self, timeout: float = 10.0) -> None:
        """Stop it gracefully, after `timeout` seconds by force; does nothing when it does not run."""
        self.ask_to_stop()
        self.wait_stopped(timeout)

    def wait_ended(self, timeout: float) -> int:
        """Wait for it to end by itself; answers its exit code, LocalError after `timeout` seconds."""
        if self._popen is None:
            raise LocalError(f"{self.name} was never started")
        try:
            code = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise LocalError(f"{self.name} did not end within {timeout:.0f} s; see {self.log}") from None
        self._record.unlink(missing_ok=True)
        return code

    def kill(self) -> None:
        """Kill it at once, as a crash would (SIGKILL), and wait for its end."""
        if self.is_running:
            self.send(signal.SIGKILL)
        self.wait_stopped(10.0)

    def pause(self) -> None:
        """Freeze it (SIGSTOP): connections stay open, nothing answers."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        self._signal_group(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens when it has just ended."""
        if self._popen is not None:
            self._popen.send_signal(number)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._popen is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, number)

    def obituary(self) -> str:
        """How it ended: exit code, log file, and the last it wrote."""
        return f"{self.name} ended with code {self.exit_code}; the end of {self.log}:\n{self.log_tail()}"

    def log_tail(self, lines: int = 15) -> str:
        """The last lines it wrote since it was last started; empty when it wrote nothing."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, self.log.stat().st_size - 64 * 1024))
            return "\n".join(log.read().decode(errors="replace").splitlines()[-lines:])


def stop_left_behind(folder: Path, timeout: float = 10.0) -> list[str]:
    """Stop what an earlier run in `folder` left running; answers the names. Strangers are never touched.

    The caller holds the folder's lock, so what still runs has no supervisor.
    """
    found: dict[str, int] = {}
    records = sorted((folder / "pids").glob("*.json"))
    for path in records:
        record = json.loads(path.read_text() or "{}")
        pid = record.get("pid")
        if pid and record.get("started") and start_time(pid) == record["started"]:
            found[path.stem] = pid
            os.kill(pid, record["signal"])
    deadline = time.monotonic() + timeout
    while any(start_time(pid) for pid in found.values()) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    for pid in found.values():
        if start_time(pid):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    for path in records:
        path.unlink(missing_ok=True)
    return sorted(found)
