"""Make the environment from uv.lock: `python3 local/bootstrap.py local|dev`, before anything else can run.

Runs on whatever Python the machine has, so that a wrong one is told in a line and not by a syntax error: no
syntax or module newer than Python 3.6 here. Writes `.venv` and `.local-tools` in the repository only.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 13)
UV = "uv>=0.9,<1"
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / ".made-from"
TOOLS = ROOT / ".local-tools"

# What each set holds of the lock file. `dev` is all of `local` and more.
SETS = {
    "local": ["--no-default-groups", "--group", "local"],
    "dev": ["--group", "local", "--group", "dev"],
}


def fail(line: str) -> None:
    """Say what to do and end."""
    sys.stderr.write(f"make: {line}\n")
    sys.exit(1)


def fits(version: "tuple[int, int]") -> bool:
    """Whether the project runs on that version of Python."""
    return OLDEST <= version <= NEWEST


def find_python() -> str:
    """The interpreter for the environment: this one, or a fitting one on PATH."""
    if fits(sys.version_info[:2]):
        # Not that of an active virtual environment (it may be ours): the one that was made from.
        return os.path.realpath(getattr(sys, "_base_executable", sys.executable) or sys.executable)
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and works([found, "-c", ""]):
            return found
    this = ".".join(str(part) for part in sys.version_info[:3])
    fail(
        f"Python 3.11, 3.12 or 3.13 is needed and {sys.executable} is {this}: install one, "
        "then `make PYTHON=/path/to/it ...`"
    )
    return ""


def works(command: "list[str]") -> bool:
    """Whether a command ends well; what it says is not shown."""
    return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0


def digest(wanted: str, python: str) -> str:
    """What the environment was made from; the same text means there is nothing to do."""
    found = hashlib.sha256()
    for name in ("uv.lock", "pyproject.toml"):
        found.update((ROOT / name).read_bytes())
    return f"{wanted} {python} {found.hexdigest()}"


def is_current(wanted: str, python: str) -> bool:
    """Whether `.venv` was made from this lock file, with at least what is wanted."""
    return STAMP.exists() and STAMP.read_text() in (digest(wanted, python), digest("dev", python))


def is_environment() -> bool:
    """Whether `.venv` holds a working virtual environment."""
    python = VENV / "bin" / "python"
    return python.exists() and works(
        [str(python), "-I", "-c", "import sys; sys.exit(sys.prefix == sys.base_prefix)"]
    )


def find_uv(python: str) -> str:
    """The uv on PATH when it works, else one of our own, installed by pip into `.local-tools`."""
    given = shutil.which("uv")
    if given and works([given, "--version"]):
        return given
    own = str(TOOLS / "bin" / "uv")
    if works([own, "--version"] if Path(own).exists() else ["false"]):
        return own
    say("installing uv into .local-tools (it is not on PATH)")
    if not works([python, "-c", "import ensurepip, venv"]):
        fail(
            f"{python} cannot make virtual environments: install its venv module "
            "(Debian, Ubuntu: apt install python3-venv), or install uv"
        )
    shutil.rmtree(str(TOOLS), ignore_errors=True)
    run([python, "-m", "venv", str(TOOLS)], "making .local-tools failed (the message is above)")
    pip = [str(TOOLS / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    run([*pip, UV], "pip could not install uv (its message is above): is the package index reachable?")
    return own


def run(command: "list[str]", complaint: str, env: "dict[str, str] | None" = None) -> None:
    """Run a command; on failure its own output stands above our line."""
    if subprocess.call(command, cwd=str(ROOT), env=env) != 0:
        fail(complaint)


def say(line: str) -> None:
    """Tell what takes a moment."""
    sys.stdout.write(f"  {line}\n")
    sys.stdout.flush()


def main() -> None:
    """Make the environment unless it is there."""
    wanted = sys.argv[1]
    python = find_python()
    if is_environment():
        if is_current(wanted, python):
            return
    else:
        # Half made when somebody interrupted us, or its Python is gone: uv would build on the ruin.
        shutil.rmtree(str(VENV), ignore_errors=True)
    uv = find_uv(python)
    say("making .venv from uv.lock")
    # --inexact: `make up` must not take away what `make test` has installed.
    # --compile-bytecode: else all processes compile the same files at the same time when they first start.
    options = ["--frozen", "--inexact", "--all-extras", "--compile-bytecode", "--quiet", "--python", python]
    env = dict(os.environ, UV_PROJECT_ENVIRONMENT=str(VENV), UV_PYTHON_DOWNLOADS="never")
    env.pop("VIRTUAL_ENV", None)
    run(
        [uv, "sync"] + options + SETS[wanted],
        "uv could not make .venv from uv.lock (its message is above)",
        env,
    )
    STAMP.write_text(digest(wanted, python))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
