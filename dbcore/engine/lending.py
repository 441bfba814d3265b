"""Checkout and release: who gets a connection, who waits, and where a connection goes that comes back.

First come, first served: nobody passes those who wait, and a connection that comes back goes straight to the oldest.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine import explaining
from dbcore.engine.connecting import again
from dbcore.engine.lease import Lease
from dbcore.engine.line import Line
from dbcore.engine.phase import RUNNING, Phase
from dbcore.engine.slots import Slot, State
from dbcore.errors import PoolExhausted
from dbcore.events import CheckoutFailed, CheckoutServed, ConnectionReleased
from dbcore.loops import current_task, running_loop
from dbcore.places import frame_at, outside
from dbcore.pool import Hold, NotLent
from dbcore.refusals import stopped, time_span

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Lending"]

C = TypeVar("C")

IDLE, IN_USE = State.IDLE, State.IN_USE
weak = weakref.ref

FRESH = 0.001
"""Seconds after its last use in which a connection is not looked at again: the look at a socket costs more than all
the rest of a checkout."""


class Lending(Generic[C]):
    """Hands connections out and takes them back. All of it decides without awaiting, but for the wait itself."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine
        self._tally = engine.tally
        self.name = engine.name
        self.checkouts = 0
        self.waiting_tasks: set[asyncio.Task[Any]] = set()
        self.line: Line[C] = Line(engine)
        # Looked up once, for the path that every checkout takes.
        self._books, self._idle, self._waiters = engine.books, engine.books.idle, engine.books.waiters
        self._loop = engine.loop
        self._newest_first = engine.books.newest_first
        self._now = engine.now
        self._readiness = engine.readiness
        self._observed = engine.observed
        self._plain = not engine.observed
        """Nothing is to be said or done about a connection that comes back as it was."""
        self._note_drop = self._dropped
        self._thread = get_ident()
        """The thread in which connections can be had, as long as the pool runs."""

    def close(self) -> None:
        """From now on whoever asks is refused."""
        self._thread = 0
        self._plain = False

    # -- checkout ------------------------------------------------------------------------------------------------------

    def try_lend(self, hold: Hold[C], depth: int) -> bool:
        """Lend an idle connection that is beyond doubt, unless somebody waits. See `Lender`."""
        task = current_task(self._loop)
        if task is None or get_ident() != self._thread:
            self._check()
        idle = self._idle
        if not idle or self._waiters:
            return False
        slot = idle.pop() if self._newest_first else idle.popleft()
        now = self._now()
        if now >= slot.fresh_until and not self._is_sure(slot, now):
            if self._newest_first:
                idle.append(slot)
            else:
                idle.appendleft(slot)
            return False
        slot.state = IN_USE
        slot.since = now
        slot.holder = weak(hold, self._note_drop)
        frame = frame_at(depth)
        slot.code = frame.f_code
        slot.instruction = frame.f_lasti
        hold.lent = slot
        hold.task = task
        self.checkouts += 1
        if self._observed:
            self._engine.emit(CheckoutServed, waited=0.0)
        return True

    async def lend(self, hold: Hold[C], timeout: float | None, depth: int) -> None:
        """Lend a connection, and wait for it if need be. See `Lender`."""
        if self.try_lend(hold, depth + 1):
            return
        task = current_task(self._loop)
        started = self._now()
        future = self._stand_in_line(started, timeout, task)
        try:
            if self._books.idle or len(self._books.slots) < self._books.max_size:
                self._engine.pump()
            slot = await future
            if slot.state is not IN_USE:  # stop() cut it off between the hand-over and this moment
                raise stopped(self.name)  # noqa: TRY301  # the handler below sees to the books
        except BaseException as error:
            self._left(future, error, started, task)
            raise
        self._waited(started, task)
        if self._observed:
            self._engine.emit(CheckoutServed, waited=self._now() - started)
        # As in `try_lend`, which has no call to spare.
        slot.holder = weak(hold, self._note_drop)
        frame = frame_at(depth)
        slot.code = frame.f_code
        slot.instruction = frame.f_lasti
        hold.lent = slot
        hold.task = task
        self.checkouts += 1

    async def checkout(self, timeout: float | None = None) -> tuple[C, Lease]:
        """Take a connection that may be released from anywhere. See `Checkout`."""
        lease = Lease(self)
        await self.lend(lease, timeout, outside() + 1)
        slot: Slot[C] = lease.lent
        slot.scoped = False
        if lease.task is not None:
            lease.task = weak(lease.task)  # the lease may outlive it
        return slot.connection, lease

    def _check(self) -> None:
        """Refuse the wrong loop or thread, and whoever comes after the end."""
        if self._engine.phase is not RUNNING or running_loop() is not self._loop:
            raise self._engine.refusal()

    def _is_sure(self, slot: Slot[C], now: float) -> bool:
        """Whether an idle connection may be handed out as it is, by its age and by a look at it."""
        if now >= slot.trusted_until:
            return False
        if not self._readiness.is_usable(slot):
            slot.trusted_until = -math.inf
            return False
        slot.fresh_until = min(now + FRESH, slot.trusted_until)
        return True

    # -- waiting -------------------------------------------------------------------------------------------------------

    def _stand_in_line(
        self, now: float, timeout: float | None, task: asyncio.Task[Any] | None
    ) -> asyncio.Future[Slot[C]]:
        """Become the last of those who wait."""
        engine, books = self._engine, self._books
        limit = engine.settings.checkout_timeout if timeout is None else time_span(timeout)
        self._admit(now, limit, task)
        if not books.waiters:
            books.growth = 1
        books.min_size = engine.settings.min_size
        future = self.line.join(now + limit, limit)
        if task is not None:
            self.waiting_tasks.add(task)
        self._tally.waited += 1
        engine.connecting.hurry(now, limit)
        return future

    def _waited(self, started: float, task: asyncio.Task[Any] | None) -> None:
        if task is not None:
            self.waiting_tasks.discard(task)
        self._tally.wait_seconds += self._now() - started

    def _admit(self, now: float, limit: float, task: asyncio.Task[Any] | None) -> None:
        """Turn away at once whoever would wait in vain."""
        engine, books, tally = self._engine, self._books, self._tally
        outage, most = engine.connecting.outage, engine.settings.max_waiting
        error: BaseException | None
        if limit <= 0:
            tally.timeouts += 1
            error = explaining.timed_out(engine, limit)
        elif outage is not None and outage.permanent and now < outage.retry_at and not books.live:
            tally.refused += 1
            error = again(outage.error)
        elif most is not None and self._waiting_for_others() >= most:
            tally.refused += 1
            error = PoolExhausted(
                f"pool {engine.name!r}: max_waiting = {most} checkouts wait. {engine.stats()}. "
                "Try again later, raise pool.max_waiting, or send less work at once.",
                retryable=True,
            )
        else:
            error = explaining.deadlock(engine, task)
            tally.refused += error is not None
        if error is not None:
            self._report_failure(0.0, error)
            raise error

    def _waiting_for_others(self) -> int:
        """How many wait for what others hold: not those for whom one is in nobody's hands, or can be made."""
        books = self._books
        in_nobodys_hands = len(books.idle) + books.resetting + books.connecting
        return len(books.waiters) - in_nobodys_hands - (books.max_size - books.size)

    def _left(
        self, future: asyncio.Future[Slot[C]], error: BaseException, started: float, task: asyncio.Task[Any] | None
    ) -> None:
        """A waiter goes away without a connection. One that it was given in the same turn goes on to the next."""
        self._books.waiters.pop(future, None)
        self._waited(started, task)
        if isinstance(error, asyncio.CancelledError):
            self._tally.cancelled += 1
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result())
        if self._observed:
            self._report_failure(self._now() - started, error)

    def fail_waiters(self, error: BaseException) -> None:
        """Tell all who wait that they wait in vain."""
        while self._books.waiters:
            own = again(error)  # made before the waiter leaves the line, where its time goes on
            if (waiter := self._books.next_waiter()) is not None:
                self._tally.refused += 1
                waiter.set_exception(own)

    # -- release -------------------------------------------------------------------------------------------------------

    def take_back(self, hold: Hold[C], place: NotLent) -> None:
        """Take a connection back from its holder. See `Lender`."""
        slot = hold.lent
        hold.lent = place
        if slot.state is IN_USE:
            self.release(slot)

    def take_back_unused(self, hold: Hold[C], place: NotLent) -> None:
        """Take a connection back that is as it was. See `Lender`."""
        slot = hold.lent
        hold.lent = place
        if slot.state is not IN_USE:
            return
        if self._waiters or slot.awaited or not self._plain:
            self.release(slot)
        else:
            slot.holder = None
            slot.state = IDLE
            self._idle.append(slot)

    def release(self, slot: Slot[C]) -> None:
        """Take a connection back: to the oldest waiter, to the idle line, or into a reset."""
        engine = self._engine
        if slot.state is not IN_USE or engine.phase is Phase.DISOWNED:
            return
        slot.holder = None
        slot.scoped = True
        slot.awaited = False
        if slot.warned:
            slot.warned = False
            engine.log.info("pool %s: the connection that was reported as in use for too long is back", engine.name)
        clean = self._readiness.is_clean(slot)
        now = self._now()
        if self._observed:
            engine.emit(ConnectionReleased, held=now - slot.since)
        if not clean:
            if engine.phase is RUNNING and slot.leave is None:
                engine.readiness.reset(slot)
            else:
                engine.retirement.retire(slot, slot.leave or "stopped")
        elif slot.suspect or slot.leave is not None or now >= slot.expires or engine.phase is not RUNNING:
            slot.idle_since = now
            engine.made_ready(slot)
        else:
            slot.since = slot.idle_since = now
            books = self._books
            if books.waiters:
                waiter = books.next_waiter()
                if waiter is not None:
                    waiter.set_result(slot)
                    return
            slot.state = IDLE
            engine.trust(slot, now)
            self._idle.append(slot)

    def _dropped(self, hold: weakref.ref[Hold[C]]) -> None:
        """Nobody has this hold any more, and it was not given back. Called by a finaliser, in any thread."""
        for slot in list(self._books.slots):
            if slot.holder is hold and slot.state is IN_USE and self._engine.phase is not Phase.DISOWNED:
                try:
                    self._loop.call_soon_threadsafe(self._take_dropped, slot, hold)
                except RuntimeError:  # the loop is closed: nobody is left to be served
                    self._engine.retirement.abort(slot)

    def _take_dropped(self, slot: Slot[C], hold: weakref.ref[Hold[C]]) -> None:
        if slot.state is IN_USE and slot.holder is hold:
            self._engine.log.warning(
                "pool %s: a connection was dropped without being released and is taken back: %s",
                self._engine.name,
                explaining.holder(self._engine, slot),
            )
            self.release(slot)

    def _report_failure(self, waited: float, error: BaseException) -> None:
        if self._observed:
            cancelled = isinstance(error, asyncio.CancelledError)
            self._engine.emit(CheckoutFailed, waited=waited, error=None if cancelled else error)
