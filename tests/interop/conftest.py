"""Relying parties as processes of their own, beside the running system."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import NoReturn

import httpx
import pytest

from local.processes import ManagedProcess
from local.service_process import REPOSITORY
from tests.e2e.stack import Stack, Tenant, eventually
from tests.interop.browser import Browser

FOLDER = Path(__file__).parent
START_SECONDS = 20.0
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"

Start = Callable[[str, list[str], int, Mapping[str, str]], Awaitable[str]]
"""Starts a relying party: its name, command, port and environment; answers its address."""


def needs(program: str) -> str:
    """Return where a program is; skip the test where it is not, but in CI fail."""
    found = shutil.which(program, path=_PATH)
    if found is None:
        lacks(program)
    return str(found)


def lacks(what: str) -> NoReturn:
    """Skip the test for what is not on this machine; in CI fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"{what} is not installed")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def node() -> str:
    """Node.js, with the libraries of package-lock.json beside this file."""
    program, npm = needs("node"), needs("npm")
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if not installed.exists() or installed.stat().st_mtime < (FOLDER / "package-lock.json").stat().st_mtime:
        subprocess.run(
            [npm, "ci", "--silent", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=120
        )
    return program


@pytest.fixture
async def start(stack: Stack) -> AsyncIterator[Start]:
    """Start relying parties that stop after the test."""
    started: list[ManagedProcess] = []

    async def begin(name: str, command: list[str], port: int, env: Mapping[str, str]) -> str:
        process = ManagedProcess(
            f"{name}-{port}",
            command,
            folder=stack.system.folder,
            env={"PATH": _PATH, "AUTHSERVICE_URL": stack.base_url, "PORT": str(port), **env},
            cwd=REPOSITORY,
        )
        process.start()
        started.append(process)

        async def listens() -> bool:
            assert process.is_running, process.obituary()
            try:
                await stack.http.get(f"http://127.0.0.1:{port}/")
            except httpx.TransportError:
                return False
            return True

        await eventually(listens, within=START_SECONDS, what=f"{name} serves")
        return f"http://127.0.0.1:{port}"

    yield begin
    for process in started:
        process.stop()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser without cookies."""
    async with Browser() as opened:
        yield opened


async def new_app(stack: Stack, tenant: Tenant, **members: object) -> tuple[str, str]:
    """Register an app of a tenant; its id and its secret, empty for a public one."""
    path = f"/api/admin/clients/{tenant.id}/apps"
    answer = await stack.call("POST", path, stack.admin, json={"name": "Relying party", **members})
    assert answer.status_code == 201, answer.text
    document = answer.json()
    return document["app"]["id"], document.get("client_secret") or ""


PYTHON = sys.executable
