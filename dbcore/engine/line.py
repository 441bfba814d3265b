"""The line of those who wait, and when the time of each is up.

Nearly always the first in line is also the first whose time is up, so one timer serves the whole line; a timer for
each waiter would cost as much as all the rest of the waiting.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine import explaining
from dbcore.engine.slots import Slot

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Line"]

C = TypeVar("C")


class Line(Generic[C]):
    """Puts waiters into the books' line, and fails those whose time is up."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine
        self._waiters: OrderedDict[asyncio.Future[Slot[C]], tuple[float, float]] = engine.books.waiters
        """Each with the time by which it gives up, as far as the shared timer is concerned, and its limit."""
        self._last = -math.inf
        """The latest deadline in the line. Who comes with an earlier one than that gets a timer of his own."""
        self._timer: asyncio.TimerHandle | None = None
        self._when = -math.inf
        """What the timer is set for. Not asked of it: for what is due at once some loops return a handle without."""

    def join(self, deadline: float, limit: float) -> asyncio.Future[Slot[C]]:
        """Stand at the end of the line for `limit` seconds. The future fails with `PoolTimeout` at the deadline."""
        engine = self._engine
        future: asyncio.Future[Slot[C]] = engine.loop.create_future()
        if not self._waiters:
            self._last = -math.inf
            if self._timer is not None and deadline < self._when:  # it was set for somebody who was served
                self.close()
        if deadline >= self._last:
            self._last = deadline
            self._waiters[future] = deadline, limit
            if self._timer is None:
                self._set_timer(deadline)
        else:
            self._waiters[future] = math.inf, limit
            timer = engine.loop.call_at(deadline, self._fail, future, limit)
            future.add_done_callback(lambda _: timer.cancel())
        return future

    def close(self) -> None:
        """Nobody waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def shortest_limit(self) -> float:
        """Of those who wait; infinite when nobody does."""
        return min((limit for _, limit in self._waiters.values()), default=math.inf)

    def expire(self) -> None:
        """Fail those whose time is up, and set the timer for the next one."""
        now = max(self._engine.now(), self._when)  # a loop rounds: to it this time has come
        self._timer = None
        due: list[tuple[asyncio.Future[Slot[C]], float]] = []
        for future, (deadline, limit) in self._waiters.items():
            if deadline == math.inf:
                continue  # it has a timer of its own
            if deadline > now:
                self._set_timer(deadline)
                break
            due.append((future, limit))
        for future, limit in due:
            self._fail(future, limit)

    def _set_timer(self, when: float) -> None:
        self._when = when
        self._timer = self._engine.call_at(when, _expire)

    def _fail(self, future: asyncio.Future[Slot[C]], limit: float) -> None:
        if not future.done():
            self._waiters.pop(future, None)
            self._engine.tally.timeouts += 1
            future.set_exception(explaining.timed_out(self._engine, limit))


def _expire(engine: Engine[Any]) -> None:
    engine.lending.line.expire()
