"""The engine: does what the books decide. Checkout and release are here, and who runs everything else.

No lock is needed: whatever changes the books does so without awaiting, and whatever awaits acts on a decision that has
been made already. What must survive a caller's cancellation runs in a task of the engine.
"""

from __future__ import annotations

import asyncio
import contextvars
import enum
import logging
import math
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

from dbcore.config import PoolSettings
from dbcore.driver import Hooks
from dbcore.engine import explaining, guards, stopping
from dbcore.engine.connecting import Connecting, again
from dbcore.engine.keeper import Keeper
from dbcore.engine.lease import Lease
from dbcore.engine.readiness import Readiness
from dbcore.engine.slots import Books, Slot, State
from dbcore.engine.starting import Opening
from dbcore.errors import PoolError, PoolExhausted
from dbcore.events import (
    BackgroundError,
    CheckoutFailed,
    CheckoutServed,
    CloseReason,
    ConnectionClosed,
    ConnectionReleased,
    Event,
    Observer,
)
from dbcore.places import frame_at
from dbcore.stats import Holder, Stats

__all__ = ["Engine", "Phase"]

C = TypeVar("C")

IDLE, IN_USE = State.IDLE, State.IN_USE


Work = Literal["connect", "reset", "ping", "close"]
"""What a task of the engine does."""


class Phase(enum.Enum):
    """How far the life of a pool has come."""

    RUNNING = "running"
    STOPPED = "stopped"  # or about to be: from the first call of stop() on
    DISOWNED = "disowned"  # the pool of a parent process


RUNNING = Phase.RUNNING


class Engine(Generic[C]):
    """A pool of connections made by `hooks`. One event loop owns it."""

    phase = Phase.STOPPED

    def __init__(self, hooks: Hooks[C], settings: PoolSettings, name: str, observe: Observer | None) -> None:
        self.hooks = hooks
        self.settings = settings
        self.name = name
        self.log = logging.getLogger("dbcore.pool")
        self.loop = asyncio.get_running_loop()
        self.phase = RUNNING
        self.books: Books[C, asyncio.Future[Slot[C]]] = Books(
            settings.min_size, settings.max_size, newest_first=settings.order == "lifo"
        )
        self.waiting_tasks: set[asyncio.Task[Any]] = set()
        self.opened = Opening()
        self.connecting: Connecting[C] = Connecting(self)
        self.readiness: Readiness[C] = Readiness(self)
        self.keeper: Keeper[C] = Keeper(self)
        self.emptied: asyncio.Future[None] | None = None
        self._stop: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], tuple[Work, Slot[C]]] = {}
        # Tasks of the engine must not carry the context of whoever happened to need a connection.
        self._context = contextvars.copy_context()
        self._observe = observe
        self._pumping = False
        self._snapshot: tuple[Stats, tuple[Holder, ...]] | None = None
        # Looked up once, for the path that every checkout takes.
        self.now = self.loop.time
        self._is_clean, self._is_usable = hooks.is_clean, hooks.is_usable
        trusting = hooks.ping is None or settings.ping_after is None
        self._trust = math.inf if trusting or settings.ping_after is None else settings.ping_after

        self.checkouts = self.waited = self.timeouts = self.cancelled = self.refused = 0
        self.connects = self.connect_failures = self.resets = self.pings = 0
        self.closed_for: dict[CloseReason, int] = {}
        self.wait_seconds = self.connect_seconds = 0.0
        guards.watch(self)

    # -- checkout ------------------------------------------------------------------------------------------------------

    def try_checkout(self) -> tuple[C, Lease] | None:
        slot = self._take()
        if slot is None:
            return None
        self._hold(slot, scoped=True)
        return slot.connection, Lease(self, slot)

    async def scoped_checkout(self, timeout: float | None = None) -> tuple[C, Lease]:
        slot = self._take() or await self._wait(timeout)
        self._hold(slot, scoped=True)
        return slot.connection, Lease(self, slot)

    async def checkout(self, timeout: float | None = None) -> tuple[C, Lease]:
        slot = self._take() or await self._wait(timeout)
        self._hold(slot, scoped=False)
        return slot.connection, Lease(self, slot)

    def _take(self) -> Slot[C] | None:
        """Take an idle connection that is beyond doubt, unless somebody waits: nobody passes those who came first."""
        if self.phase is not RUNNING or _running_loop() is not self.loop:
            raise self._refusal()
        books = self.books
        idle = books.idle
        if not idle or books.waiters:
            return None
        slot = idle[-1] if books.newest_first else idle[0]
        now = self.now()
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
        if self._observe is not None:
            self.emit(CheckoutServed, waited=0.0)
        return slot

    async def _wait(self, timeout: float | None) -> Slot[C]:
        """Stand in line for a connection, and see to it that one is on its way."""
        started = self.now()
        limit = self.settings.checkout_timeout if timeout is None else timeout
        task = asyncio.current_task()
        self._admit(started, limit, task)
        future: asyncio.Future[Slot[C]] = self.loop.create_future()
        if not self.books.waiters:
            self.books.growth = 1
        self.books.min_size = self.settings.min_size
        self.books.waiters[future] = task
        if task is not None:
            self.waiting_tasks.add(task)
        self.waited += 1
        timer = self.loop.call_at(started + limit, self._expire, future, limit)
        try:
            self.connecting.hurry(started, limit)
            self.pump()
            slot = await future
            if slot.state is not IN_USE:  # stop() cut it off between the hand-over and this moment
                raise stopping.closed(self.name)  # noqa: TRY301  # the handler below sees to the books
        except BaseException as error:
            self._left(future, error, self.now() - started)
            raise
        finally:
            timer.cancel()
            if task is not None:
                self.waiting_tasks.discard(task)
            self.wait_seconds += self.now() - started
        if self._observe is not None:
            self.emit(CheckoutServed, waited=self.now() - started)
        return slot

    def _admit(self, now: float, limit: float, task: asyncio.Task[Any] | None) -> None:
        """Turn away at once whoever would wait in vain."""
        books, outage = self.books, self.connecting.outage
        error: PoolError | None = None
        beyond = len(books.waiters) - books.connecting - (books.max_size - books.size)
        if limit <= 0:
            self.timeouts += 1
            error = explaining.timed_out(self, limit)
        elif outage is not None and outage.permanent and now < outage.retry_at and not books.live:
            raised = again(outage.error)
            self.refused += 1
            self._report_failure(0.0, raised)
            raise raised
        elif self.settings.max_waiting is not None and beyond >= self.settings.max_waiting:
            self.refused += 1
            error = PoolExhausted(
                f"pool {self.name!r}: max_waiting = {self.settings.max_waiting} checkouts wait. {self.stats()}. "
                "Try again later, raise pool.max_waiting, or send less work at once."
            )
        else:
            error = explaining.deadlock(self, task)
            self.refused += error is not None
        if error is not None:
            self._report_failure(0.0, error)
            raise error

    def _expire(self, future: asyncio.Future[Slot[C]], limit: float) -> None:
        if not future.done():
            self.books.waiters.pop(future, None)
            self.timeouts += 1
            future.set_exception(explaining.timed_out(self, limit))

    def _left(self, future: asyncio.Future[Slot[C]], error: BaseException, waited: float) -> None:
        """A waiter goes away without a connection. One that it was given in the same turn goes on to the next."""
        self.books.waiters.pop(future, None)
        if isinstance(error, asyncio.CancelledError):
            self.cancelled += 1
        if future.done() and not future.cancelled() and future.exception() is None:
            self.release(future.result())
        self._report_failure(waited, error)

    def _hold(self, slot: Slot[C], *, scoped: bool) -> None:
        """Note who holds the connection: cheap facts now, words only when somebody asks."""
        task = asyncio.current_task(self.loop)
        slot.task = weakref.ref(task) if task is not None else None
        slot.scoped = scoped
        frame = frame_at(2)
        while frame.f_back is not None and (frame.f_globals.get("__package__") or "").partition(".")[0] == "dbcore":
            frame = frame.f_back
        slot.code, slot.instruction = frame.f_code, frame.f_lasti
        self.checkouts += 1

    # -- release -------------------------------------------------------------------------------------------------------

    def release(self, slot: Slot[C]) -> None:
        """Take a connection back: to the oldest waiter, to the idle line, or into a reset."""
        if slot.state is not IN_USE or self.phase is Phase.DISOWNED:
            return
        slot.task = None
        slot.warned = False
        try:
            clean = self._is_clean(slot.connection)
        except Exception:
            self.log.exception("pool %s: is_clean raised; the connection will be reset", self.name)
            clean = False
        now = self.now()
        if self._observe is not None:
            self.emit(ConnectionReleased, held=now - slot.since)
        if not clean:
            if self.phase is RUNNING and slot.leave is None:
                self.readiness.reset(slot)
            else:
                self.retire(slot, slot.leave or "stopped")
        elif slot.suspect or slot.leave is not None or now >= slot.expires or self.phase is not RUNNING:
            slot.idle_since = now
            self.made_ready(slot)
        else:
            slot.since = slot.idle_since = now
            books = self.books
            if books.waiters:
                waiter = books.next_waiter()
                if waiter is not None:
                    waiter.set_result(slot)
                    return
            slot.state = IDLE
            expires, trusted = slot.expires, now + self._trust
            slot.trusted_until = trusted if trusted < expires else expires  # noqa: FURB136  # min() costs three times as much
            books.idle.append(slot)

    def release_dropped(self, slot: Slot[C]) -> None:
        """Take back what nobody holds any more. Called by a finaliser, in any thread."""
        if slot.state is not IN_USE or self.phase is Phase.DISOWNED:
            return
        try:
            self.loop.call_soon_threadsafe(self._take_back, slot)
        except RuntimeError:  # the loop is closed: nobody is left to be served
            self.abort(slot)

    def _take_back(self, slot: Slot[C]) -> None:
        if slot.state is IN_USE:
            self.log.warning(
                "pool %s: a connection was dropped without being released and is taken back: %s",
                self.name,
                explaining.holder(self, slot),
            )
            self.release(slot)

    def made_ready(self, slot: Slot[C]) -> None:
        """A connection can be used again, or for the first time: give it to the oldest waiter, or keep it."""
        now = self.now()
        if self.phase is not RUNNING:
            self.retire(slot, "stopped")
        elif slot.leave is not None:
            self.retire(slot, slot.leave)
        elif now >= slot.expires:
            self.retire(slot, "lifetime")
        elif slot.suspect:
            self.books.move(slot, IDLE, now)
            self.pump()
        else:
            waiter = self.books.next_waiter()
            if waiter is not None:
                self.books.move(slot, IN_USE, now)
                waiter.set_result(slot)
            else:
                self.books.move(slot, IDLE, now)
            slot.trusted_until = min(now + self._trust, slot.expires)

    # -- the end of a connection ---------------------------------------------------------------------------------------

    def retire(self, slot: Slot[C], reason: CloseReason) -> None:
        """Take a connection out for good, politely. Its capacity is free when it is closed, not before."""
        self.books.move(slot, State.CLOSING, self.now())
        self.spawn("close", slot, self._close(slot, reason))

    def drop(self, slot: Slot[C], reason: CloseReason) -> None:
        """Take a connection out for good, at once, without a goodbye where the driver can do that."""
        if slot.state is State.GONE:
            return
        if self.hooks.abort is None:
            if slot.state is not State.CLOSING:
                self.retire(slot, reason)
        else:
            self.abort(slot)
            self._gone(slot, reason)

    def found_dead(self, slot: Slot[C]) -> None:
        """A connection turned out to be dead: whatever killed it may have killed the idle ones too."""
        self.books.suspect_all()
        self.drop(slot, "lost")

    def abort(self, slot: Slot[C]) -> None:
        if self.hooks.abort is not None:
            try:
                self.hooks.abort(slot.connection)
            except Exception as error:
                self.log.exception("pool %s: abort of a connection failed; it is forgotten", self.name)
                self.emit(BackgroundError, during="abort", error=error)

    async def _close(self, slot: Slot[C], reason: CloseReason) -> None:
        try:
            async with asyncio.timeout(self.settings.reset_timeout):
                await self.hooks.close(slot.connection)
        except Exception as error:
            self.log.warning("pool %s: close failed: %s: %s", self.name, type(error).__name__, error)
            self.emit(BackgroundError, during="close", error=error)
            self.abort(slot)
        if slot.state is not State.GONE:
            self._gone(slot, reason)

    def _gone(self, slot: Slot[C], reason: CloseReason) -> None:
        now = self.now()
        self.books.move(slot, State.GONE, now)
        self.closed_for[reason] = self.closed_for.get(reason, 0) + 1
        self.emit(ConnectionClosed, reason=reason, age=now - slot.born)
        self.freed()

    def freed(self) -> None:
        """Capacity came free."""
        if self.phase is RUNNING:
            self.pump()
        elif not self.books.slots and self.emptied is not None and not self.emptied.done():
            self.emptied.set_result(None)

    # -- what the books want -------------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Begin whatever the books want begun. Called whenever something changed that may let work start."""
        if self._pumping or self.phase is not RUNNING:
            return  # the loop below sees the change
        self._pumping = True
        try:
            while self._prove_one() or self._connect_one():
                pass
        finally:
            self._pumping = False

    def _prove_one(self) -> bool:
        books = self.books
        if books.proofs_wanted() <= 0:
            return False
        slot = books.top() if books.waiters else books.first_suspect()
        if slot is None:
            return False
        now = self.now()
        if now >= slot.expires:
            self.retire(slot, "lifetime")
        elif now < slot.trusted_until and self._is_usable(slot.connection):
            self.made_ready(slot)
        else:
            self.readiness.prove(slot)
        return True

    def _connect_one(self) -> bool:
        now = self.now()
        if self.books.connects_wanted(allowed=self.connecting.allowed(now)) <= 0:
            return False
        self.connecting.begin(self.books.open(now))
        return True

    def fail_waiters(self, error: Callable[[], BaseException]) -> None:
        while (waiter := self.books.next_waiter()) is not None:
            self.refused += 1
            waiter.set_exception(error())

    # -- start, stop, drain --------------------------------------------------------------------------------------------

    async def start(self, startup: str) -> None:
        """Open `min_size` connections, or raise why that cannot be, as `startup` says."""
        if startup == "lazy":
            self.books.min_size = 0
        elif self.settings.min_size > 0:
            self.pump()
            try:
                error = await self.opened.wait(self.loop)
            except asyncio.CancelledError:
                await self.stop()
                raise
            if error is not None and startup == "require":
                await self.stop()
                raise error
        self.keeper.schedule()

    async def stop(self) -> None:
        if self.phase is Phase.DISOWNED:
            return
        if self._stop is None:
            if _running_loop() is not self.loop:
                raise guards.wrong_loop(self.name, self.loop)
            self.phase = Phase.STOPPED
            self._stop = self.loop.create_task(
                stopping.stop(self), name=f"stop {self.name}", context=self._context.copy()
            )
        # Whoever waits here may go away; the stop goes on, and a second call joins it.
        await asyncio.shield(self._stop)

    async def drain(self) -> None:
        if self.phase is not RUNNING or _running_loop() is not self.loop:
            raise self._refusal()
        for slot in list(self.books.slots):
            if slot.state is IDLE:
                self.retire(slot, "drained")
            elif slot.state is not State.CLOSING:
                slot.leave = "drained"
        if closing := self.tasks("close"):
            await asyncio.wait(closing)

    def disown(self) -> None:
        """This is a forked child now, and everything here belongs to the parent."""
        self.phase = Phase.DISOWNED

    def __del__(self) -> None:
        # Nobody refers to the pool any more, and it was not stopped: it must not keep sockets and threads.
        if self.phase is RUNNING:
            self.phase = Phase.STOPPED
            for slot in self.books.slots:
                if slot.state is not State.CONNECTING:
                    self.abort(slot)

    # -- tasks and timers ----------------------------------------------------------------------------------------------

    def spawn(self, kind: Work, slot: Slot[C], work: Coroutine[Any, Any, None]) -> None:
        """Run something that must survive its caller, on a slot that nobody else touches meanwhile."""
        task = self.loop.create_task(work, name=f"{kind} {self.name}", context=self._context.copy())
        self._tasks[task] = kind, slot
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        kind, slot = self._tasks.pop(task)
        if task.cancelled():
            # Here and not in the task: one that is cancelled before its first step never runs at all.
            if slot.state is State.CONNECTING:
                self.books.move(slot, State.GONE, self.now())
                self.freed()
            elif slot.state is not State.GONE:
                self.abort(slot)
                self._gone(slot, "cut off")
        elif (error := task.exception()) is not None:
            self.log.error("pool %s: bug in task %s", self.name, task.get_name(), exc_info=error)
            self.emit(BackgroundError, during=kind, error=error)

    def tasks(self, kind: Work | None = None) -> list[asyncio.Task[None]]:
        """Those that are under way."""
        return [task for task, (its, _) in self._tasks.items() if kind is None or its == kind]

    def call_at(self, when: float, function: Callable[[Engine[Any]], None]) -> asyncio.TimerHandle:
        """A timer that does not keep the pool alive: one that nobody refers to any more must be collected."""
        ref: weakref.ref[Engine[Any]] = weakref.ref(self)
        return self.loop.call_at(when, _call, ref, function)

    # -- reports -------------------------------------------------------------------------------------------------------

    def stats(self) -> Stats:
        books = self.books
        gone = self.closed_for.get
        return Stats(
            size=books.size,
            idle=len(books.idle),
            in_use=books.in_use,
            connecting=books.connecting,
            resetting=books.resetting,
            closing=books.closing,
            waiting=len(books.waiters),
            min_size=self.settings.min_size,
            max_size=self.settings.max_size,
            checkouts=self.checkouts,
            waited=self.waited,
            timeouts=self.timeouts,
            cancelled=self.cancelled,
            refused=self.refused,
            connects=self.connects,
            connect_failures=self.connect_failures,
            resets=self.resets,
            pings=self.pings,
            lost=gone("lost", 0),
            expired=gone("lifetime", 0),
            shrunk=gone("idle", 0),
            drained=gone("drained", 0),
            wait_seconds=self.wait_seconds,
            connect_seconds=self.connect_seconds,
        )

    def holders(self) -> tuple[Holder, ...]:
        return explaining.holders(self)

    def snapshot(self) -> tuple[Stats, tuple[Holder, ...]]:
        """Stats and holders for an error; waiters that time out in one turn of the loop share one."""
        if self._snapshot is None:
            self._snapshot = self.stats(), explaining.holders(self)
            self.loop.call_soon(self._forget_snapshot)
        return self._snapshot

    def _forget_snapshot(self) -> None:
        self._snapshot = None

    def emit(self, kind: Callable[..., Event], **facts: object) -> None:
        if self._observe is not None:
            try:
                self._observe(kind(pool=self.name, **facts))
            except Exception:
                self.log.exception("pool %s: observe raised; the pool goes on", self.name)

    def _report_failure(self, waited: float, error: BaseException) -> None:
        if self._observe is not None:
            self.emit(CheckoutFailed, waited=waited, error=None if isinstance(error, asyncio.CancelledError) else error)

    def _refusal(self) -> Exception:
        if self.phase is Phase.DISOWNED:
            return guards.forked(self.name)
        if self.phase is Phase.STOPPED:
            return stopping.closed(self.name)
        return guards.wrong_loop(self.name, self.loop)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _call(ref: weakref.ref[Engine[Any]], function: Callable[[Engine[Any]], None]) -> None:
    engine = ref()
    if engine is not None:
        function(engine)
