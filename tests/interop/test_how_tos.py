"""The commands of docs/how-to run as they stand, with a browser and a user in place of the reader's."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from local.service_process import REPOSITORY
from tests.e2e.stack import PASSWORD, Stack
from tests.interop.conftest import needs

HOW_TOS = REPOSITORY / "docs" / "how-to"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SECONDS = 60

SEEN = {
    "cron-job": ['"active": true', '"scope": "reports:read"', "900\n900"],
    "server-app": ['"email":"{email}"', '"{email}"', '{"bye":"done"}'],
    "single-page-app": ["signed in as {email}", "still signed in as {email}", "nobody is signed in"],
    "native-app": ["signed in as {email}"],
    "device": ['"user_code": "', '"{email}"'],
    "mcp-client": ['"http://127.0.0.1:8000/mcp"', "user {user_id}"],
}
"""What the reader of each page sees at the end, and on the way there."""


def test_every_how_to_is_run() -> None:
    pages = {page.stem for page in HOW_TOS.glob("*.md")} - {"README"}

    assert pages == set(SEEN)
    linked = set(re.findall(r"\]\(([a-z-]+)\.md\)", (HOW_TOS / "README.md").read_text()))
    assert linked == pages


@pytest.mark.parametrize("name", SEEN)
async def test_how_to(stack: Stack, tmp_path: Path, name: str) -> None:
    for program in ("curl", "jq", "bash"):
        needs(program)
    tenant = await stack.tenant()
    user = await stack.sign_up(tenant)
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "AUTHSERVICE_URL": stack.base_url,
        "ADMIN_API_KEY": stack.admin.key,
        "CLIENT_ID": tenant.id,
        "EMAIL": user.email,
        "PASSWORD": PASSWORD,
        "BROWSER": f"{tmp_path}/xdg-open %s",
        "PYTHONPATH": str(REPOSITORY),
    }
    if name == "single-page-app":
        needs("npm")
        env["CHROMIUM"] = needs("chromium")
    browser = tmp_path / "xdg-open"
    browser.write_text(f'#!/bin/sh\nexec {sys.executable} -m tests.interop.person "$1"\n')
    browser.chmod(0o755)
    # In a folder of its own, so that what a page writes stays nowhere; it refers to files by the repository.
    for entry in ("examples", ".venv", "sdks"):
        (tmp_path / "here").mkdir(exist_ok=True)
        (tmp_path / "here" / entry).symlink_to(REPOSITORY / entry)
    if name == "single-page-app":
        (tmp_path / "here" / "examples").unlink()
        shutil.copytree(REPOSITORY / "examples", tmp_path / "here" / "examples")
    script = "set -euo pipefail\n" + "".join(_BLOCK.findall((HOW_TOS / f"{name}.md").read_text()))

    seen = await run(script, env, tmp_path / "here")

    for expected in SEEN[name]:
        text = expected.replace("{email}", user.email).replace("{user_id}", user.user_id)
        assert text in seen, seen


async def run(script: str, env: dict[str, str], folder: Path) -> str:
    """Run a script and whatever it starts; all that it printed."""
    with tempfile.TemporaryFile() as printed:
        shell = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            script,
            env=env,
            cwd=folder,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            start_new_session=True,
        )
        code: int | str = f"not done after {_SECONDS} s"
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SECONDS):
                    code = await shell.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
        printed.seek(0)
        seen = printed.read().decode()
    assert code == 0, f"{code}: {seen}"
    return seen
