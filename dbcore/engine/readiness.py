"""Making a connection ready for its next use: the reset after a release, the ping after a spell of doubt."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine.slots import Slot, State
from dbcore.errors import DbConnectionError
from dbcore.events import ConnectionPinged, ConnectionReset

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Readiness"]

C = TypeVar("C")


class Readiness(Generic[C]):
    """Runs resets and pings for the engine, in tasks that the engine owns, each with `reset_timeout` seconds."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine
        self._is_clean, self._is_usable = engine.hooks.is_clean, engine.hooks.is_usable

    # -- local state: a hook that raises, against its contract, has not said yes -------------------------------------

    def is_usable(self, slot: Slot[C]) -> bool:
        """Whether the connection's local state gives no reason for doubt."""
        try:
            return self._is_usable(slot.connection)
        except Exception:
            self._engine.log.exception("pool %s: is_usable raised; the connection is in doubt", self._engine.name)
            return False

    def is_clean(self, slot: Slot[C]) -> bool:
        """Whether the connection's local state shows nothing to reset."""
        try:
            return self._is_clean(slot.connection)
        except Exception:
            self._engine.log.exception("pool %s: is_clean raised; the connection counts as unclean", self._engine.name)
            return False

    # -- work ----------------------------------------------------------------------------------------------------------

    def reset(self, slot: Slot[C]) -> None:
        """Begin to reset a connection that its holder has let go."""
        engine = self._engine
        engine.books.move(slot, State.RESETTING, engine.now())
        engine.spawn("reset", slot, self._reset(slot))

    def prove(self, slot: Slot[C]) -> None:
        """Begin to ping a connection that nobody holds; without a ping it is trusted or dropped by its local state."""
        engine = self._engine
        ping = engine.hooks.ping
        if ping is None:
            if self.is_usable(slot):
                slot.suspect = False
                engine.books.move(slot, State.RESETTING, engine.now())
                engine.made_ready(slot)
            else:
                engine.retirement.found_dead(slot)
            return
        engine.books.move(slot, State.RESETTING, engine.now())
        engine.spawn("ping", slot, self._ping(ping, slot))

    async def _reset(self, slot: Slot[C]) -> None:
        engine = self._engine
        if not _resetting(slot):
            return  # stop() dropped it before this task had its first step
        started = engine.now()
        failure = await self._in_time(engine.hooks.reset, slot)
        engine.tally.resets += 1
        engine.emit(ConnectionReset, seconds=engine.now() - started, error=failure)
        if self._over(slot, "reset", failure):
            return
        if not self.is_clean(slot):
            engine.log.debug("pool %s: connection replaced, for its reset could not make it clean", engine.name)
            if slot.untried:
                failure = DbConnectionError("a new connection is not clean after its reset")
                engine.connecting.set_back(slot.born, failure)
            engine.retirement.retire(slot, "unclean")
        else:
            slot.idle_since = engine.now()
            self._proven(slot)

    async def _ping(self, ping: Callable[[C], Awaitable[None]], slot: Slot[C]) -> None:
        engine = self._engine
        if not _resetting(slot):
            return  # stop() dropped it before this task had its first step
        started = engine.now()
        failure = await self._in_time(ping, slot)
        engine.tally.pings += 1
        engine.emit(ConnectionPinged, seconds=engine.now() - started, error=failure)
        if self._over(slot, "ping", failure):
            return
        if not self.is_clean(slot):
            await self._reset(slot)  # whatever the ping did, nobody gets a connection with an open transaction
        else:
            self._proven(slot)

    async def _in_time(self, hook: Callable[[C], Awaitable[None]], slot: Slot[C]) -> Exception | None:
        """Run a hook within `reset_timeout`; return what it failed with."""
        limit = self._engine.settings.reset_timeout
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                await hook(slot.connection)
        except TimeoutError as error:
            if not scope.expired():  # the system's own
                return error
            failure = DbConnectionError(f"it took longer than reset_timeout = {limit:g} s", retryable=True)
            failure.__cause__ = error
            return failure
        except Exception as error:
            return error
        return None

    def _over(self, slot: Slot[C], what: str, failure: Exception | None) -> bool:
        """Whether nothing is left to decide: stop() dropped the connection meanwhile, or it turned out to be dead."""
        engine = self._engine
        if not _resetting(slot):
            return True
        if failure is None:
            return False
        if isinstance(failure, DbConnectionError):
            engine.log.warning("pool %s: connection lost, its %s failed: %s", engine.name, what, failure)
        else:
            kind = type(failure).__name__
            engine.log.warning("pool %s: %s failed, connection dropped: %s: %s", engine.name, what, kind, failure)
        if slot.untried:
            engine.connecting.set_back(slot.born, failure)
            engine.retirement.drop(slot, "lost")
        else:
            engine.retirement.found_dead(slot)
        return True

    def _proven(self, slot: Slot[C]) -> None:
        slot.suspect = False
        slot.proven = self._engine.now()
        if slot.untried:
            self._engine.connecting.worked(slot)
        self._engine.made_ready(slot)
        self._engine.pump()  # the next suspect


def _resetting(slot: Slot[Any]) -> bool:
    """Whether the slot is still this task's to decide about."""
    return slot.state is State.RESETTING
