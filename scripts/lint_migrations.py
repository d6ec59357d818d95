"""Judge the SQL of every migration: it locks no table for long and breaks no process of the version before.

Each service's revisions are written as SQL, without a database, and handed to squawk.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
from importlib import import_module
from pathlib import Path

from alembic import command

from chassis.migrations import alembic_config
from contracts.topology import SERVICES

_SQUAWK = Path(sys.prefix) / "bin" / "squawk"
_EXCLUDED = (
    # chassis.migrations sets a lock timeout on the connection; how long a backfill takes is its own affair.
    "require-lock-timeout",
    "require-statement-timeout",
    # Alembic runs each revision in a transaction that is not written here.
    "prefer-robust-stmts",
    # The version table of Alembic itself.
    "prefer-text-field",
    # Shard numbers, HTTP statuses and the like have a small range by nature.
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
)


def main() -> int:
    """Write the SQL of all services to a folder, lint it, and return squawk's verdict."""
    with tempfile.TemporaryDirectory() as folder:
        files = [_write(service, Path(folder)) for service in SERVICES]
        return subprocess.run([_SQUAWK, f"--exclude={','.join(_EXCLUDED)}", *files], check=False).returncode


def _write(service: str, folder: Path) -> Path:
    definition = import_module(f"services.{service}.app").DEFINITION
    config = alembic_config(definition.migrations, definition.tables, None)
    config.output_buffer = io.StringIO()
    command.upgrade(config, "head", sql=True)
    path = folder / f"{service}.sql"
    path.write_text(config.output_buffer.getvalue())
    return path


if __name__ == "__main__":
    raise SystemExit(main())
