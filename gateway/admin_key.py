"""The break-glass admin key: compared in constant time, limited by address, every refusal audited."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict

from chassis.context import CallerContext
from chassis.errors import RateLimited, Unauthenticated
from contracts.events import AdminKeyRefused
from gateway.addresses import limit_key
from gateway.limits import Limits, refusal
from gateway.refusals import AuditQueue

_MAX_BLOCKED = 10_000


class InvalidAdminKey(Unauthenticated):
    """The admin key is wrong, or is not accepted here."""

    code = "invalid_admin_key"
    detail = "A valid admin credential is required."


class AdminKey:
    """Checks `X-Admin-Key`. Its every use is audited by the service that answers the request."""

    def __init__(self, key: str | None, limits: Limits, audit: AuditQueue) -> None:
        """Take the key, or None to refuse every key."""
        self._digest = hashlib.sha256(key.encode()).digest() if key else None
        self._limits = limits
        self._audit = audit
        self._blocked: OrderedDict[str, float] = OrderedDict()

    async def check(self, presented: str, caller: CallerContext, method: str, path: str) -> None:
        """Accept the key or refuse it; an address with too many wrong ones is refused without a look.

        Raises:
            InvalidAdminKey: it is wrong.
            RateLimited: this address gave too many wrong ones.
        """
        source = limit_key(caller.ip)
        until = self._blocked.get(source)
        if until is not None:
            left = until - time.monotonic()
            if left > 0:
                raise RateLimited(retry_after=int(left) + 1)
            del self._blocked[source]
        # Digests have one length, so the comparison's time tells nothing of the key.
        digest = hashlib.sha256(presented.encode("utf-8", "surrogateescape")).digest()
        if self._digest is not None and hmac.compare_digest(digest, self._digest):
            return
        self._audit.record(AdminKeyRefused(method=method, path=path), caller)
        decision = await self._limits.count_wrong_admin_key(caller.ip)
        if not decision.allowed:
            self._blocked[source] = time.monotonic() + decision.reset
            if len(self._blocked) > _MAX_BLOCKED:
                self._blocked.popitem(last=False)
            raise refusal(decision)
        raise InvalidAdminKey
