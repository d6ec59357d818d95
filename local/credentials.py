"""The secrets of one local system: made at random once, kept in a file for our eyes only."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path


def password() -> str:
    """A random password, safe in URLs and configuration files."""
    return secrets.token_urlsafe(24)


def root_key() -> str:
    """32 random bytes as base64url, the form of MASTER_KEY and INTERNAL_AUTH_KEY."""
    return secrets.token_urlsafe(32)


def write_private(file: Path, content: str) -> None:
    """Replace a file at once, readable for us only at any moment."""
    partial = file.with_name(f"{file.name}.partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text(content)
    partial.replace(file)


class Credentials:
    """Secrets by name; the same at each start in the same folder."""

    def __init__(self, folder: Path) -> None:
        """Read what earlier starts made."""
        self._file = folder / "credentials.json"
        self._known: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}

    def get(self, name: str, make: Callable[[], str] = password) -> str:
        """Return the secret of that name, made by `make` the first time."""
        if name not in self._known:
            self._known[name] = make()
            write_private(self._file, json.dumps(self._known, indent=2))
        return self._known[name]
