"""What `make up` shows when everything is ready."""

import json
import sys

from local.system import System


def banner(system: System, seconds: float) -> str:
    """Addresses and keys of a started system, and a first request to try."""
    up = system.up
    demo = up["demo"]
    lines = [
        f"AuthService is up ({seconds:.1f} s)",
        "",
        f"  gateway          {up['gateway_url']}",
        f"  gRPC             {up['grpc_address']}",
        f"  API docs         {up['docs_url']}",
        f"  admin key        {up['admin_key']}",
    ]
    if demo:
        login = json.dumps({"email": demo["email"], "password": demo["password"]})
        lines += [
            "",
            f"  demo tenant      {demo['client_id']}",
            f"  API key          {demo['api_key']}",
            f"  publishable key  {demo['publishable_key']}",
            f"  user             {demo['email']}  {demo['password']}",
            "",
            f"  try:  curl {up['gateway_url']}/api/auth/login -H 'X-API-Key: {demo['api_key']}' \\",
            "          -H 'Content-Type: application/json' \\",
            f"          -d '{login}'",
        ]
    lines += [
        "",
        f"  all of it in {system.folder}/up.json and {system.folder}/env, logs in {system.folder}/logs",
        "  Ctrl-C stops everything; data stays",
    ]
    return "\n".join(_bold(line) if number == 0 else line for number, line in enumerate(lines))


def _bold(line: str) -> str:
    return f"\033[1m{line}\033[0m" if sys.stdout.isatty() else line
