"""Checkout and release: who gets a connection, who waits, and where a connection goes that comes back.

First come, first served: nobody passes those who wait, and a connection that comes back goes straight to the oldest.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine import explaining, stopping
from dbcore.engine.connecting import again
from dbcore.engine.lease import Lease
from dbcore.engine.phase import RUNNING, Phase, running_loop
from dbcore.engine.slots import Slot, State
from dbcore.errors import PoolExhausted
from dbcore.events import CheckoutFailed, CheckoutServed, ConnectionReleased
from dbcore.places import frame_at

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Lending"]

C = TypeVar("C")

IDLE, IN_USE = State.IDLE, State.IN_USE


class Lending(Generic[C]):
    """Hands connections out and takes them back. All of it decides without awaiting, but for the wait itself."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine
        self._tally = engine.tally
        self.name = engine.name
        self.waiting_tasks: set[asyncio.Task[Any]] = set()
        # Looked up once, for the path that every checkout takes.
        self._books, self._loop, self._now = engine.books, engine.loop, engine.now
        self._is_clean, self._is_usable = engine.hooks.is_clean, engine.hooks.is_usable
        self._observed = engine.observed

    # -- checkout ------------------------------------------------------------------------------------------------------

    def try_checkout(self) -> tuple[C, Lease] | None:
        """Take a connection if that needs no waiting. See `PoolOps.try_checkout`."""
        slot = self._take()
        if slot is None:
            return None
        self._hold(slot, scoped=True)
        return slot.connection, Lease(self, slot)

    async def scoped_checkout(self, timeout: float | None = None) -> tuple[C, Lease]:
        """Take a connection that will be released in this task. See `PoolOps.scoped_checkout`."""
        slot = self._take() or await self._wait(timeout)
        self._hold(slot, scoped=True)
        return slot.connection, Lease(self, slot)

    async def checkout(self, timeout: float | None = None) -> tuple[C, Lease]:
        """Take a connection that may be released from anywhere. See `Checkout`."""
        slot = self._take() or await self._wait(timeout)
        self._hold(slot, scoped=False)
        return slot.connection, Lease(self, slot)

    def _take(self) -> Slot[C] | None:
        """Take an idle connection that is beyond doubt, unless somebody waits."""
        if self._engine.phase is not RUNNING or running_loop() is not self._loop:
            raise self._engine.refusal()
        books = self._books
        idle = books.idle
        if not idle or books.waiters:
            return None
        slot = idle[-1] if books.newest_first else idle[0]
        now = self._now()
        if now >= slot.trusted_until:
            return None
        if not self._is_usable(slot.connection):
            slot.trusted_until = -math.inf
            return None
        if books.newest_first:
            idle.pop()
        else:
            idle.popleft()
        slot.state = IN_USE
        slot.since = now
        if self._observed:
            self._engine.emit(CheckoutServed, waited=0.0)
        return slot

    async def _wait(self, timeout: float | None) -> Slot[C]:
        """Stand in line for a connection, and see to it that one is on its way."""
        engine, books = self._engine, self._books
        started = self._now()
        limit = engine.settings.checkout_timeout if timeout is None else timeout
        task = asyncio.current_task()
        self._admit(started, limit, task)
        if not books.waiters:
            books.growth = 1
        books.min_size = engine.settings.min_size
        future: asyncio.Future[Slot[C]] = self._loop.create_future()
        books.waiters[future] = task
        if task is not None:
            self.waiting_tasks.add(task)
        self._tally.waited += 1
        timer = self._loop.call_at(started + limit, self._expire, future, limit)
        try:
            engine.connecting.hurry(started, limit)
            engine.pump()
            slot = await future
            if slot.state is not IN_USE:  # stop() cut it off between the hand-over and this moment
                raise stopping.closed(engine.name)  # noqa: TRY301  # the handler below sees to the books
        except BaseException as error:
            self._left(future, error, self._now() - started)
            raise
        finally:
            timer.cancel()
            if task is not None:
                self.waiting_tasks.discard(task)
            self._tally.wait_seconds += self._now() - started
        if self._observed:
            engine.emit(CheckoutServed, waited=self._now() - started)
        return slot

    def _admit(self, now: float, limit: float, task: asyncio.Task[Any] | None) -> None:
        """Turn away at once whoever would wait in vain."""
        engine, books, tally = self._engine, self._books, self._tally
        outage, most = engine.connecting.outage, engine.settings.max_waiting
        # Those for whom a connection can be made do not wait for somebody else's.
        beyond = len(books.waiters) - books.connecting - (books.max_size - books.size)
        error: BaseException | None
        if limit <= 0:
            tally.timeouts += 1
            error = explaining.timed_out(engine, limit)
        elif outage is not None and outage.permanent and now < outage.retry_at and not books.live:
            tally.refused += 1
            error = again(outage.error)
        elif most is not None and beyond >= most:
            tally.refused += 1
            error = PoolExhausted(
                f"pool {engine.name!r}: max_waiting = {most} checkouts wait. {engine.stats()}. "
                "Try again later, raise pool.max_waiting, or send less work at once."
            )
        else:
            error = explaining.deadlock(engine, task)
            tally.refused += error is not None
        if error is not None:
            self._report_failure(0.0, error)
            raise error

    def _expire(self, future: asyncio.Future[Slot[C]], limit: float) -> None:
        if not future.done():
            self._books.waiters.pop(future, None)
            self._tally.timeouts += 1
            future.set_exception(explaining.timed_out(self._engine, limit))

    def _left(self, future: asyncio.Future[Slot[C]], error: BaseException, waited: float) -> None:
        """A waiter goes away without a connection. One that it was given in the same turn goes on to the next."""
        self._books.waiters.pop(future, None)
        if isinstance(error, asyncio.CancelledError):
            self._tally.cancelled += 1
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result())
        self._report_failure(waited, error)

    def fail_waiters(self, error: BaseException) -> None:
        """Tell all who wait that they wait in vain."""
        while (waiter := self._books.next_waiter()) is not None:
            self._tally.refused += 1
            waiter.set_exception(again(error))

    def _hold(self, slot: Slot[C], *, scoped: bool) -> None:
        """Note who holds the connection: cheap facts now, words only when somebody asks."""
        task = asyncio.current_task(self._loop)
        slot.task = weakref.ref(task) if task is not None else None
        slot.scoped = scoped
        frame = frame_at(2)
        while frame.f_back is not None and (frame.f_globals.get("__package__") or "").partition(".")[0] == "dbcore":
            frame = frame.f_back
        slot.code, slot.instruction = frame.f_code, frame.f_lasti
        self._tally.checkouts += 1

    # -- release -------------------------------------------------------------------------------------------------------

    def release(self, slot: Slot[C]) -> None:
        """Take a connection back: to the oldest waiter, to the idle line, or into a reset."""
        engine = self._engine
        if slot.state is not IN_USE or engine.phase is Phase.DISOWNED:
            return
        slot.task = None
        if slot.warned:
            slot.warned = False
            engine.log.info("pool %s: the connection that was reported as in use for too long is back", engine.name)
        try:
            clean = self._is_clean(slot.connection)
        except Exception:
            engine.log.exception("pool %s: is_clean raised; the connection will be reset", engine.name)
            clean = False
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
            slot.trusted_until = engine.trust(slot, now)
            books.idle.append(slot)

    def release_dropped(self, slot: Slot[C]) -> None:
        """Take back what nobody holds any more. Called by a finaliser, in any thread."""
        if slot.state is not IN_USE or self._engine.phase is Phase.DISOWNED:
            return
        try:
            self._loop.call_soon_threadsafe(self._take_back, slot)
        except RuntimeError:  # the loop is closed: nobody is left to be served
            self._engine.retirement.abort(slot)

    def _take_back(self, slot: Slot[C]) -> None:
        if slot.state is IN_USE:
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
