"""Staying awake for an answer that is due at once.

An event loop that has nothing to do falls asleep. To be woken costs more than a server needs for a short statement, so
a task that sends one after the other spends half of its time on that. A server on the same machine answers within some
tens of microseconds; one that does not is slept for.
"""

from __future__ import annotations

import asyncio
from time import monotonic

__all__ = ["Awake"]

_WOKEN = 1.5
"""Times the limit within which an answer came soon, if the loop slept meanwhile: it took a while to be woken."""
_DOUBTS = 3
"""Answers that have to come soon, after one that did not, before the loop stays awake for one again."""


class Awake:
    """Keeps the event loop awake while one connection of a pool waits, and no other: several keep it busy as it is.

    Tasks and timers are not held up. The loop goes on turning, for `limit` seconds at most; 0 is for never.
    """

    __slots__ = ("_limit", "_waiting")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._waiting = 0

    async def wait(self, waiter: asyncio.Future[None], doubts: int) -> int:
        """Wait for an answer, awake if there are no doubts that it comes soon; return the doubts about the next one."""
        started = monotonic()
        limit = self._limit
        self._waiting += 1
        awake = not doubts and self._waiting == 1 and limit > 0
        if awake:
            _turn(waiter, started + limit)
        else:
            limit *= _WOKEN
        try:
            await waiter
        finally:
            self._waiting -= 1
        if monotonic() - started >= limit:
            return _DOUBTS
        return doubts - 1 if doubts else 0


def _turn(waiter: asyncio.Future[None], until: float) -> None:
    if not waiter.done() and monotonic() < until:
        waiter.get_loop().call_soon(_turn, waiter, until)
