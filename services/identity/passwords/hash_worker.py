"""The worker process of the hashing pool; started by `hasher.py` as a script, it imports no code of ours.

Its one argument is by how much it lowers its priority.

One JSON object a line on standard input, one a line back: `{"do": "hash", "password", "scheme", "cost"}`
answers `{"hash"}`; `{"do": "verify", "password", "hash", "even_cost"}` answers `{"matches"}`. It ends when
its input does, so it cannot outlive the service. Passwords are neither logged nor kept. It gets no
environment, hence no secrets.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

import argon2.low_level
import bcrypt

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
    return {"matches": _verify(password, request["hash"], request["even_cost"])}


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


def _verify(password: bytes, stored: str, even_cost: int) -> bool:
    """Compare, and make a miss against a weak bcrypt hash cost what one against `even_cost` does.

    2^c + (2^c + 2^(c+1) + … + 2^(even_cost-1)) rounds are 2^even_cost: an old, cheaper hash must not tell by
    its time that the address has an account.
    """
    if stored.startswith("$argon2id$"):
        try:
            return argon2.low_level.verify_secret(stored.encode(), password, argon2.low_level.Type.ID)
        except argon2.exceptions.VerificationError:
            return False
    try:
        matches = bcrypt.checkpw(password, stored.encode())
    except ValueError:
        return False  # of the right form, and yet no salt
    if not matches:
        for cost in range(int(stored[4:6]), even_cost):
            bcrypt.hashpw(password, bcrypt.gensalt(cost))
    return matches


if __name__ == "__main__":
    main()
