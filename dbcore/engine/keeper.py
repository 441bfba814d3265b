"""The keeper: retires what is too old or idle for too long, keeps connections alive, reports leaks, refills.

It is a timer, not a task: it decides in one go and leaves the slow work to tasks of the engine. So there is nothing to
end at stop but the timer, and nothing that could die of an error.
"""

from __future__ import annotations

import asyncio
import math
import traceback
from types import CoroutineType, FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine.explaining import holder, task_of
from dbcore.engine.slots import Slot, State
from dbcore.events import BackgroundError, LeakSuspected

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Keeper"]

C = TypeVar("C")


class Keeper(Generic[C]):
    """Looks after the connections that nobody is using."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine
        self._timer: asyncio.TimerHandle | None = None
        settings = engine.settings
        limits = (
            settings.max_idle,
            settings.keepalive if engine.hooks.ping is not None else None,
            settings.leak_warning,
            None if settings.max_lifetime is None else settings.max_lifetime * 0.9,
        )
        # What begins after one round is due after this at the earliest, so a round later than that comes too late.
        self._horizon = min((limit for limit in limits if limit is not None), default=math.inf)

    def schedule(self) -> None:
        """Set the timer for the first moment at which there can be something to do."""
        self.cancel()
        if self._horizon < math.inf:
            engine = self._engine
            self._timer = engine.call_at(max(self._next_due(engine.now()), engine.now()), _round)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def round(self) -> None:
        """Do all that is due now."""
        engine = self._engine
        try:
            now = engine.now()
            self._retire_expired(now)
            self._shrink(now)
            self._keep_alive(now)
            self._report_leaks(now)
            engine.pump()
        except Exception as error:
            engine.log.exception("pool %s: a round of the keeper failed; the next one comes as planned", engine.name)
            engine.emit(BackgroundError, during="keeper", error=error)
        self.schedule()

    # What is due is found by the very sums that `_next_due` makes: a rounding apart, and rounds would follow each other
    # without an end as long as the clock stands still.

    def _retire_expired(self, now: float) -> None:
        for slot in [slot for slot in self._engine.books.idle if now >= slot.expires]:
            self._engine.retirement.retire(slot, "lifetime")

    def _shrink(self, now: float) -> None:
        books, limit = self._engine.books, self._engine.settings.max_idle
        if limit is None:
            return
        stale = sorted(
            (slot for slot in books.idle if now >= slot.idle_since + limit), key=lambda slot: slot.idle_since
        )
        for slot in stale[: max(books.size - books.closing - books.min_size, 0)]:
            self._engine.retirement.retire(slot, "idle")

    def _keep_alive(self, now: float) -> None:
        if self._engine.settings.keepalive is None or self._engine.hooks.ping is None:
            return
        for slot in [slot for slot in self._engine.books.idle if now >= self._keepalive_due(slot)]:
            self._engine.readiness.prove(slot)

    def _keepalive_due(self, slot: Slot[C]) -> float:
        return max(slot.idle_since, slot.proven) + (self._engine.settings.keepalive or math.inf)

    def _report_leaks(self, now: float) -> None:
        engine, limit = self._engine, self._engine.settings.leak_warning
        if limit is None:
            return
        for slot in [slot for slot in engine.books.slots_in(State.IN_USE) if now >= slot.since + limit]:
            if not slot.warned:
                slot.warned = slot.awaited = True
                who = holder(engine, slot)
                engine.log.warning(
                    "pool %s: a connection is in use for longer than leak_warning = %g s: %s%s",
                    engine.name,
                    limit,
                    who,
                    _present_stack(slot),
                )
                engine.emit(LeakSuspected, holder=who)

    def _next_due(self, now: float) -> float:
        engine, settings = self._engine, self._engine.settings
        due = now + self._horizon
        for slot in engine.books.slots:
            if slot.state is State.IDLE:
                due = min(due, slot.expires, self._keepalive_due(slot) if engine.hooks.ping is not None else math.inf)
                idle_due = slot.idle_since + (settings.max_idle or math.inf)
                if idle_due > now:  # else it is kept by min_size, and looking again at once would not change that
                    due = min(due, idle_due)
                continue
            if slot.expires > now:  # it may be idle by then, and a release sets no timer
                due = min(due, slot.expires)
            if slot.state is State.IN_USE and not slot.warned:
                due = min(due, slot.since + (settings.leak_warning or math.inf))
        return due


def _round(engine: Engine[Any]) -> None:
    engine.keeper.round()


def _present_stack(slot: Slot[Any]) -> str:
    """What the holder's task is doing now: the place of the checkout tells where a leak began, this where it is."""
    task = task_of(slot)
    if task is None or task.done():
        return "; its task has ended"
    # Task.get_stack() shows only the outermost frame of a coroutine that is suspended.
    frames: list[FrameType] = []
    awaited: Any = task.get_coro()
    while isinstance(awaited, CoroutineType) and awaited.cr_frame is not None:
        frames.append(awaited.cr_frame)
        awaited = awaited.cr_await
    stack = "".join(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames).format())
    return f"; its task is now at\n{stack.rstrip()}"
