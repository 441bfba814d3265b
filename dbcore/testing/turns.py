"""One connection for a whole program: who has it now, who comes next. The pool of a `sandbox`."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from dbcore.config import Config
from dbcore.errors import PoolClosed, PoolTimeout, UsageError
from dbcore.places import describe, frame_at, outside
from dbcore.pool import PoolOps, Release
from dbcore.stats import Holder, Stats

__all__ = ["Lease", "Level", "Turns"]

C = TypeVar("C")

log = logging.getLogger("dbcore.testing")


@dataclass(eq=False, slots=True)
class Level:
    """A transaction of the application, which is a savepoint here. It is sent when the first statement needs it."""

    name: str
    read_only: bool
    sent: bool = False


@dataclass(eq=False, slots=True)
class Lease:
    """One checkout. A task may have several at a time, one inside of the other."""

    task: asyncio.Task[Any] | None
    site: str
    since: float
    levels: list[Level] = field(default_factory=list[Level])
    """The transaction that is open on it; empty or one."""

    @property
    def task_name(self) -> str:
        return self.task.get_name() if self.task is not None else "(none)"

    @property
    def ended(self) -> bool:
        """Its task has ended and left it behind, as a fixture does that holds a connection for a test."""
        return self.task is not None and self.task.done()


@dataclass(eq=False, slots=True)
class _Waiter:
    task: asyncio.Task[Any] | None
    future: asyncio.Future[None]


class Turns(Generic[C]):
    """The connection belongs to one task at a time, which may check it out more than once.

    Another task is refused, or with `share` stands in line: first come, first served, one future each.
    """

    def __init__(self, native: C, config: Config[Any], *, share: bool) -> None:
        self.native = native
        self.leases: list[Lease] = []
        """The innermost last."""
        self.left_open: list[Level] = []
        """Transactions whose lease was released before their end, lowest first: to be rolled back."""
        self.disorder: str | None = None
        """Why nothing that happens from here on would mean what it says."""
        self._config = config
        self._share = share
        self._loop = asyncio.get_running_loop()
        self._next: asyncio.Task[Any] | None = None
        """Who was woken and has not taken the connection yet."""
        self._waiters: deque[_Waiter] = deque()
        self._closed = False
        self._stopper: asyncio.Task[Any] | None = None
        self._freed: asyncio.Future[None] | None = None
        self._checkouts = self._waited = self._timeouts = self._cancelled = self._refused = 0
        self._wait_seconds = 0.0

    def pool(self) -> PoolOps[C]:
        return PoolOps(
            checkout=self._checkout, stop=self._stop, stats=self._stats, holders=self._holders, drain=self._drain
        )

    # -- checkout ------------------------------------------------------------------------------------------------------

    async def _checkout(self, timeout: float | None = None) -> tuple[C, Release]:
        task = asyncio.current_task()
        if self._closed:
            raise self._stopped()
        if self._is_others(task):
            if not self._share:
                self._refused += 1
                raise UsageError(self._two_at_once(task))
            await self._wait(task, self._config.pool.checkout_timeout if timeout is None else timeout)
        self._next = None
        lease = Lease(task, _site(), self._loop.time())
        self.leases.append(lease)
        self._checkouts += 1
        return self.native, lambda: self._release(lease)

    def _is_others(self, task: asyncio.Task[Any] | None) -> bool:
        if self._next is not None:
            return self._next is not task
        return bool(self.leases) and self.leases[-1].task is not task and not self.leases[-1].ended

    def _two_at_once(self, task: asyncio.Task[Any] | None) -> str:
        holder = self.leases[-1]
        name = task.get_name() if task is not None else "(none)"
        return (
            f"two tasks use the sandbox {self._config.name!r} at once, and it has one connection: task "
            f"{holder.task_name} holds it, since {holder.site}, and task {name} asks for it. Let one end before the "
            "other begins, or let tasks take turns with sandbox(..., share=True)"
        )

    async def _wait(self, task: asyncio.Task[Any] | None, limit: float) -> None:
        self._waited += 1
        if limit <= 0:
            raise self._too_late(limit)
        waiter = _Waiter(task, self._loop.create_future())
        self._waiters.append(waiter)
        timer = self._loop.call_later(limit, self._expire, waiter, limit)
        began = self._loop.time()
        try:
            await waiter.future
        except BaseException as error:
            self._cancelled += isinstance(error, asyncio.CancelledError)
            if waiter.future.done() and not waiter.future.cancelled() and waiter.future.exception() is None:
                self._next = None  # woken in the same turn in which it was cancelled: it goes on to the next
                self._wake()
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise
        finally:
            timer.cancel()
            self._wait_seconds += self._loop.time() - began

    def _expire(self, waiter: _Waiter, limit: float) -> None:
        if not waiter.future.done():
            self._waiters.remove(waiter)
            waiter.future.set_exception(self._too_late(limit))

    def _too_late(self, limit: float) -> PoolTimeout:
        self._timeouts += 1
        holders = self._holders()
        named = "; ".join(map(str, holders)) or "nobody"
        return PoolTimeout(
            f"sandbox {self._config.name!r}: its one connection did not become free within {limit:g} s; held by: "
            f"{named}. A task that waits for other tasks must not hold it meanwhile",
            reason="exhausted",
            stats=self._stats(),
            holders=holders,
        )

    # -- release -------------------------------------------------------------------------------------------------------

    def _release(self, lease: Lease) -> None:
        if lease not in self.leases:
            return
        if lease.levels and lease is not self.leases[-1]:  # what was ended in its name was another one's
            self.disorder = (
                f"task {lease.task_name} left a transaction while another one that began later was still open; the "
                "sandbox has one connection, on which transactions end last in, first out. Nest their blocks"
            )
        self.leases.remove(lease)
        self.left_open.extend(lease.levels)
        if not self.leases or self.leases[-1].ended:
            self._wake()
        if self._freed is not None and not self._freed.done() and not self.held_by_others():
            self._freed.set_result(None)

    def _wake(self) -> None:
        """Hand over to the oldest waiter, by name: nobody gets in between."""
        if self._waiters:
            waiter = self._waiters.popleft()
            self._next = waiter.task
            waiter.future.set_result(None)

    # -- the end -------------------------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        """Refuse everybody, and wait for holders that are not this very task, up to `stop_timeout`."""
        self._closed = True
        self._stopper = asyncio.current_task()
        while self._waiters:
            self._waiters.popleft().future.set_exception(self._stopped())
        if self.held_by_others():
            self._freed = self._loop.create_future()
            timer = self._loop.call_later(self._config.pool.stop_timeout, _give_up, self._freed)
            try:
                await self._freed
            finally:
                timer.cancel()
        if self.held_by_others():
            log.warning(
                "sandbox %s: it ended while its connection was still in use: %s",
                self._config.name,
                "; ".join(map(str, self._holders())),
            )

    def held_by_others(self) -> bool:
        """Whether anybody but the task that stops it may still be at work."""
        return any(lease.task is not self._stopper and not lease.ended for lease in self.leases)

    def _stopped(self) -> PoolClosed:
        return PoolClosed(f"the sandbox {self._config.name!r} is over, or its database was stopped")

    # -- reports -------------------------------------------------------------------------------------------------------

    def _stats(self) -> Stats:
        held = int(bool(self.leases))
        return Stats(
            size=1,
            idle=1 - held,
            in_use=held,
            connecting=0,
            resetting=0,
            closing=0,
            waiting=len(self._waiters),
            min_size=1,
            max_size=1,
            checkouts=self._checkouts,
            waited=self._waited,
            timeouts=self._timeouts,
            cancelled=self._cancelled,
            refused=self._refused,
            connects=1,
            wait_seconds=self._wait_seconds,
        )

    def _holders(self) -> tuple[Holder, ...]:
        now = self._loop.time()
        return tuple(
            Holder(lease.task_name, lease.site, now - lease.since, bool(lease.levels)) for lease in self.leases
        )

    async def _drain(self) -> None:
        """Nothing: the one connection is what the sandbox consists of."""


def _give_up(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _site() -> str:
    """The place outside of this library that asks."""
    frame = frame_at(outside())
    return describe(frame.f_code, frame.f_lasti, asyncio.current_task())
