"""A full disk (F-09): a clean refusal, nothing half done, and work again once there is room."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from chassis.tests.conftest import Notes
from local.servers import Servers

FILL = "INSERT INTO notes SELECT gen_random_uuid(), gen_random_uuid(), 'fill' FROM generate_series(1, 500)"


def enlarge(disk: Path) -> None:
    """Give the disk room."""
    subprocess.run(["mount", "-o", "remount,size=16m", str(disk)], check=True)


@pytest.fixture
def small_disk(servers: Servers) -> Iterator[Path]:
    """A disk of one mebibyte that PostgreSQL may write to; needs the right to mount."""
    with tempfile.TemporaryDirectory(prefix="authservice-disk-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "tmpfs", name],
            check=False,
            capture_output=True,
        )
        if mounted.returncode != 0:
            pytest.skip("mounting a small disk is not allowed here")
        try:
            yield folder
        finally:
            subprocess.run(["umount", "--lazy", name], check=True)


async def test_write_when_the_disk_is_full_then_503_and_again_once_there_is_room(
    notes: Notes, small_disk: Path
) -> None:
    caller = notes.caller()
    # Tablespaces want a folder of the server's own user.
    owner = (await notes.sql("SELECT pg_read_file('/proc/self/status') AS status"))[0]["status"]
    uid = int(owner.split("Uid:")[1].split()[0])
    home = small_disk / "tablespace"
    home.mkdir()
    os.chown(home, uid, -1)
    await notes.sql(f"CREATE TABLESPACE small LOCATION '{home}'")
    await notes.sql("ALTER TABLE notes SET TABLESPACE small")
    try:
        assert (await notes.call("POST", "/api/notes", caller, json={"text": "fits"})).status_code == 201
        with pytest.raises(asyncpg.DiskFullError):
            while True:
                await notes.sql(FILL)
        refused = [
            await notes.call("POST", "/api/notes", caller, json={"text": "n" * 100}) for _ in range(80)
        ][-1]
        assert (refused.status_code, refused.json()["code"]) == (503, "database_unavailable")
        assert "disk" not in refused.text
        written = len((await notes.call("GET", "/api/notes", caller)).json())
        enlarge(small_disk)
        assert (await notes.call("POST", "/api/notes", caller, json={"text": "again"})).status_code == 201
        assert len((await notes.call("GET", "/api/notes", caller)).json()) == written + 1
    finally:
        await notes.sql("DELETE FROM notes")
        await notes.sql("ALTER TABLE notes SET TABLESPACE pg_default")
        await notes.sql("DROP TABLESPACE small")
