"""Generate `contracts/gen` from `proto/`; `--check` fails when the committed files are stale.

protoc writes imports relative to the proto root (`from auth.v1 import …`). They are rewritten to live below
`contracts.gen`, so that neither `proto/` nor a package named `auth` must be on `sys.path`.
"""

from __future__ import annotations

import filecmp
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "contracts" / "gen"
IMPORT = re.compile(r"^(from|import) ((?:auth|internal)\b)", re.MULTILINE)
REFERENCE = re.compile(r"\b((?:internal|auth)\.(?:\w+\.)?v1\.\w+_pb2)\b")


def generate(target: Path) -> None:
    """Write the generated package to `target`, which must not exist."""
    target.mkdir(parents=True)
    protos = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    well_known = str(files("grpc_tools") / "_proto")
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    command = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        f"-I{ROOT / 'proto'}",
        f"-I{well_known}",
        *outputs,
        *protos,
    ]
    subprocess.run(command, check=True)
    for path in sorted(target.rglob("*.py*")):
        text = IMPORT.sub(r"\1 contracts.gen.\2", path.read_text())
        if path.suffix == ".pyi":
            text = REFERENCE.sub(lambda match: f"contracts.gen.{match[1]}", text)
            text = text.replace("contracts.gen.contracts.gen.", "contracts.gen.")
        path.write_text(text)
    for folder in [target, *sorted(path for path in target.rglob("*") if path.is_dir())]:
        (folder / "__init__.py").write_text("")


def same(left: Path, right: Path) -> bool:
    """True when both trees hold the same files with the same bytes."""
    names = {path.relative_to(left) for path in left.rglob("*.py*") if "__pycache__" not in path.parts}
    others = {path.relative_to(right) for path in right.rglob("*.py*") if "__pycache__" not in path.parts}
    return names == others and all(filecmp.cmp(left / name, right / name, shallow=False) for name in names)


def main() -> int:
    """Generate, or with `--check` compare."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder) / "gen"
        generate(fresh)
        if "--check" in sys.argv:
            if same(fresh, TARGET):
                return 0
            print("contracts/gen is stale: run `make proto`.", file=sys.stderr)
            return 1
        shutil.rmtree(TARGET, ignore_errors=True)
        shutil.copytree(fresh, TARGET)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
