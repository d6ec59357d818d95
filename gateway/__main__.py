"""`python -m gateway serve`."""

from __future__ import annotations

import sys

from chassis.service import serve
from gateway.app import build
from gateway.config import GatewaySettings


def main() -> int:
    """Run the command named in the arguments."""
    match sys.argv[1:]:
        case ["serve"]:
            return serve(GatewaySettings.load(), build)
        case _:
            sys.stderr.write("usage: python -m gateway serve\n")
            return 2


if __name__ == "__main__":
    raise SystemExit(main())
