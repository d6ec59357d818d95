"""A container engine for tests: the one that answers, or Docker's daemon started here, as root."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_START_SECONDS = 30.0
# Its storage cannot lie on a file system that is an overlay itself, as the root of a container is.
_STORAGE = ("overlay2", "vfs")


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers; `host` is its socket."""

    host: str

    def run(self, *arguments: str, timeout: float = 60) -> str:
        """Run a `docker` command and return what it prints."""
        # BuildKit's plugin is not everywhere, and the Dockerfile needs none.
        env = {**os.environ, "DOCKER_HOST": self.host, "DOCKER_BUILDKIT": "0"}
        done = subprocess.run(
            ["docker", *arguments], env=env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, (
            f"docker {' '.join(arguments)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done.stdout

    def answers(self) -> bool:
        """Whether it is there."""
        env = {**os.environ, "DOCKER_HOST": self.host}
        command = ["docker", "version", "--format", "{{.Server.Version}}"]
        done = subprocess.run(command, env=env, capture_output=True, timeout=20, check=False)
        return done.returncode == 0


@contextmanager
def engine() -> Iterator[Engine]:
    """An engine for as long as the block; skips the test, saying why, where there can be none."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed: no image can be built")
    running = Engine(os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock"))
    if running.answers():
        yield running
        return
    daemon = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if daemon is None or os.geteuid() != 0:
        pytest.skip("no container engine answers, and none can be started: that takes dockerd and root")
    with tempfile.TemporaryDirectory(prefix="authservice-docker-", ignore_cleanup_errors=True) as name:
        yield from _started(daemon, Path(name))


def _started(daemon: str, folder: Path) -> Iterator[Engine]:
    """Start the daemon with the first storage that works here."""
    for storage in _STORAGE:
        started = Engine(f"unix://{folder}/docker.sock")
        log = folder / f"{storage}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(_command(daemon, folder, storage), stdout=output, stderr=output)
        try:
            if _until_answering(process, started):
                yield started
                return
        finally:
            process.terminate()
            process.wait(timeout=60)
    pytest.skip(f"dockerd does not start here: {log.read_text()[-500:]}")


def _command(daemon: str, folder: Path, storage: str) -> list[str]:
    """The daemon without a hand in the machine's firewall or routing: containers use the host's network."""
    return [
        daemon,
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--bridge=none",
        f"--storage-driver={storage}",
        f"--data-root={folder}/data",
        f"--exec-root={folder}/exec",
        f"--pidfile={folder}/docker.pid",
        f"--host=unix://{folder}/docker.sock",
    ]


def _until_answering(process: subprocess.Popen[bytes], started: Engine) -> bool:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if started.answers():
            return True
        time.sleep(0.1)
    return False


def base_image(running: Engine, folder: Path) -> str:
    """Make a base image from Debian's packages, for want of a registry: Python and its venv module.

    Returns:
        its name, for BASE_IMAGE.
    """
    if shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed: there is no base image to build on")
    archive = folder / "base.tar"
    command = ["mmdebstrap", "--variant=minbase", "--include=python3,python3-venv,ca-certificates"]
    # The image is thrown away: nothing needs to be on the disk when a package is unpacked.
    command += ["--dpkgopt=force-unsafe-io", "--quiet"]
    if _CA_BUNDLE.exists():
        # The build asks the package index as this machine does, and must believe whom it believes.
        command += [f"--customize-hook=upload {_CA_BUNDLE} {_CA_BUNDLE}"]
    done = subprocess.run(
        [*command, "bookworm", str(archive)], capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"mmdebstrap cannot make a base image here: {done.stderr[-1000:]}")
    settings = [f"--change=ENV {name}={_CA_BUNDLE}" for name in ("SSL_CERT_FILE", "PIP_CERT")]
    running.run("import", *settings, str(archive), "authservice-base:test", timeout=300)
    archive.unlink()
    return "authservice-base:test"
