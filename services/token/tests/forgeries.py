"""The conformance vectors of `sdks/conformance`, made anew for a tenant of the running system.

The generator's sources are loaded with other constants: the issuer, the tenant as client and audience, the
present time, and key names that a key of ours could have. Nothing of them is shared with any validator.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

FOLDER = Path(__file__).resolve().parents[3] / "sdks" / "conformance"
_MODULES = ("signing", "accepted", "forged", "misclaimed")
_KIDS = ("rs-1", "rs-2", "es-1", "ed-1", "hs-1", "issuer.es-1")


def kid_of(name: str, suffix: str) -> str:
    """A key name of our form, 22 characters after what tells the issuer's own, for one of the generator's."""
    of_issuer, dot, rest = name.rpartition(".")
    return f"{of_issuer}{dot}" + f"{rest}-{suffix}".ljust(22, "-")


@contextmanager
def generator(
    *, issuer: str, client_id: UUID, session_id: str, now: int, suffix: str
) -> Iterator[tuple[ModuleType, list[Any]]]:
    """Load the generator for a tenant; its `signing` module, and every vector."""
    constants = {
        "NOW: Final = 1_800_000_000": f"NOW: Final = {now}",
        'ISSUER: Final = "https://auth.example.com"': f'ISSUER: Final = "{issuer}"',
        'AUDIENCE: Final = "https://api.example.com"': f'AUDIENCE: Final = "{client_id}"',
        'CLIENT: Final = "0190f5c0-0000-7000-8000-00000000000a"': f'CLIENT: Final = "{client_id}"',
        "0190f5c0-0000-7000-8000-000000000003": session_id,
        'json.loads((HERE / "keys.json").read_text())': "json.loads(KEYS_JSON)",
    }

    def renamed(text: str) -> str:
        for name in _KIDS:
            text = text.replace(f'"{name}"', f'"{kid_of(name, suffix)}"')
        return text

    made: dict[str, ModuleType] = {}
    try:
        for name in _MODULES:
            source = (FOLDER / f"{name}.py").read_text()
            for old, new in constants.items():
                assert name != "signing" or old in source, old
                source = source.replace(old, new)
            module = ModuleType(name)
            module.__file__ = str(FOLDER / f"{name}.py")
            module.__dict__["KEYS_JSON"] = renamed((FOLDER / "keys.json").read_text())
            sys.modules[name] = made[name] = module
            exec(compile(renamed(source), module.__file__, "exec"), module.__dict__)
        forged = made["forged"]
        groups = (
            made["accepted"].accepted,
            forged.algorithms,
            forged.key_bindings,
            forged.headers,
            forged.serializations,
            forged.signatures,
            made["misclaimed"].claims,
        )
        yield made["signing"], [vector for group in groups for vector in group()]
    finally:
        for name in made:
            del sys.modules[name]
