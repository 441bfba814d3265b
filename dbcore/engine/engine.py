"""The engine: wires the parts together, and begins what the books want begun.

No lock is needed: whatever changes the books does so without awaiting, and whatever awaits acts on a decision that has
been made already. What must survive a caller's cancellation runs in a task of the engine.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Literal, TypeVar

from dbcore import refusals
from dbcore.config import PoolSettings, Startup
from dbcore.driver import Hooks
from dbcore.engine import explaining, guards, stopping
from dbcore.engine.connecting import Connecting
from dbcore.engine.keeper import Keeper
from dbcore.engine.lending import FRESH, Lending
from dbcore.engine.phase import RUNNING, Phase
from dbcore.engine.readiness import Readiness
from dbcore.engine.retirement import Retirement
from dbcore.engine.slots import Books, Slot, State
from dbcore.engine.starting import Opening
from dbcore.engine.tally import Tally
from dbcore.events import BackgroundError, Event, Observer, announce
from dbcore.loops import clock, running_loop
from dbcore.pool import FORKED
from dbcore.stats import Holder, Stats

__all__ = ["Engine"]

C = TypeVar("C")

Work = Literal["connect", "reset", "ping", "close"]
"""What a task of the engine does."""


class Engine(Generic[C]):
    """A pool of connections made by `hooks`. One event loop owns it."""

    phase = Phase.STOPPED

    def __init__(self, hooks: Hooks[C], settings: PoolSettings, name: str, observe: Observer | None) -> None:
        self.hooks = hooks
        self.settings = settings
        self.name = name
        self.log = logging.getLogger("dbcore.pool")
        self.loop = asyncio.get_running_loop()
        self.now = clock(self.loop)
        self.phase = RUNNING
        self.books: Books[C, asyncio.Future[Slot[C]]] = Books(
            settings.min_size, settings.max_size, newest_first=settings.order == "lifo"
        )
        self.tally = Tally()
        self._observe = observe
        self._trust = settings.ping_after if hooks.ping is not None and settings.ping_after is not None else math.inf
        self.opened = Opening()
        self.connecting: Connecting[C] = Connecting(self)
        self.readiness: Readiness[C] = Readiness(self)
        self.retirement: Retirement[C] = Retirement(self)
        self.lending: Lending[C] = Lending(self)
        self.keeper: Keeper[C] = Keeper(self)
        self.emptied: asyncio.Future[None] | None = None
        self._stop: asyncio.Task[None] | None = None
        self._tasks: dict[asyncio.Task[None], tuple[Work, Slot[C]]] = {}
        # Tasks of the engine must not carry the context of whoever happened to need a connection.
        self._context = contextvars.copy_context()
        self._pumping = False
        self._explanation: explaining.Explanation | None = None
        guards.watch(self)

    # -- what happens to a connection ----------------------------------------------------------------------------------

    def made_ready(self, slot: Slot[C]) -> None:
        """A connection can be used again, or for the first time: give it to the oldest waiter, or keep it."""
        now = self.now()
        if self.phase is not RUNNING:
            self.retirement.retire(slot, "stopped")
        elif slot.leave is not None:
            self.retirement.retire(slot, slot.leave)
        elif now >= slot.expires:
            self.retirement.retire(slot, "lifetime")
        elif slot.suspect:
            self.books.move(slot, State.IDLE, now)
            self.pump()
        else:
            self.trust(slot, now)
            waiter = self.books.next_waiter()
            if waiter is not None:
                self.books.move(slot, State.IN_USE, now)
                waiter.set_result(slot)
            else:
                self.books.move(slot, State.IDLE, now)

    def trust(self, slot: Slot[C], now: float) -> None:
        """Note until when a connection that worked just now may be handed out without being asked, or looked at."""
        until, fresh = now + self._trust, now + FRESH
        if until > slot.expires:
            until = slot.expires
        slot.trusted_until = until
        slot.fresh_until = fresh if fresh < until else until  # noqa: FURB136  # min() costs three times as much here

    def freed(self) -> None:
        """Capacity came free."""
        if self.phase is RUNNING:
            self.pump()
        elif not self.books.slots and self.emptied is not None and not self.emptied.done():
            self.emptied.set_result(None)

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
            self.retirement.retire(slot, "lifetime")
        elif now < slot.trusted_until and self.readiness.is_usable(slot):
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

    # -- start, stop, drain --------------------------------------------------------------------------------------------

    async def start(self, startup: Startup) -> None:
        """Open `min_size` connections, or raise why that cannot be, as `startup` says."""
        if startup == "lazy":
            self.books.min_size = 0
        elif self.settings.min_size > 0:
            opened = self.opened.begin(self.loop)
            self.pump()
            try:
                error = await opened
            except asyncio.CancelledError:
                await self.stop()
                raise
            if error is not None and startup == "require":
                await self.stop()
                raise error
        self.keeper.schedule()

    async def stop(self) -> None:
        """End the pool for good. See `Pool.stop`."""
        if self.phase is Phase.DISOWNED:
            return
        if self._stop is None:
            if running_loop() is not self.loop:
                raise refusals.wrong_loop(self.name, self.loop)
            self.phase = Phase.STOPPED
            self.lending.close()
            context = self._context.copy()
            self._stop = self.loop.create_task(stopping.stop(self), name=f"stop {self.name}", context=context)
        # Whoever waits here may go away; the stop goes on, and a second call joins it.
        await asyncio.shield(self._stop)

    async def drain(self) -> None:
        """Replace every connection: those idle now, the others when they come back."""
        if self.phase is not RUNNING or running_loop() is not self.loop:
            raise self.refusal()
        for slot in list(self.books.slots):
            if slot.state is State.IDLE:
                self.retirement.retire(slot, "drained")
            elif slot.state is not State.CLOSING:
                slot.leave = "drained"
                slot.awaited = True
        self.pump()
        if closing := self.tasks("close"):
            await asyncio.wait(closing)

    def disown(self) -> None:
        """This is a forked child now, and everything here belongs to the parent."""
        self.phase = Phase.DISOWNED
        self.lending.close()
        for slot in self.books.slots:
            hold = slot.holder() if slot.holder is not None else None
            if hold is not None:
                hold._cut_off(FORKED)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # inside

    def refusal(self) -> Exception:
        """Why nothing can be had from this pool here and now."""
        if self.phase is Phase.DISOWNED:
            return refusals.forked(self.name)
        if self.phase is Phase.STOPPED:
            return refusals.stopped(self.name)
        return refusals.wrong_loop(self.name, self.loop)

    def __del__(self) -> None:
        # Nobody refers to the pool any more, and it was not stopped: it must not keep sockets and threads.
        if self.phase is RUNNING:
            self.phase = Phase.STOPPED
            self.lending.close()
            for slot in self.books.slots:
                if slot.state is not State.CONNECTING:
                    self.retirement.abort(slot)

    # -- tasks and timers ----------------------------------------------------------------------------------------------

    def spawn(self, kind: Work, slot: Slot[C], work: Coroutine[Any, Any, None]) -> None:
        """Run something that must survive its caller, on a slot that nobody else touches meanwhile."""
        if self.loop.is_closed():  # a release that comes after the end
            work.close()
            self.retirement.abort(slot)
            return
        task = self.loop.create_task(work, name=f"{kind} {self.name}", context=self._context.copy())
        self._tasks[task] = kind, slot
        task.add_done_callback(self._task_ended)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        kind, slot = self._tasks.pop(task)
        if task.cancelled():
            self.retirement.abandon(slot)
        elif (error := task.exception()) is not None:
            if isinstance(error, Exception):  # KeyboardInterrupt and SystemExit end the loop by themselves
                self.log.error("pool %s: bug in task %s", self.name, task.get_name(), exc_info=error)
            self.emit(BackgroundError, during=kind, error=error)
            if kind == "connect":
                self.opened.failed(error)
            if slot.state is not State.IDLE and slot.state is not State.IN_USE:
                self.retirement.abandon(slot)

    def tasks(self, kind: Work | None = None) -> list[asyncio.Task[None]]:
        """Those that are under way."""
        return [task for task, (its, _) in self._tasks.items() if kind is None or its == kind]

    def call_at(self, when: float, function: Callable[[Engine[Any]], None]) -> asyncio.TimerHandle:
        """Set a timer that does not keep the pool alive: one that nobody refers to any more must be collected."""
        ref: weakref.ref[Engine[Any]] = weakref.ref(self)
        return self.loop.call_at(when, _call, ref, function)

    # -- reports -------------------------------------------------------------------------------------------------------

    @property
    def observed(self) -> bool:
        """Whether anybody is told of events; if not, none should be made."""
        return self._observe is not None

    def emit(self, kind: Callable[..., Event], **facts: object) -> None:
        """Tell the observer, if there is one."""
        announce(self._observe, self.log, self.name, kind, facts)

    def stats(self) -> Stats:
        """Return gauges and counters of this moment."""
        return self.tally.stats(self.books, self.lending.checkouts, self.settings.min_size)

    def holders(self) -> tuple[Holder, ...]:
        """Return who holds a connection, longest first."""
        return explaining.holders(self)

    def explanation(self) -> explaining.Explanation:
        """Return what an error says; waiters that time out in one turn of the loop share one."""
        if self._explanation is None:
            self._explanation = explaining.Explanation(self)
            self.loop.call_soon(self._forget_explanation)
        return self._explanation

    def _forget_explanation(self) -> None:
        self._explanation = None


def _call(ref: weakref.ref[Engine[Any]], function: Callable[[Engine[Any]], None]) -> None:
    engine = ref()
    if engine is not None:
        function(engine)
