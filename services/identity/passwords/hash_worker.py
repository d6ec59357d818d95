"""The worker process of the hashing pool; started by `hasher.py` as a script, it imports no code of ours.

Its one argument is by how much it lowers its priority.

One JSON object a line on standard input, one a line back: `{"do": "hash", "password", "scheme", "cost"}`
answers `{"hash"}`, and `{"do": "verify", "password", "hash", "even_cost", "even_argon2id"}` answers
`{"matches"}`. It ends when its input does, so it cannot outlive the service. Passwords are neither logged nor
kept. It gets no environment, hence no secrets.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import hmac
import json
import os
import signal
import sys
import time
from typing import Any

import argon2.low_level
import bcrypt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

_ARGON2ID = "$argon2id$"
_ARGON2_MEMORY_KIB = 19 * 1024  # OWASP Password Storage Cheat Sheet: 19 MiB, two passes, one lane
_ARGON2_PASSES = 2
_ARGON2_LANES = 1
_MEASURED_COST = 8
_LEAST_COST = 4
_MOST_COST = 16


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
    started = time.process_time()
    matches = _verify(password, request["hash"])
    if not matches:
        even_cost, is_argon2id_due = request["even_cost"], request["even_argon2id"]
        if request["hash"].startswith((_ARGON2ID, "$2")):
            _even_out(password, request["hash"], even_cost, is_argon2id_due=is_argon2id_due)
        else:
            _spend(started + _price_of_a_miss(even_cost, is_argon2id_due=is_argon2id_due))
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
    if stored.startswith(("$argon2id$", "$argon2i$")):
        kind = argon2.low_level.Type.ID if stored.startswith(_ARGON2ID) else argon2.low_level.Type.I
        try:
            return argon2.low_level.verify_secret(stored.encode(), password, kind)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
    if stored.startswith("$pbkdf2-"):
        return _verify_pbkdf2(password, stored)
    if stored.startswith("$firescrypt$"):
        return _verify_firescrypt(password, stored)
    if stored.startswith("{SSHA"):
        return _verify_ssha(password, stored)
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


def _verify_pbkdf2(password: bytes, stored: str) -> bool:
    """Check `$pbkdf2-<digest>$i=<rounds>$<salt>$<hash>` (RFC 8018 §5.2)."""
    _, scheme, rounds, salt, checksum = stored.split("$")
    expected = _decoded(checksum)
    derived = hashlib.pbkdf2_hmac(
        scheme.removeprefix("pbkdf2-"), password, _decoded(salt), int(rounds[2:]), len(expected)
    )
    return hmac.compare_digest(derived, expected)


def _verify_firescrypt(password: bytes, stored: str) -> bool:
    """Check `$firescrypt$ln=,r=,p=$<salt>$<hash>$<separator>$<signer key>`.

    Firebase encrypts the project's signer key by what scrypt derives (github.com/firebase/scrypt).
    """
    _, _, costs, salt, checksum, separator, signer_key = stored.split("$")
    cost, rounds, lanes = (int(part.partition("=")[2]) for part in costs.split(","))
    derived = hashlib.scrypt(
        password,
        salt=_decoded(salt) + _decoded(separator),
        n=2**cost,
        r=rounds,
        p=lanes,
        maxmem=128 * rounds * (2**cost + lanes + 2) + 1024 * 1024,
        dklen=64,
    )
    encryptor = Cipher(algorithms.AES(derived[:32]), modes.CTR(bytes(16))).encryptor()
    return hmac.compare_digest(encryptor.update(_decoded(signer_key)), _decoded(checksum))


def _verify_ssha(password: bytes, stored: str) -> bool:
    """Check `{SSHA}`, `{SSHA256}` or `{SSHA512}`: the digest of password and salt, and then the salt."""
    name, _, encoded = stored.partition("}")
    digest = {"{SSHA": "sha1", "{SSHA256": "sha256", "{SSHA512": "sha512"}[name]
    value = _decoded(encoded.rstrip("="))
    length = hashlib.new(digest).digest_size
    return hmac.compare_digest(hashlib.new(digest, password + value[length:]).digest(), value[:length])


def _decoded(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4))


@functools.cache
def _price_of_a_miss(even_cost: int, *, is_argon2id_due: bool) -> float:
    """Measure the processor seconds that every miss amounts to: once, since it costs as much."""
    started = time.process_time()
    if even_cost:
        bcrypt.hashpw(b"", bcrypt.gensalt(even_cost))
    if is_argon2id_due:
        _hash(b"", "argon2id", 0)
    return time.process_time() - started


@functools.cache
def _price_of_a_round() -> float:
    """Measure one of the 2^cost rounds of bcrypt, in processor seconds."""
    started = time.process_time()
    bcrypt.hashpw(b"", bcrypt.gensalt(_MEASURED_COST))
    return (time.process_time() - started) / float(2**_MEASURED_COST)


def _spend(until: float) -> None:
    """Hash until this process has used so many processor seconds, to about a thousandth of a second."""
    for cost in range(_MOST_COST, _LEAST_COST - 1, -1):
        if _price_of_a_round() * 2**cost <= until - time.process_time():
            bcrypt.hashpw(b"", bcrypt.gensalt(cost))


if __name__ == "__main__":
    main()
