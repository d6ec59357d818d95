"""Keep a started system running: what dies is reported in one line and started again, ever more slowly."""

import time
from dataclasses import dataclass

from local.errors import LocalError
from local.postgres_server import PostgresServer
from local.processes import ManagedProcess
from local.system import Report, System

_POLL_SECONDS = 0.25
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
_HEALTHY_AFTER = 60.0


@dataclass(slots=True)
class _Patience:
    """How long to wait before the next start of one process."""

    delay: float = _FIRST_DELAY
    started: float = 0.0
    due: float | None = None


class Watch:
    """Restarts the processes of one system; `run` goes on until it is interrupted."""

    def __init__(self, system: System, report: Report) -> None:
        """Watch `system`; each death and start is told to `report` in one line."""
        self._system = system
        self._report = report
        self._patience = {process.name: _Patience() for process in system.all_processes()}

    def run(self) -> None:
        """Look after everything until an exception (the interrupt) ends it."""
        while True:
            for process in self._system.all_processes():
                self.look_after(process)
            time.sleep(_POLL_SECONDS)

    def look_after(self, process: ManagedProcess) -> None:
        """Notice a death, and start again what is due."""
        patience = self._patience[process.name]
        if process.is_running:
            if time.monotonic() - patience.started > _HEALTHY_AFTER:
                patience.delay = _FIRST_DELAY
            return
        if patience.due is None:
            self._report(
                f"{process.name} ended with code {process.exit_code}; starting it again"
                f" in {patience.delay:.1f} s (log {process.log})"
            )
            patience.due = time.monotonic() + patience.delay
            patience.delay = min(patience.delay * 2, _LONGEST_DELAY)
        elif time.monotonic() >= patience.due:
            patience.due = None
            patience.started = time.monotonic()
            self._start(process)

    def _start(self, process: ManagedProcess) -> None:
        # What it may have left in its process group goes first.
        process.kill()
        try:
            if isinstance(process, PostgresServer):
                process.prepare()
            process.start()
        except (LocalError, OSError) as error:
            self._report(f"{process.name} cannot be started: {error}")
            return
        self._system.write_up()
