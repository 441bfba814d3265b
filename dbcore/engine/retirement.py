"""How a connection ends: politely, or dropped at once. Its capacity comes free when it is gone, not before.

When one ends is decided elsewhere: `engine` (too old or drained when it would be used again), `keeper` (too old, idle),
`readiness` (dead or unclean), `stopping`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine.phase import RUNNING
from dbcore.engine.slots import Slot, State
from dbcore.events import BackgroundError, CloseReason, ConnectionClosed

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Retirement"]

C = TypeVar("C")


class Retirement(Generic[C]):
    """Takes connections out for good."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine

    def retire(self, slot: Slot[C], reason: CloseReason) -> None:
        """Begin to close a connection that nobody holds."""
        engine = self._engine
        engine.books.move(slot, State.CLOSING, engine.now())
        engine.spawn("close", slot, self._close(slot, reason))

    def drop(self, slot: Slot[C], reason: CloseReason) -> None:
        """End a connection at once, without a goodbye where the driver can do that, whoever holds it."""
        if slot.state is State.GONE:
            return
        if self._engine.hooks.abort is None:
            if slot.state is not State.CLOSING:
                self.retire(slot, reason)
        else:
            self.abort(slot)
            self._gone(slot, reason)

    def found_dead(self, slot: Slot[C]) -> None:
        """Drop a connection that turned out to be dead: whatever killed it may have killed the idle ones too."""
        self._engine.books.suspect_all()
        self.drop(slot, "lost")

    def abandon(self, slot: Slot[C]) -> None:
        """End the slot of a task that did not end it itself: cancelled, perhaps before its first step, or broken.

        A task that stop() did not cancel was cancelled by whoever ends the loop. The capacity is free, but nothing new
        is begun in this very turn: what a dying loop begins is only noise.
        """
        engine = self._engine
        if slot.state is not State.GONE:
            if hasattr(slot, "connection"):
                self.abort(slot)
                self._leave_books(slot, "cut off")
            else:
                engine.books.move(slot, State.GONE, engine.now())
        if engine.phase is RUNNING:
            engine.call_at(engine.now() + engine.settings.backoff_min, _pump)
        else:
            engine.freed()

    def abort(self, slot: Slot[C]) -> None:
        """Let the driver drop the connection; the books are somebody else's business."""
        engine = self._engine
        if engine.hooks.abort is not None:
            try:
                engine.hooks.abort(slot.connection)
            except Exception as error:
                engine.log.exception("pool %s: abort of a connection failed; it is forgotten", engine.name)
                engine.emit(BackgroundError, during="abort", error=error)

    async def _close(self, slot: Slot[C], reason: CloseReason) -> None:
        engine = self._engine
        try:
            async with asyncio.timeout(engine.settings.reset_timeout):
                await engine.hooks.close(slot.connection)
        except Exception as error:
            engine.log.warning("pool %s: close failed: %s: %s", engine.name, type(error).__name__, error)
            engine.emit(BackgroundError, during="close", error=error)
            self.abort(slot)
        if slot.state is not State.GONE:
            self._gone(slot, reason)

    def _gone(self, slot: Slot[C], reason: CloseReason) -> None:
        self._leave_books(slot, reason)
        self._engine.freed()

    def _leave_books(self, slot: Slot[C], reason: CloseReason) -> None:
        engine = self._engine
        now = engine.now()
        engine.books.move(slot, State.GONE, now)
        engine.tally.closed_for[reason] = engine.tally.closed_for.get(reason, 0) + 1
        engine.emit(ConnectionClosed, reason=reason, age=now - slot.born)


def _pump(engine: Engine[Any]) -> None:
    engine.pump()
