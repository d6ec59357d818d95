"""Whether the services behind the gateway are ready, as `/readyz` names them."""

from __future__ import annotations

import asyncio

from chassis.errors import Unavailable
from chassis.probes import Check
from gateway.upstream import Upstream

_SECONDS = 1.0
_OK = 200


def service_check(upstream: Upstream) -> Check:
    """Return a check that asks a service's own `/readyz`."""

    async def check() -> None:
        deadline = asyncio.get_running_loop().time() + _SECONDS
        response = await upstream.request(b"GET", b"/readyz", [], None, deadline)
        try:
            if response.status != _OK:
                raise Unavailable
        finally:
            await response.aclose()

    return check
