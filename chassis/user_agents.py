"""What a user calls a device, read from its user agent: `Firefox on Linux`.

Only for services whose extra has `ua-parser`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import lru_cache

_MAX_PARSED = 256
_MAX_REMEMBERED = 4096


async def device_names(user_agents: Iterable[str]) -> list[str]:
    """Return a name for each user agent, in order; `Unknown device` where nothing is recognized.

    An unknown one takes a millisecond or several of regular expressions: hence the thread, and the memory.
    """
    agents = list(user_agents)
    return await asyncio.to_thread(lambda: [_name(agent[:_MAX_PARSED]) for agent in agents])


@lru_cache(maxsize=_MAX_REMEMBERED)
def _name(user_agent: str) -> str:
    # Imported at first use: reading the patterns takes longer than the start of the service should.
    from ua_parser import parse

    parsed = parse(user_agent)
    browser = parsed.user_agent.family if parsed.user_agent else ""
    system = parsed.os.family if parsed.os else ""
    device = parsed.device.model if parsed.device and parsed.device.model else ""
    place = device if device and device.isprintable() else system
    return " on ".join(filter(None, (browser, place))) or "Unknown device"
