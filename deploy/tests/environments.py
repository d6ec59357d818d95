"""What a container is told, whoever runs it: variables and the files that `*_FILE` variables name."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from chassis.settings import Settings
from contracts.topology import GATEWAY

# Prints the settings as the process reads them, names only: values are secrets.
_PROGRAM = """
import importlib, sys
from chassis.settings import Settings
module = importlib.import_module(sys.argv[1])
(settings,) = [
    found for found in vars(module).values()
    if isinstance(found, type) and issubclass(found, Settings) and found.service == sys.argv[2]
]
print(*sorted(settings.load().model_fields_set))
"""


def config_module(process: str) -> str:
    """The module that holds a process's settings."""
    return "gateway.config" if process == GATEWAY else f"services.{process}.config"


def load_settings(process: str, environ: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Load a process's settings in a process of its own, with this environment only."""
    command = [sys.executable, "-c", _PROGRAM, config_module(process), process]
    root = Path(__file__).parent.parent.parent
    return subprocess.run(command, env=environ, cwd=root, capture_output=True, text=True, timeout=60)


def addresses_wanted(process: str) -> set[str]:
    """The fields of a process's settings that say where another one is."""
    module = importlib.import_module(config_module(process))
    (settings,) = [
        found
        for found in vars(module).values()
        if isinstance(found, type) and issubclass(found, Settings) and found.service == process
    ]
    return {name for name in settings.model_fields if name.endswith("_grpc") or name in _URLS}


_URLS = {"identity_url", "token_url", "orgs_url", "federation_url", "audit_url"}
