"""Checks the source of the validators of other languages, as far as their tools are installed.

    python -m scripts.check_validators

`node --check` for each JavaScript file, `gofmt` for Go. `go vet` and the tests are part of `make test`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

_SDKS = Path(__file__).resolve().parent.parent / "sdks"
_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/local/go/bin"


def main() -> int:
    """Run the checks; 1 when one fails."""
    is_good = True
    if node := shutil.which("node", path=_PATH):
        for folder in ("src", "test"):
            for file in sorted((_SDKS / "node-validator" / folder).glob("*.js")):
                is_good &= subprocess.run([node, "--check", str(file)], check=False).returncode == 0
    if gofmt := shutil.which("gofmt", path=_PATH):
        command = [gofmt, "-l", str(_SDKS / "go-validator")]
        unformatted = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        if unformatted:
            sys.stderr.write(f"gofmt would change:\n{unformatted}")
            is_good = False
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
