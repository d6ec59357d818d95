"""`python -m local COMMAND`: what the Makefile's up, down, run, migrate, migration and clean do."""

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from contracts.topology import SERVICES
from local.banner import banner
from local.environment import of_process, parse
from local.errors import LocalError
from local.lock import is_held, stop_holder
from local.migrations import migrate_all
from local.ports import is_free
from local.processes import stop_left_behind
from local.servers import delete_folder
from local.service_process import REPOSITORY, module_of
from local.system import KINDS, System
from local.watch import Watch

_PORT, _GRPC_PORT = 8080, 9090


def up(folder: Path, environ: Mapping[str, str]) -> int:
    """Start the system and look after it until Ctrl-C, SIGTERM or a closed terminal; 0 after a clean stop."""
    began = time.monotonic()
    system = System(
        folder,
        port=_port(environ, "PORT", _PORT),
        grpc_port=_port(environ, "GRPC_PORT", _GRPC_PORT),
        report=_say,
    )
    _stop_on_signals(system)
    try:
        system.start_all()
        sys.stdout.write(f"\n{banner(system, time.monotonic() - began)}\n\n")
        sys.stdout.flush()
        Watch(system, _say).run()
    except KeyboardInterrupt:
        _say("stopping")
    finally:
        system.stop()
    _say("stopped")
    return 0


def _stop_on_signals(system: System) -> None:
    """The first signal stops gracefully, the second at once."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def at_once(_number: int, _frame: FrameType | None) -> None:
        for process in reversed(system.all_processes()):
            if process.is_running:
                process.send(signal.SIGKILL)

    def gracefully(_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, at_once)
        raise KeyboardInterrupt

    for number in signals:
        signal.signal(number, gracefully)


def down(folder: Path, _environ: Mapping[str, str]) -> int:
    """Stop the folder's system, wherever it was started, and what a crashed one left behind."""
    if is_held(folder):
        pid = stop_holder(folder)
        _say(f"stopped the system of {folder} (pid {pid})")
    elif left := stop_left_behind(folder):
        _say(f"stopped what was left behind in {folder}: {', '.join(left)}")
    else:
        _say(f"nothing runs in {folder}")
    return 0


def run(folder: Path, environ: Mapping[str, str]) -> int:
    """Become one more process of a kind, in the running system's environment; returns only by LocalError."""
    kind = _named(environ, KINDS)
    env = of_process(kind, _running_environment(folder))
    for name, given in (("PORT", _port(environ, "PORT", 0)), ("GRPC_PORT", _port(environ, "GRPC_PORT", 0))):
        if given and not is_free(given):
            raise LocalError(f"port {given} is busy: give another {name}, or none for a free one")
        env[f"{kind.upper()}_{name}"] = str(given)
    _become(kind, ["serve"], env)


def migrate(folder: Path, _environ: Mapping[str, str]) -> int:
    """Bring the databases of the running system to the newest revision."""
    env = _running_environment(folder)
    migrate_all(folder, json.loads((folder / "up.json").read_text())["database_url"], env)
    _say("all databases are current")
    return 0


def migration(folder: Path, environ: Mapping[str, str]) -> int:
    """Write the migration that brings a service's database to its changed models."""
    service = _named(environ, SERVICES)
    if not environ.get("NAME"):
        raise LocalError('give the migration a name: make migration SERVICE=identity NAME="add phone"')
    env = of_process(service, _running_environment(folder), migrates=True)
    env["MIGRATION_DATABASE_URL"] = env[f"{service.upper()}_MIGRATION_DATABASE_URL"]
    _become(service, ["migration", environ["NAME"]], env)


def _named(environ: Mapping[str, str], kinds: Sequence[str]) -> str:
    kind = environ.get("SERVICE", "")
    if kind not in kinds:
        raise LocalError(f"SERVICE={kind} is not one of {', '.join(kinds)}")
    return kind


def _running_environment(folder: Path) -> dict[str, str]:
    if not is_held(folder):
        raise LocalError(f"no system runs in {folder}: `make up` first, in another terminal")
    return parse((folder / "env").read_text().splitlines())


def _become(kind: str, arguments: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Run in this process: Ctrl-C, exit code and terminal are those of the command."""
    os.chdir(REPOSITORY)
    os.execve(sys.executable, [sys.executable, "-m", module_of(kind), *arguments], env)  # noqa: S606


def clean(folder: Path, _environ: Mapping[str, str]) -> int:
    """Delete the folder with all data and secrets; refused while a system runs in it."""
    if is_held(folder):
        raise LocalError(f"a system runs in {folder}: `make down` first")
    delete_folder(folder)
    _say(f"deleted {folder}")
    return 0


def _port(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name) or str(default)
    if not (text.isascii() and text.isdigit() and int(text) < 65536):
        raise LocalError(f"{name}={text} is not a port: give a number from 1 to 65535")
    return int(text)


def _say(line: str) -> None:
    sys.stdout.write(f"  {line}\n")
    sys.stdout.flush()


def main(argv: list[str]) -> int:
    """Run one command; 1 with one line on standard error when the person has to do something."""
    commands = {command.__name__: command for command in (up, down, run, migrate, migration, clean)}
    parser = argparse.ArgumentParser(prog="python -m local", description=__doc__)
    parser.add_argument("command", choices=commands)
    command = parser.parse_args(argv).command
    folder = Path(os.environ.get("LOCAL_DIR") or REPOSITORY / ".local").absolute()
    try:
        return commands[command](folder, os.environ)
    except LocalError as error:
        sys.stderr.write(f"make {command}: {error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
