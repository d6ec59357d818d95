# ruff: noqa: INP001 - a script, not part of a package
"""Writes `vectors.json`: tokens that every AuthService validator must accept, and forgeries it must refuse.

    python sdks/conformance/generate.py            write vectors.json
    python sdks/conformance/generate.py --check    fail when vectors.json is not what this script writes

Signatures are deterministic (PKCS#1 v1.5, RFC 6979, Ed25519, HMAC) and the keys are those of `keys.json`, so
the output is the same everywhere. It shares no code with any validator: a mistake cannot hide by being made
twice.
"""

import hashlib
import json
import sys

from accepted import accepted
from forged import algorithms, headers, key_bindings, serializations, signatures
from misclaimed import claims, refused_keys, revocations
from proofs import MAX_AGE, accepted_proofs, forged_proofs
from requests_to_guard import metadata, requests
from signing import AUDIENCE, CLIENT, HERE, ISSUER, KEYS, LEEWAY, NOW, Json, b64, public_keys
from status_lists import status_lists
from streams import streams


def document() -> Json:
    """The whole of `vectors.json`."""
    groups = (accepted, algorithms, key_bindings, headers, serializations, signatures, claims)
    tokens = [vector._asdict() for group in groups for vector in group()]
    for vector in tokens:
        if vector["settings"] is None:
            del vector["settings"]
    proofs = [proof._asdict() for proof in (*accepted_proofs(), *forged_proofs())]
    whole = {
        "about": "Written by generate.py; see README.md. The keys are test keys and protect nothing.",
        "verifier": {
            "issuer": ISSUER,
            "audience": AUDIENCE,
            "client_id": CLIENT,
            "token_uses": ["access"],
            "leeway": LEEWAY,
            "now": NOW,
        },
        "sources": {"jwks": KEYS.jwks, "hs256": {"secret": b64(KEYS.secret), "kid": "hs-1"}},
        "tokens": tokens,
        "refused_secrets": [{"id": name, "attack": "J-02", "secret": b64(raw)} for name, raw in public_keys()]
        + [
            {"id": f"weak-{length}", "attack": "J-03", "secret": b64(bytes(range(length)))}
            for length in (0, 1, 16, 31)
        ]
        + [{"id": "weak-zeros", "attack": "J-03", "secret": b64(bytes(64))}],
        "refused_keys": list(refused_keys()),
        "revocations": list(revocations()),
        "streams": list(streams()),
        "status_lists": list(status_lists()),
        "proof_verifier": {"max_age": MAX_AGE, "leeway": LEEWAY, "now": NOW},
        "proofs": proofs,
        "requests": list(requests()),
        "metadata": list(metadata()),
    }
    for group, entries in whole.items():
        ids = [entry["id"] for entry in entries if "id" in entry] if isinstance(entries, list) else []
        if len(set(ids)) != len(ids):
            raise ValueError(f"two {group} have one id: {sorted(i for i in ids if ids.count(i) > 1)}")
    return whole


def main(arguments: list[str]) -> int:
    """Write the file, or compare it."""
    written = json.dumps(document(), indent=1, ensure_ascii=True) + "\n"
    target = HERE / "vectors.json"
    if arguments == ["--check"]:
        fresh = target.read_text() == written
        sys.stdout.write(f"vectors.json is {'fresh' if fresh else 'stale: run generate.py'}\n")
        return 0 if fresh else 1
    target.write_text(written)
    count = len(json.loads(written)["tokens"])
    sys.stdout.write(f"{count} tokens, {hashlib.sha256(written.encode()).hexdigest()[:12]}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
