"""Secrets at rest: AES-256-GCM under `MASTER_KEY`, with a key id so that the key can be replaced.

A sealed value is `version (1) | key id (4) | nonce (12) | ciphertext and tag`. The associated data is the
identity of the row that holds it, so a value copied into another row does not open (NIST SP 800-38D §5.2).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = b"\x01"
_KEY_BYTES = 32


class SealBroken(Exception):
    """A sealed value does not open: an unknown key, another row's value, or changed bytes."""


def derive_key(root: bytes, info: str) -> bytes:
    """Derive a 256-bit key for one purpose (HKDF-SHA256, RFC 5869)."""
    return HKDF(algorithm=hashes.SHA256(), length=_KEY_BYTES, salt=None, info=info.encode()).derive(root)


def parse_key(text: str) -> bytes:
    """Decode a configured root key: base64url or hex of at least 32 bytes.

    Raises:
        ValueError: it is neither, or too short.
    """
    for decode in (bytes.fromhex, lambda value: base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))):
        try:
            key = decode(text.strip())
        except (ValueError, binascii.Error):
            continue
        if len(key) >= _KEY_BYTES:
            return key
    raise ValueError("expected at least 32 random bytes as base64url or hex")


class Sealer:
    """Seals with the current master key, opens with it and with the previous ones."""

    def __init__(self, master_key: bytes, *previous: bytes) -> None:
        """Derive the sealing keys once."""
        self._roots = {_key_id(root): root for root in (master_key, *previous)}
        self._ciphers = {key_id: AESGCM(derive_key(root, "seal")) for key_id, root in self._roots.items()}
        self.key_id = _key_id(master_key)
        self.key_ids = frozenset(self._roots)

    def seal(self, plaintext: bytes, row: str) -> bytes:
        """Encrypt for the row named by `row`, such as `signing_key:<kid>`."""
        nonce = secrets.token_bytes(12)
        return (
            _VERSION
            + self.key_id
            + nonce
            + self._ciphers[self.key_id].encrypt(nonce, plaintext, row.encode())
        )

    def open(self, sealed: bytes, row: str) -> bytes:
        """Decrypt what `seal` made for the same row.

        Raises:
            SealBroken: the key is unknown, the row is another, or the bytes were changed.
        """
        cipher = self._ciphers.get(sealed[1:5])
        if sealed[:1] != _VERSION or cipher is None:
            raise SealBroken("sealed under a key that is not configured")
        try:
            return cipher.decrypt(sealed[5:17], sealed[17:], row.encode())
        except InvalidTag as error:
            raise SealBroken("the sealed value does not open") from error

    def derive(self, info: str, key_id: bytes | None = None) -> bytes:
        """Derive a key for another purpose from the current root, or from the one with `key_id`.

        Raises:
            SealBroken: no root with that id is configured.
        """
        root = self._roots.get(key_id or self.key_id)
        if root is None:
            raise SealBroken("derived under a key that is not configured")
        return derive_key(root, info)

    def derive_all(self, info: str) -> list[bytes]:
        """Derive a key for another purpose from every root, the current one first."""
        return [derive_key(root, info) for root in self._roots.values()]


def _key_id(root: bytes) -> bytes:
    return hashlib.sha256(b"key-id" + root).digest()[:4]
