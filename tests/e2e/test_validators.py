"""The quick starts of the Node and the Go validator, as READMEs print them, before the running system."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from local.processes import ManagedProcess
from local.service_process import REPOSITORY
from tests.e2e.stack import Login, Stack, Tenant, eventually
from tests.other_languages import PATH, install_node_packages, needs, run

NODE = REPOSITORY / "sdks" / "node-validator"
GO = REPOSITORY / "sdks" / "go-validator"
START_SECONDS = 20.0
REVOKED_SECONDS = 1.0


def quick_start(folder: Path, language: str) -> str:
    """The first program of a README in this language."""
    return (folder / "README.md").read_text().split(f"```{language}\n")[1].split("```")[0]


def node_command(folder: Path) -> list[str]:
    """Write the Express app, with the packages it imports in reach; how to run it."""
    node = needs("node")
    install_node_packages(NODE)
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "authservice-validator").symlink_to(NODE)
    (folder / "node_modules" / "express").symlink_to(NODE / "node_modules" / "express")
    (folder / "server.mjs").write_text(quick_start(NODE, "js"))
    return [node, str(folder / "server.mjs")]


def go_command(folder: Path) -> list[str]:
    """Write and build the Go server, with the module as the README gets it; how to run it."""
    go = needs("go")
    offline = {"GOPROXY": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0"}
    (folder / "go.mod").write_text("module quickstart\n\ngo 1.19\n")
    (folder / "main.go").write_text(quick_start(GO, "go"))
    run(["sh", "-c", quick_start(GO, "sh")], folder, AUTHSERVICE=str(REPOSITORY), **offline)
    run([go, "build", "-o", "server", "."], folder, **offline)
    return [str(folder / "server")]


@pytest.fixture
async def apps(stack: Stack, shop: Tenant, tmp_path: Path) -> AsyncIterator[dict[str, str]]:
    """Both servers, for one client; their addresses by language."""
    started: list[ManagedProcess] = []
    addresses: dict[str, str] = {}
    for language, prepare in (("node", node_command), ("go", go_command)):
        folder = tmp_path / language
        folder.mkdir()
        command = await asyncio.to_thread(prepare, folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        env = {
            "PATH": PATH,
            "HOME": os.environ.get("HOME", "/"),
            "AUTHSERVICE_URL": stack.base_url,
            "CLIENT_ID": shop.id,
            "API_KEY": shop.api_key,
            "PORT": str(port),
        }
        name = f"quick-start-{language}-{shop.id}"
        process = ManagedProcess(name, command, folder=stack.system.folder, env=env, cwd=folder)
        process.start()
        started.append(process)
        addresses[language] = f"http://127.0.0.1:{port}"
    for process, address in zip(started, addresses.values(), strict=True):

        async def lives(process: ManagedProcess = process, address: str = address) -> bool:
            assert process.is_running, process.obituary()
            try:
                return (await stack.http.get(f"{address}/orders")).status_code == 401
            except httpx.TransportError:
                return False

        await eventually(lives, within=START_SECONDS, what=f"{process.name} serves")
    yield addresses
    for process in started:
        process.stop()


async def answers(stack: Stack, apps: dict[str, str], token: str) -> dict[str, tuple[int, str]]:
    """What both say to a token: the status, and the user or the code."""
    headers = {"authorization": f"Bearer {token}"}
    found = {}
    for language, address in apps.items():
        answer = await stack.http.get(f"{address}/orders", headers=headers)
        body = answer.json()
        found[language] = (answer.status_code, body.get("user") or body["code"])
    return found


async def assert_let_in(stack: Stack, apps: dict[str, str], user: Login) -> None:
    """Both let the user in."""
    expected = dict.fromkeys(apps, (200, user.user_id))
    assert await answers(stack, apps, user.access_token) == expected


async def test_validators_when_sessions_end_and_keys_rotate_then_refuse_and_accept_at_once(
    stack: Stack, shop: Tenant, apps: dict[str, str]
) -> None:
    user = await stack.sign_up(shop)
    await assert_let_in(stack, apps, user)

    # Three keys in a row: the next one was known before it signed, and one that was not is looked for.
    for _ in range(3):
        path = f"/api/admin/clients/{shop.id}/rotate-signing-key?force=true"
        rotated = await stack.call("POST", path, stack.admin)
        assert rotated.status_code == 200, rotated.text
        again = await stack.log_in(user)
        await assert_let_in(stack, apps, again)
        await assert_let_in(stack, apps, user)

    refused = dict.fromkeys(apps, (401, "invalid_token"))
    stranger = await stack.sign_up(await stack.tenant())
    forged = user.access_token[:-4] + ("AAAA" if user.access_token[-4:] != "AAAA" else "BBBB")
    unsigned = user.access_token.rpartition(".")[0] + "."
    for token in (stranger.access_token, forged, unsigned, "x"):
        assert await answers(stack, apps, token) == refused

    body = {"refresh_token": user.refresh_token}
    ended = await stack.call("POST", "/api/auth/logout", shop, json=body)
    assert ended.status_code == 204, ended.text
    dead = dict.fromkeys(apps, (401, "token_revoked"))

    async def are_refused() -> bool:
        return await answers(stack, apps, user.access_token) == dead

    await eventually(are_refused, within=REVOKED_SECONDS, what="both refuse the token of an ended session")
    await assert_let_in(stack, apps, again)
