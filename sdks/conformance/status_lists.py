# ruff: noqa: INP001 - part of a script, not of a package
"""Status lists (draft-ietf-oauth-status-list-21), and tokens that name a place in one."""

import struct
import zlib
from collections.abc import Iterator
from typing import Final

from signing import ABSENT, ISSUER, ISSUER_KID, KEYS, NOW, Json, b64, es256, header, jws, payload

URI: Final = f"{ISSUER}/.well-known/status-lists/3"
# Places 1 and 9 are revoked, one bit each.
OCTETS: Final = bytes([0b00000010, 0b00000010])


def packed(octets: bytes) -> str:
    """ZLIB with one stored block: the same bytes whatever library writes them."""
    length = len(octets)
    block = b"\x01" + struct.pack("<HH", length, length ^ 0xFFFF) + octets
    return b64(b"\x78\x01" + block + struct.pack(">I", zlib.adler32(octets)))


def issuer_header(alg: str = "ES256", kid: str = ISSUER_KID, typ: str = "statuslist+jwt") -> Json:
    """The header of a list."""
    return header(alg, kid, typ=typ)


def status_list(head: Json | None = None, by_client: bool = False, **changed: object) -> str:
    """A list signed by the issuer's own key, or by a client's; ABSENT leaves a claim out."""
    claims: Json = {
        "iss": ISSUER,
        "sub": URI,
        "iat": NOW - 5,
        "exp": NOW + 300,
        "ttl": 10,
        "status_list": {"bits": 1, "lst": packed(OCTETS)},
    }
    claims = {name: value for name, value in {**claims, **changed}.items() if value is not ABSENT}
    key = KEYS.ec if by_client else KEYS.issuer
    return jws(head or issuer_header(), claims, lambda data: es256(data, key))


def token(index: object = 0, uri: object = URI) -> str:
    """A good token with a place in the list."""
    return jws(header(), payload(status={"status_list": {"idx": index, "uri": uri}}))


def status_lists() -> Iterator[Json]:
    """`list` is what stands at `uri`; `expect` is the answer to `token`."""

    def vector(id: str, expect: str, text: str, listed: str | None = None) -> Json:  # noqa: A002
        whole = status_list() if listed is None else listed
        return {"id": id, "uri": URI, "list": whole, "token": text, "expect": expect}

    yield vector("good", "valid", token(0))
    yield vector("revoked", "token_revoked", token(1))
    yield vector("second-octet", "token_revoked", token(9))
    yield vector("last", "valid", token(15))
    yield vector("beyond", "invalid_token", token(16))
    yield vector("no-status", "valid", jws(header(), payload()))
    yield vector("another-mechanism", "valid", jws(header(), payload(status={"other": 1})))
    yield vector("status-null", "valid", jws(header(), payload(status=None)))
    yield vector("status-empty", "valid", jws(header(), payload(status={})))
    for name, status in {"text": URI, "list": [{"status_list": 1}], "number": 0, "false": False}.items():
        yield vector(f"status-{name}", "invalid_token", jws(header(), payload(status=status)))
    wide = status_list(status_list={"bits": 2, "lst": packed(bytes([0b00_10_01_00]))})
    for index, expect in enumerate(("valid", "token_revoked", "token_revoked", "valid", "invalid_token")):
        yield vector(f"two-bits-{index}", expect, token(index), wide)
    yield vector("idx-whole-float", "token_revoked", token(1.0))
    yield vector("idx-whole-float-good", "valid", token(2.0))
    whole_bits = status_list(status_list={"bits": 1.0, "lst": packed(OCTETS)})
    yield vector("list-bits-whole-float", "token_revoked", token(9), whole_bits)
    yield vector("idx-huge", "invalid_token", token(2**53))
    for name, index in {"absent": None, "negative": -1, "text": "0", "fraction": 0.5, "true": True}.items():
        yield vector(f"idx-{name}", "invalid_token", token(index))
    for name, place in {"a-list": [0], "null": None, "text": URI, "empty": {}}.items():
        whole = jws(header(), payload(status={"status_list": place}))
        yield vector(f"place-is-{name}", "invalid_token", whole)
    for name, uri in {
        "absent": None,
        "elsewhere": "https://evil.example/.well-known/status-lists/3",
        "other-path": f"{ISSUER}/status-lists/3",
        "dots": f"{ISSUER}/.well-known/status-lists/../3",
        "query": f"{URI}?x=1",
        "no-number": f"{ISSUER}/.well-known/status-lists/",
        "long": f"{ISSUER}/.well-known/status-lists/{'3' * 13}",
        "host-longer": f"{ISSUER}.evil.example/.well-known/status-lists/3",
    }.items():
        yield vector(f"uri-{name}", "invalid_token", token(0, uri))
    broken = {
        "not-a-jwt": "x",
        # The key of `valid-es256`: whoever signs access tokens does not say which of them hold.
        "client-key": status_list(issuer_header(kid="es-1"), by_client=True),
        "client-key-as-issuers": status_list(by_client=True),
        "typ-access": status_list(issuer_header(typ="at+jwt")),
        "typ-jwt": status_list(issuer_header(typ="JWT")),
        "alg-none": jws(issuer_header("none"), {}, lambda _: b""),
        "iss-other": status_list(iss="https://evil.example"),
        "sub-other": status_list(sub=URI[:-1] + "4"),
        "sub-absent": status_list(sub=ABSENT),
        "exp-past": status_list(exp=NOW),
        "exp-absent": status_list(exp=ABSENT),
        "iat-ahead": status_list(iat=NOW + 3600),
        "ttl-text": status_list(ttl="10"),
        "ttl-negative": status_list(ttl=-1),
        "bits-3": status_list(status_list={"bits": 3, "lst": packed(OCTETS)}),
        "bits-text": status_list(status_list={"bits": "1", "lst": packed(OCTETS)}),
        "not-zlib": status_list(status_list={"bits": 1, "lst": b64(OCTETS)}),
        "cut-short": status_list(status_list={"bits": 1, "lst": packed(OCTETS)[:-4]}),
        "followed": status_list(status_list={"bits": 1, "lst": packed(OCTETS)[:-2] + "AAAA"}),
        "padded": status_list(status_list={"bits": 1, "lst": packed(OCTETS) + "="}),
        "no-list": status_list(status_list=ABSENT),
    }
    for name, listed in broken.items():
        yield vector(f"list-{name}", "revocations_unavailable", token(0), listed)
