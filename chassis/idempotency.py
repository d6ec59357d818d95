"""`Idempotency-Key`: a repeated POST that creates something gets the first one's answer (24 h, per caller).

The key is claimed by one statement before the work and the answer is kept, sealed, after it. A refusal is
forgotten, so that a corrected request may use the key again.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from chassis.context import CallerContext
from chassis.database import Database
from chassis.errors import Conflict, InvalidRequest, UnprocessableRequest
from chassis.sealing import Sealer

HEADER = "idempotency-key"
_MAX_KEY_LENGTH = 255
_PURGE_SECONDS = 600

Handle = Callable[[Request], Awaitable[Response]]


class KeyInUse(Conflict):
    """The first request with this key is still under way."""

    code = "idempotency_key_in_use"
    detail = "A request with this Idempotency-Key is still being processed."


class KeyReused(UnprocessableRequest):
    """The key was used for a request with another body."""

    code = "idempotency_key_reused"
    detail = "This Idempotency-Key was used for a different request."


class Idempotency:
    """Keeps the answers of one service's creating routes."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        """Take where answers are kept and what seals them: they hold secrets shown once."""
        self._db = db
        self._sealer = sealer
        # Keyed, because a body may hold a password: a plain hash of it could be guessed.
        self._hash_key = sealer.derive("idempotency")

    async def run(self, caller: CallerContext, key: str, request: Request, handle: Handle) -> Response:
        """Handle the request, or return the answer the same request got before.

        Raises:
            KeyInUse: the first one has not been answered yet.
            KeyReused: the key belongs to a request with another query or body.
        """
        if not 0 < len(key) <= _MAX_KEY_LENGTH or not key.isascii():
            raise InvalidRequest("Idempotency-Key must be 1 to 255 ASCII characters.")
        who = f"{caller.client_id}|{caller.user_id}|{caller.admin_id}|{caller.access}"
        key_hash = self._hash(f"{who}|{request.method}|{request.url.path}|{key}".encode())
        request_hash = self._hash(request.url.query.encode() + b"\n" + await request.body())
        kept = await self._claim(key_hash, request_hash)
        if kept is not None:
            return self._replay(kept, key_hash)
        try:
            response = await handle(request)
        except BaseException:
            await asyncio.shield(self._forget(key_hash))
            raise
        await self._keep(key_hash, response)
        return response

    async def purge(self) -> None:
        """Forget answers older than a day, for ever; a job of the service."""
        while True:
            async with self._db.platform() as tx:
                await tx.execute(
                    "DELETE FROM idempotency_keys WHERE created_at < now() - interval '24 hours'"
                )
            await asyncio.sleep(_PURGE_SECONDS)

    async def _claim(self, key_hash: bytes, request_hash: bytes) -> bytes | None:
        """Claim the key for this request, or return the kept answer."""
        async with self._db.platform() as tx:
            claimed = await tx.fetchval(
                """
                INSERT INTO idempotency_keys AS k (key_hash, request_hash, locked_until)
                VALUES ($1, $2, now() + interval '30 seconds')
                ON CONFLICT (key_hash) DO UPDATE
                SET request_hash = EXCLUDED.request_hash, locked_until = EXCLUDED.locked_until,
                    created_at = now(), status = NULL, answer = NULL
                WHERE (k.answer IS NULL AND k.locked_until < now())
                   OR k.created_at < now() - interval '24 hours'
                RETURNING true
                """,
                key_hash,
                request_hash,
            )
            if claimed:
                return None
            row = await tx.fetchrow(
                "SELECT request_hash, answer FROM idempotency_keys WHERE key_hash = $1", key_hash
            )
        if row is None or row["answer"] is None:
            raise KeyInUse(retry_after=1)
        if row["request_hash"] != request_hash:
            raise KeyReused
        answer: bytes = row["answer"]
        return answer

    async def _keep(self, key_hash: bytes, response: Response) -> None:
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]
        answer = {
            "status": response.status_code,
            "headers": headers,
            "body": base64.b64encode(bytes(response.body)).decode(),
        }
        sealed = self._sealer.seal(json.dumps(answer).encode(), f"idempotency:{key_hash.hex()}")
        async with self._db.platform() as tx:
            await tx.execute(
                "UPDATE idempotency_keys SET status = $2, answer = $3 WHERE key_hash = $1",
                key_hash,
                response.status_code,
                sealed,
            )

    async def _forget(self, key_hash: bytes) -> None:
        async with self._db.platform() as tx:
            await tx.execute("DELETE FROM idempotency_keys WHERE key_hash = $1 AND answer IS NULL", key_hash)

    def _replay(self, sealed: bytes, key_hash: bytes) -> Response:
        answer = json.loads(self._sealer.open(sealed, f"idempotency:{key_hash.hex()}"))
        response = Response(base64.b64decode(answer["body"]), status_code=answer["status"])
        response.raw_headers = [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in answer["headers"]
        ]
        response.raw_headers.append((b"idempotent-replayed", b"true"))
        return response

    def _hash(self, value: bytes) -> bytes:
        return hmac.new(self._hash_key, value, hashlib.sha256).digest()
