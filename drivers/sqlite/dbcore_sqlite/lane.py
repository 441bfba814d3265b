"""Writers of one pool line up: the admission gate before the checkout, the writer lane after it.

SQLite has one writer at a time. Its own lock is unfair and ends in "database is locked"; here the first to come is the
first to write. The lane belongs to a connection, not to a task. It goes on when that connection's COMMIT stands in the
line of the writer's thread, for whatever comes next is run behind it there; otherwise when the transaction has really
ended. The gate keeps most of those who will need the lane from holding a connection while they wait for it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Any

from dbcore.errors import PoolDeadlock, PoolTimeout
from dbcore.loops import current_task
from dbcore.pool import Release
from dbcore.refusals import stopped
from dbcore.stats import Holder, Stats

if TYPE_CHECKING:
    from dbcore_sqlite.connection import Connection

__all__ = ["Gate", "Lane", "Line"]

Report = Callable[[], tuple[Stats | None, tuple[Holder, ...]]]


def _nothing() -> tuple[None, tuple[Holder, ...]]:
    return None, ()


class Line:
    """Places for `width` at a time; everyone else stands in line, first come, first served, and nobody passes."""

    __slots__ = ("__weakref__", "_closed", "_due", "_free", "_timer", "_waiting", "name", "report", "timeout")

    def __init__(self, width: int, *, name: str, timeout: float) -> None:
        self.name = name
        self.timeout = timeout
        self.report: Report = _nothing
        """Asked for stats and holders when somebody's time is up."""
        self._free = width
        self._waiting: OrderedDict[asyncio.Future[None], tuple[float, float]] = OrderedDict()
        """Each with the time by which it gives up, and the limit to name then."""
        self._timer: asyncio.TimerHandle | None = None
        self._due = inf
        """What the timer is set for: nobody's time is up before that. One timer for all, for most never need it."""
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def enter_now(self) -> bool:
        """Take a place if one is free. Places are handed over, so while one is free nobody waits."""
        if self._free and not self._closed:
            self._free -= 1
            return True
        return False

    async def enter(self, timeout: float | None = None, *, left: float | None = None) -> None:
        """Take a place, in turn. Raises `PoolTimeout` and `PoolClosed`; a caller that is cancelled keeps nothing.

        `left` is what is left of the timeout, if the caller has spent some of it elsewhere.
        """
        if self.enter_now():
            return
        if self._closed:
            raise stopped(self.name)
        limit = self.timeout if timeout is None else timeout
        seconds = limit if left is None else left
        if seconds <= 0:
            raise self._too_late(limit)
        loop = asyncio.get_running_loop()
        place: asyncio.Future[None] = loop.create_future()
        deadline = loop.time() + seconds
        self._waiting[place] = deadline, limit
        if deadline < self._due:
            self._watch(loop, deadline)
        try:
            await place
        except BaseException:
            self._waiting.pop(place, None)
            if place.done() and not place.cancelled() and place.exception() is None:
                self.leave()  # given in the same turn in which the caller was cancelled: it goes on to the next
            raise

    def leave(self) -> None:
        """Give a place to whoever has waited longest."""
        while self._waiting:
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                place.set_result(None)
                return
        self._free += 1

    def close(self) -> None:
        """Let nobody in any more; those who wait fail with `PoolClosed`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        while self._waiting:
            place, _ = self._waiting.popitem(last=False)
            if not place.done():
                place.set_exception(stopped(self.name))

    def _watch(self, loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = deadline
        # The timer may outlast those that it was set for, and must not keep a pool that nobody refers to any more.
        this: weakref.ref[Line] = weakref.ref(self)
        self._timer = loop.call_at(deadline, _expire, this)

    def expire(self) -> None:
        """Fail those whose time is up, and set the timer for the next."""
        due, self._due, self._timer = self._due, inf, None
        for place, (deadline, limit) in list(self._waiting.items()):
            if deadline <= due and not place.done():
                del self._waiting[place]
                place.set_exception(self._too_late(limit))
        if self._waiting:
            loop = next(iter(self._waiting)).get_loop()
            self._watch(loop, min(deadline for deadline, _ in self._waiting.values()))

    def _too_late(self, limit: float) -> PoolTimeout:
        stats, holders = self.report()
        writing = [str(holder) for holder in holders if holder.in_transaction]
        return PoolTimeout(
            f"pool {self.name!r}: other writers were in front for {limit:g} s; SQLite has one at a time. "
            + (f"In a transaction: {'; '.join(writing)}. " if writing else "")
            + "Keep write transactions short, use read_only=True for those that only read, or raise "
            "pool.checkout_timeout.",
            reason="writers",
            stats=stats,
            holders=holders,
        )


def _expire(line: weakref.ref[Line]) -> None:
    alive = line()
    if alive is not None:
        alive.expire()


class Lane:
    """The right to write, held by one connection at a time; with `everything`, to read as well."""

    __slots__ = ("admitted", "everything", "gate", "line", "owner", "task")

    def __init__(self, line: Line, gate: Line, *, everything: bool) -> None:
        self.line = line
        self.gate = gate
        self.everything = everything
        """There is no WAL: readers and writers shut each other out, so every statement needs the lane."""
        self.admitted: dict[asyncio.Task[Any], tuple[float, float]] = {}
        """The tasks behind the gate: how many seconds each has for gate, checkout and lane, and until when."""
        self.owner: Connection | None = None
        self.task: asyncio.Task[Any] | None = None
        """The task that took it for its owner, as long as the connection is held: then it would wait for itself."""

    def take_now(self, connection: Connection) -> bool:
        if self.owner is connection:
            return True
        if self.line.enter_now():
            self.owner = connection
            self.task = current_task(connection.loop)
            return True
        return False

    async def take(self, connection: Connection, timeout: float | None = None) -> None:
        """Wait for the lane. Raises `PoolTimeout`, and `PoolDeadlock` for a task that would wait for itself.

        A task behind the gate has what its admission has left.
        """
        if self.take_now(connection):
            return
        task = asyncio.current_task()
        self.refuse_own(task)
        admission = self.admitted.get(task) if task is not None else None
        if admission is None:
            await self.line.enter(timeout)
        else:
            limit, deadline = admission
            await self.line.enter(limit, left=deadline - asyncio.get_running_loop().time())
        self.owner = connection
        self.task = task

    def refuse_own(self, task: asyncio.Task[Any] | None) -> None:
        if task is not None and self.task is task:
            what = "without WAL there is one user at a time" if self.everything else "SQLite has one writer at a time"
            raise PoolDeadlock(
                f"pool {self.line.name!r}: task {task.get_name()!r} waits for itself: it has a transaction or a "
                f"stream open on another connection, and {what}. End that first, or do this inside of the transaction."
            )

    def dismiss(self, task: asyncio.Task[Any] | None) -> None:
        """Give back the admission of a task, if it has one, before its block ends: it has no use for it now."""
        if task is not None and self.admitted.pop(task, None) is not None:
            self.gate.leave()

    def let_go(self, connection: Connection) -> None:
        """Note that nobody holds the owner any more: its reset gives the lane back, whatever its last task does.

        The admission of that task goes with it, for nobody gives back that of a transaction that was dropped.
        """
        if self.owner is connection:
            self.dismiss(self.task)
            self.task = None

    def give(self, connection: Connection) -> None:
        """Give the lane to the next in line; nothing happens if it is not this connection's."""
        if self.owner is connection:
            self.owner = self.task = None
            self.line.leave()


class Gate:
    """Lets a few write transactions at a time go on to their checkout; `admit` is `PoolOps.admit`."""

    __slots__ = ("_lane", "_line", "_report")

    def __init__(self, lane: Lane) -> None:
        self._line = lane.gate
        self._lane = lane
        self._report: Report = _nothing
        """Kept alive here alone, for as long as there is a pool."""

    async def admit(self, timeout: float | None = None) -> Release:
        """Wait to be let in; the returned function lets the next one in.

        A task that has been let in already passes at once, for it could only wait for itself here.
        """
        loop = asyncio.get_running_loop()
        task = current_task(loop)
        self._lane.refuse_own(task)
        if task is None or task in self._lane.admitted:
            return _no_release
        limit = self._line.timeout if timeout is None else timeout
        deadline = loop.time() + limit
        if not self._line.enter_now():
            await self._line.enter(limit)
        lane = self._lane
        place = lane.admitted[task] = limit, deadline

        def release() -> None:
            if lane.admitted.get(task) is place:  # not dismissed in the meantime, and perhaps admitted again
                del lane.admitted[task]
                lane.gate.leave()

        return release

    def close(self) -> None:
        """Admit nobody any more; those who wait fail with `PoolClosed`. Who is inside may still write."""
        self._line.close()

    def report_with(self, stats: Callable[[], Stats] | None, holders: Callable[[], tuple[Holder, ...]] | None) -> None:
        """Say who is asked for the facts in a `PoolTimeout`, here and in the lane."""

        def report() -> tuple[Stats | None, tuple[Holder, ...]]:
            return (stats() if stats else None), (holders() if holders else ())

        # Connections know the lane, and a worker of aiosqlite knows its connection for as long as it runs: if they
        # knew the pool as well, one that nobody refers to any more would never be collected.
        known = weakref.ref(report)

        def report_if_alive() -> tuple[Stats | None, tuple[Holder, ...]]:
            alive = known()
            return alive() if alive is not None else _nothing()

        self._report = report
        self._line.report = self._lane.line.report = report_if_alive


def _no_release() -> None:
    """The admission belongs to an outer transaction of the same task."""
