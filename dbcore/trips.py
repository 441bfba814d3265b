"""Trips that statements share: one-shot statements of many tasks leave together, on one connection.

Beside the engine and not in it: a bus holds a connection like anybody else, and gives it back after every trip, so
that nobody who waits for one is passed. A statement that finds no seat at once takes a connection of its own, as if
there were no buses at all.

A slow statement would hold up all behind it. So a text rides only once it has been seen to be quick, lately; one that
takes its time all the same is stopped, loses the right for a while, and is run on a connection of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from threading import get_ident
from typing import Any, Generic, TypeVar, cast

from dbcore.access import UNDONE, Access, log
from dbcore.driver import Result, Sharing
from dbcore.errors import DbConnectionError, twin
from dbcore.loops import clock, current_task
from dbcore.pool import Hold, NotLent
from dbcore.texts import Text

__all__ = ["Trips"]

C = TypeVar("C")

PATIENCE = 0.05
"""Seconds without any outcome after which the statement that is running is stopped."""
CROWD = 3
"""Statements on connections of their own side by side before it pays to send a bus."""
SEATS = 64
"""Statements that leave together. More of them take no less time each, and keep everybody else waiting."""
TEXTS, LONGEST = 1000, 10_000
"""Texts that are remembered, and characters of the longest one."""


AWAY = NotLent()


class _Rider:
    """One statement in the line or on its way, and the future that its task waits for."""

    __slots__ = ("future", "known", "statement")

    def __init__(self, future: asyncio.Future[Any], statement: tuple[str, Sequence[Any]], known: Text) -> None:
        self.future = future
        self.statement = statement
        self.known = known


class _Trip:
    """One bus on its way: who is in it, how far it has come, and what to do when it does not come on."""

    __slots__ = (
        "_arrived",
        "_interrupting",
        "_last",
        "_loop",
        "_now",
        "_riders",
        "_seen",
        "_spawn",
        "_stop_it",
        "_timer",
    )

    def __init__(
        self,
        riders: list[_Rider],
        loop: asyncio.AbstractEventLoop,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        stop_it: Callable[[], Awaitable[None]],
    ) -> None:
        self._riders = riders
        self._loop = loop
        self._spawn = spawn
        self._stop_it = stop_it
        self._arrived = self._seen = 0
        self._now = clock(loop)
        self._last = self._now()
        self._interrupting: asyncio.Task[None] | None = None
        self._timer = loop.call_later(PATIENCE, self._look)

    def report(self, index: int, outcome: Result | BaseException | None) -> None:
        """Tell a rider how its statement ended. See `Sharing`."""
        rider = self._riders[index]
        now = self._now()
        took, self._last = now - self._last, now
        self._arrived = index + 1
        rider.known.rode(took, now)
        future = rider.future
        if future.done():
            pass  # its task did not want to wait any longer
        elif outcome is None:
            future.set_result(UNDONE)
        elif isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)

    def _look(self) -> None:
        """Stop the statement that is running if nothing has arrived since the last look."""
        if self._seen == self._arrived < len(self._riders) and self._interrupting is None:
            self._riders[self._arrived].known.was_slow(self._now())
            self._interrupting = self._spawn(self._interrupt())
        self._seen = self._arrived
        self._timer = self._loop.call_later(PATIENCE, self._look)

    async def _interrupt(self) -> None:
        try:
            await self._stop_it()
        except Exception:
            log.exception("a statement could not be stopped; those behind it go on waiting")
        finally:
            self._interrupting = None

    async def end(self, error: Exception | None) -> None:
        """The trip is over; whoever has not arrived fails with a copy of the error."""
        self._timer.cancel()
        for rider in self._riders[self._arrived :]:
            if not rider.future.done():
                failure = error or AssertionError("bug: the driver reported no outcome for a statement")
                rider.future.set_exception(twin(failure))
        if self._interrupting is not None:  # it must not hit a statement of the next holder
            await asyncio.wait([self._interrupting])


class Trips(Generic[C]):
    """One-shot statements: the line of those that wait for the next bus, the buses, and those that go by themselves."""

    def __init__(self, access: Access[C], sharing: Sharing[C] | None, loop: asyncio.AbstractEventLoop) -> None:
        self._access = access
        self._sharing = sharing
        self._loop = loop
        self._thread = get_ident()
        self._now = clock(loop)
        self._texts: dict[str, Text] = {}
        self._line: list[_Rider] = []
        self._most = sharing.buses if sharing is not None else 0
        self._buses = 0
        self._setting_out: set[Hold[C]] = set()
        """Of buses whose task has not begun yet."""
        self._apart = 0
        """One-shot statements under way on connections of their own, and those who wait for one."""

    # -- a statement ---------------------------------------------------------------------------------------------------

    async def query(self, sql: str, text: str, values: Sequence[Any], timeout: float | None, *, depth: int) -> Result:
        """Run one statement: along with others if that is quicker, else on a connection of its own.

        `depth` says how many frames up from here the place is that asked for it.
        """
        access = self._access
        if timeout is not None:
            access.check_timeout(timeout)
        known = self._texts.get(text) or self._first_look(text)
        if known.until and (future := self._board(text, values, known, depth + 1)) is not None:
            try:
                outcome: Any = await access.run(future, sql, timeout)
            except Exception as error:
                access.fail(error, sql)
            if outcome is not UNDONE:
                return cast("Result", outcome)
        hold, leave = _hold(), None
        self._apart += 1
        try:
            if known.writes or not self._try_lend(hold, depth + 1):
                leave = await access.take(hold, None, depth + 1, writing=known.writes)
                if known.until and self._buses < self._most and (self._line or self._apart > CROWD):
                    # Connections are scarce: this one takes along whoever comes while it is on its way.
                    leading, hold = hold, _hold()
                    outcome = await access.run(self._lead(leading, text, values, known), sql, timeout)
                    if outcome is not UNDONE:
                        return cast("Result", outcome)
                    await access.take(hold, None, depth + 1)
            started = self._now()
            result = await access.run(access.query(hold.lent.connection, text, values), sql, timeout)
            now = self._now()
            known.ran(now - started, now)
        except Exception as error:
            access.fail(error, sql)
        else:
            return result
        finally:
            self._apart -= 1
            access.take_back(hold, AWAY)
            if leave is not None:
                leave()

    def _first_look(self, text: str) -> Text:
        writes = self._access.driver.writes
        short, sharing = len(text) <= LONGEST, self._sharing
        known = Text(
            may=sharing is not None and short and sharing.may(text), writes=writes is not None and writes(text)
        )
        if len(self._texts) >= TEXTS:
            self._texts.clear()
        if short:
            self._texts[text] = known
        return known

    def _board(self, text: str, values: Sequence[Any], known: Text, depth: int) -> asyncio.Future[Any] | None:
        """Join the line for the next bus, if one will leave soon."""
        if not (self._buses or self._apart >= CROWD):
            return None
        if get_ident() != self._thread or current_task(self._loop) is None or self._access.stopped:
            return None  # whoever has no business here is told so on the usual way
        if self._now() >= known.until:
            known.forget()
            return None
        if self._buses < self._most and not self._send_bus(depth + 1) and not self._buses:
            return None
        future: asyncio.Future[Any] = self._loop.create_future()
        self._line.append(_Rider(future, (text, values), known))
        return future

    # -- the buses -----------------------------------------------------------------------------------------------------

    def _send_bus(self, depth: int) -> bool:
        """Set out on a connection that is free now, and say whether there was one."""
        hold = _hold()
        if not self._try_lend(hold, depth + 1):
            return False
        self._set_out(hold)
        return True

    def _try_lend(self, hold: Hold[C], depth: int) -> bool:
        try:
            return self._access.try_lend(hold, depth + 1)
        except Exception:
            return False  # stopped, say: whoever waits for a connection then hears of it

    def _lead(self, hold: Hold[C], text: str, values: Sequence[Any], known: Text) -> asyncio.Future[Any]:
        """Set out on a connection that was waited for, as the first in line."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self._line.insert(0, _Rider(future, (text, values), known))
        self._set_out(hold)
        return future

    def _set_out(self, hold: Hold[C]) -> None:
        self._buses += 1
        self._setting_out.add(hold)
        hold.task = self._access.spawn(self._drive(hold), context=Context())
        hold.task.add_done_callback(partial(self._came_to_nothing, hold))

    def _came_to_nothing(self, hold: Hold[C], _: object) -> None:
        """See to a bus that was cancelled, by whoever cancels every task, before it had begun."""
        if hold in self._setting_out:
            self._setting_out.discard(hold)
            self._access.take_back(hold, AWAY)
            self._buses -= 1
            self._strand()

    async def _drive(self, hold: Hold[C]) -> None:
        """Make trips until nobody waits for one, or somebody else has a right to the connection."""
        self._setting_out.discard(hold)
        current: Hold[C] | None = hold
        try:
            while current is not None:
                await self._trip(current)
                current = await self._change(current)
        finally:
            if current is not None:
                self._access.take_back(current, AWAY)
            self._buses -= 1
            if self._line and not self._buses:
                # Whoever was handed the connection runs before that. If it is one of ours, it takes them along: else a
                # line at the pool that never ends would leave each bus with a single rider.
                self._loop.call_soon(self._strand)

    def _strand(self) -> None:
        """No bus comes for those in line: they go by themselves."""
        if not self._buses:
            for rider in self._line:
                if not rider.future.done():
                    rider.future.set_result(UNDONE)
            self._line.clear()

    async def _trip(self, hold: Hold[C]) -> None:
        riders = [rider for rider in self._line[:SEATS] if not rider.future.done()]
        del self._line[:SEATS]
        if not riders:
            return
        access, sharing, native = self._access, self._sharing, hold.lent.connection
        if sharing is None:
            raise AssertionError("bug: a trip without a driver")
        stop_it = partial(sharing.interrupt, native)
        trip = _Trip(riders, self._loop, access.spawn, stop_it)
        error: Exception | None = DbConnectionError("the connection was cut off", retryable=True)
        try:
            await sharing.run(native, [rider.statement for rider in riders], trip.report)
            error = None
        except Exception as failure:
            error = access.translate(failure)
        finally:
            await trip.end(error)

    async def _change(self, hold: Hold[C]) -> Hold[C] | None:
        """Give the connection back, for somebody may wait for it; take one anew if there are riders."""
        if self._line and self._most == 1:
            # No other bus comes: those who have arrived may want more, and go along with those who wait.
            await asyncio.sleep(0)
        self._access.take_back(hold, AWAY)
        if not self._line:
            await asyncio.sleep(0)  # those who have arrived may want more; who else waits has the connection meanwhile
        if not self._line or not self._try_lend(hold, 1):
            return None
        hold.task = asyncio.current_task()
        return hold


def _hold() -> Hold[Any]:
    hold: Hold[Any] = Hold()
    hold.lent = AWAY
    return hold
