# ruff: noqa: INP001 - part of a script, not of a package
"""Bytes of the revocation stream, and what a follower must have learned from them."""

import json
from collections.abc import Iterator
from typing import Final

from signing import NOW, Json, payload

SESSION: Final = payload()["sid"]


def event(
    kind: object = "session", ref: object = SESSION, at: object = NOW + 900, expires_at: object = NOW + 900
) -> str:
    """One revocation as it is sent."""
    data = json.dumps({"kind": kind, "ref": ref, "at": at, "expires_at": expires_at}, separators=(",", ":"))
    return f"event: revocation\ndata: {data}\n\n"


SYNCED: Final = "event: synced\ndata: {}\n\n"


def streams() -> Iterator[Json]:
    """`revoked` says whether the token `valid-rs256` is dead afterwards, `state` how much a follower knows.

    `loading`: not all has come; `current`: all has; `broken`: something came that it cannot read.
    """

    def stream(id: str, state: str, revoked: bool, *chunks: str) -> Json:  # noqa: A002
        return {"id": id, "chunks": list(chunks), "state": state, "revoked": revoked}

    hit, miss = event(), event(ref="another")
    yield stream("nothing", "loading", False)
    yield stream("ping", "loading", False, ": ping\n\n")
    yield stream("synced", "current", False, SYNCED)
    yield stream("synced-without-data", "current", False, "event: synced\n\n")
    yield stream("before-synced", "loading", True, hit)
    yield stream("all", "current", True, miss + hit + SYNCED)
    yield stream("news", "current", True, SYNCED, ": ping\n\n", hit)
    yield stream("other", "current", False, SYNCED, miss)
    yield stream("half", "current", False, SYNCED, hit[:-1])
    yield stream("half-line", "current", False, SYNCED, hit[:30])
    yield stream("bytes", "current", True, *(SYNCED + hit))
    yield stream("crlf", "current", True, (SYNCED + hit).replace("\n", "\r\n"))
    yield stream("crlf-split", "current", True, *(SYNCED + hit).replace("\n", "\r\n"))
    yield stream("cr", "current", True, (SYNCED + hit).replace("\n", "\r"))
    yield stream("bom", "current", True, "\ufeff" + SYNCED + hit)
    yield stream("ids", "current", True, "id: 1\n" + SYNCED + "id: 2\nretry: 10\n" + hit)
    yield stream(
        "no-space", "current", True, (SYNCED + hit).replace(": ", ":", 2).replace("event: ", "event:")
    )
    lines = hit.replace('"ref"', '\ndata: "ref"')
    yield stream("data-in-lines", "current", True, SYNCED, lines)
    yield stream("other-event", "current", False, SYNCED, hit.replace("event: revocation", "event: news"))
    yield stream("nameless", "current", False, SYNCED, hit.replace("event: revocation\n", ""))
    yield stream("comment-inside", "current", True, SYNCED, hit.replace("data", ": x\ndata"))
    yield stream("extra-member", "current", True, SYNCED, hit.replace("}", ',"why":"größer"}'))
    for kind, ref in {
        "user": payload()["sub"],
        "client": payload()["client_id"],
        "key": "rs-1",
        "token": payload()["jti"],
    }.items():
        yield stream(f"kind-{kind}", "current", True, SYNCED, event(kind, ref, NOW - 300))
        yield stream(f"kind-{kind}-before", "current", False, SYNCED, event(kind, ref, NOW - 301))
    # What a follower cannot read may have named any token: it must not go on as if it knew all. What comes
    # after still counts.
    for name, bad in {
        "kind": event("planet"),
        "kind-case": event("SESSION"),
        "ref-empty": event(ref=""),
        "ref-number": event(ref=7),
        "at-text": event(at="soon"),
        "at-true": event(at=True),
        "expiry-null": event(expires_at=None),
        "not-json": "event: revocation\ndata: {\n\n",
        "array": "event: revocation\ndata: []\n\n",
        "twice": event().replace("{", '{"ref":"x",'),
    }.items():
        yield stream(f"bad-{name}", "broken", False, SYNCED, bad)
        yield stream(f"bad-{name}-then-good", "broken", True, bad, SYNCED, hit)
