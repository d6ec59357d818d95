"""One-time state in Redis: a challenge that is answered once, in a few attempts, within minutes.

Redis decides with one script, so that twenty requests at two processes get what one may have. State is named
by a token of 256 bits and kept under the token's hash, so that who reads Redis can answer nothing. A flush
loses challenges and revives none; without Redis whatever needs one answers 503 `feature_unavailable`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chassis.errors import Unavailable
from chassis.ids import new_secret

log = structlog.get_logger()

_MAX_TOKEN_LENGTH = 128
_VALUE, _ATTEMPTS = "value", "attempts"

# KEYS: the state. ARGV: attempts allowed. The attempt after the last one takes the state away.
_ATTEMPT = """
local value = redis.call('HGET', KEYS[1], 'value')
if not value then return false end
if redis.call('HINCRBY', KEYS[1], 'attempts', 1) > tonumber(ARGV[1]) then
    redis.call('DEL', KEYS[1])
    return false
end
return value
"""

# KEYS: the state. ARGV: its new value. What was taken, or is too old, stays away.
_REPLACE = """
if redis.call('HEXISTS', KEYS[1], 'value') == 0 then return false end
redis.call('HSET', KEYS[1], 'value', ARGV[1])
return ARGV[1]
"""

_TAKE = """
local value = redis.call('HGET', KEYS[1], 'value')
redis.call('DEL', KEYS[1])
return value
"""


class FeatureUnavailable(Unavailable):
    """The feature needs Redis, which is away or not configured."""

    code = "feature_unavailable"
    detail = "This is not available right now. Try again shortly."


class OneTimeState:
    """Puts, reads, counts attempts at, and takes one-time state; every value is a JSON object."""

    def __init__(self, redis: Redis | None, prefix: str) -> None:
        """Take the client, or None where there is no Redis."""
        self._redis = redis
        self._prefix = prefix
        self._attempt = redis.register_script(_ATTEMPT) if redis else None
        self._take = redis.register_script(_TAKE) if redis else None
        self._replace = redis.register_script(_REPLACE) if redis else None

    async def put(
        self, kind: str, value: Mapping[str, Any], *, ttl: timedelta, token: str | None = None
    ) -> str:
        """Keep a value for `ttl` and return the token that names it, a fresh one unless given.

        Raises:
            FeatureUnavailable: Redis is away; so of every method.
        """
        token = token or new_secret(f"{kind}_")
        name = self._name(kind, token)
        with _reaching():
            pipe = self._client().pipeline(transaction=True)
            pipe.hset(name, mapping={_VALUE: json.dumps(value), _ATTEMPTS: 0})
            pipe.expire(name, ttl)
            await pipe.execute()
        return token

    async def read(self, kind: str, token: str) -> dict[str, Any] | None:
        """Return a value and leave it; None when there is none any more."""
        if len(token) > _MAX_TOKEN_LENGTH:
            return None
        with _reaching():
            return _parsed(await self._client().hget(self._name(kind, token), _VALUE))

    async def replace(self, kind: str, token: str, value: Mapping[str, Any]) -> bool:
        """Put another value in a value's place, for the time it has left; False when there is none."""
        return await self._run(self._replace, kind, token, json.dumps(value)) is not None

    async def attempt(self, kind: str, token: str, *, limit: int) -> dict[str, Any] | None:
        """Count one attempt and return the value; None when it is used up, taken or too old."""
        return await self._run(self._attempt, kind, token, limit)

    async def take(self, kind: str, token: str) -> dict[str, Any] | None:
        """Return a value and remove it: of all who ask, one gets it."""
        return await self._run(self._take, kind, token)

    async def use_once(self, kind: str, name: str, *, ttl: timedelta) -> bool:
        """Remember a name for `ttl`: of all who bring it in that time, the first gets True."""
        with _reaching():
            fresh = await self._client().set(self._name(kind, name), 1, nx=True, px=ttl)
        return bool(fresh)

    async def _run(self, script: Any, kind: str, token: str, *args: int | str) -> dict[str, Any] | None:  # noqa: ANN401 - untyped in redis-py
        self._client()
        if len(token) > _MAX_TOKEN_LENGTH:
            return None
        with _reaching():
            return _parsed(await script(keys=[self._name(kind, token)], args=list(args)))

    def _client(self) -> Redis:
        if self._redis is None:
            raise FeatureUnavailable
        return self._redis

    def _name(self, kind: str, token: str) -> str:
        return f"{self._prefix}{kind}:{hashlib.sha256(token.encode('utf-8', 'surrogatepass')).hexdigest()}"


@contextmanager
def _reaching() -> Iterator[None]:
    try:
        yield
    except (RedisError, TimeoutError, OSError) as error:
        log.warning("redis is away", error=type(error).__name__)
        raise FeatureUnavailable from error


def _parsed(found: bytes | str | None) -> dict[str, Any] | None:
    return json.loads(found) if found else None
