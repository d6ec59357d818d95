"""Programs of other languages that tests run: where they are, and the packages they need."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/local/go/bin"
"""Where programs are looked for."""


def needs(program: str) -> str:
    """Return where a program is; skip the test where it is not, but in CI fail."""
    found = shutil.which(program, path=PATH)
    if found is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{program} is not installed")
    return found


def install_node_packages(folder: Path) -> None:
    """Install what a folder's package-lock.json says, unless that was done; one test process at a time."""
    npm = needs("npm")
    lock, installed = folder / "package-lock.json", folder / "node_modules" / ".package-lock.json"
    with (Path(tempfile.gettempdir()) / f"authservice-npm-{os.getuid()}.lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if installed.exists() and installed.stat().st_mtime >= lock.stat().st_mtime:
            return
        command = [npm, "ci", "--silent", "--prefer-offline", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=folder, check=True, timeout=180)


def run(command: list[str], folder: Path, **env: str) -> str:
    """Run a command to its end and return what it said; it fails the test when it fails."""
    environ = {**os.environ, "PATH": PATH, "NO_COLOR": "1", **env}
    done = subprocess.run(
        command, cwd=folder, env=environ, capture_output=True, text=True, timeout=240, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-8000:]
    return said
