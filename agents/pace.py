"""The pace of requests to an endpoint."""

from __future__ import annotations

import asyncio


class Pace:
    """Spaces requests evenly, and holds all of them back when the endpoint asks for it.

    Args:
        per_minute: Most requests a minute; 0 for no limit.
    """

    def __init__(self, per_minute: float) -> None:
        self._gap_s = 60.0 / per_minute if per_minute else 0.0
        self._next = 0.0

    async def turn(self) -> None:
        """Wait until a request may be sent."""
        now = asyncio.get_running_loop().time()
        start = max(now, self._next)
        self._next = start + self._gap_s
        await asyncio.sleep(start - now)

    def hold(self, seconds: float) -> None:
        """Send no request before `seconds` have passed."""
        self._next = max(self._next, asyncio.get_running_loop().time() + seconds)
