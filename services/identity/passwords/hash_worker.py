"""The worker process of the hashing pool; started by `hasher.py` as a script, it imports no code of ours.

Its one argument is by how much it lowers its priority.

One JSON object a line on standard input, one a line back: `{"do": "hash", "password", "scheme", "cost"}`
answers `{"hash"}`, and `{"do": "verify", "password", "hash", "even_cost", "even_argon2id"}` answers
`{"matches"}`. It ends when its input does, so it cannot outlive the service. Passwords are neither logged nor
kept. It gets no environment, hence no secrets.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import argon2.low_level
import bcrypt

_ARGON2ID = "$argon2id$"
_ARGON2_MEMORY_KIB = 19 * 1024  # OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane
_ARGON2_PASSES = 2
_ARGON2_LANES = 1


def main() -> None:
    """Answer until the input ends."""
    # The service decides when we end; a Ctrl-C in a terminal reaches the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(int(sys.argv[1]))
    for line in sys.stdin.buffer:
        answer = _answer(json.loads(line))
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    password = request["password"].encode()
    if request["do"] == "hash":
        return {"hash": _hash(password, request["scheme"], request["cost"])}
    matches = _verify(password, request["hash"])
    if not matches:
        _even_out(password, request["hash"], request["even_cost"], is_argon2id_due=request["even_argon2id"])
    return {"matches": matches}


def _hash(password: bytes, scheme: str, cost: int) -> str:
    if scheme == "bcrypt":
        return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode()
    return argon2.low_level.hash_secret(
        password,
        os.urandom(16),
        time_cost=_ARGON2_PASSES,
        memory_cost=_ARGON2_MEMORY_KIB,
        parallelism=_ARGON2_LANES,
        hash_len=32,
        type=argon2.low_level.Type.ID,
    ).decode()


def _verify(password: bytes, stored: str) -> bool:
    if stored.startswith(_ARGON2ID):
        try:
            return argon2.low_level.verify_secret(stored.encode(), password, argon2.low_level.Type.ID)
        except argon2.exceptions.VerificationError:
            return False
    try:
        return bcrypt.checkpw(password, stored.encode())
    except ValueError:
        return False  # of the right form, and yet no salt


def _even_out(password: bytes, stored: str, even_cost: int, *, is_argon2id_due: bool) -> None:
    """Make a miss cost what every miss does: a bcrypt of `even_cost`, and an Argon2id when that is due.

    An old hash must not tell by its time that the address has an account. For a cheaper bcrypt hash the rest:
    2^c + (2^c + 2^(c+1) + … + 2^(even_cost-1)) rounds are 2^even_cost.
    """
    if stored.startswith(_ARGON2ID):
        if even_cost:
            bcrypt.hashpw(password, bcrypt.gensalt(even_cost))
        return
    for cost in range(int(stored[4:6]), even_cost):
        bcrypt.hashpw(password, bcrypt.gensalt(cost))
    if is_argon2id_due:
        _hash(password, "argon2id", 0)


if __name__ == "__main__":
    main()
