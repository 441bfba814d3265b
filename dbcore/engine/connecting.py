"""Connects: side by side while all is well; after a failure one probe at a time, with one back-off for the pool."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.engine.phase import RUNNING
from dbcore.engine.slots import Slot, State
from dbcore.errors import DbConnectionError, DbError, twin
from dbcore.events import ConnectFailed, ConnectionOpened

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["Connecting", "Outage", "again"]

C = TypeVar("C")

PATIENCE = 5
"""A waiter sees at least this many probes before its time is up, however long the back-off has become."""


class Outage:
    """Connects have been failing since `since`; the next one may be tried at `retry_at`."""

    __slots__ = ("delay", "error", "permanent", "retry_at", "since")

    def __init__(self, error: BaseException, *, permanent: bool, now: float, delay: float) -> None:
        self.error = error
        self.permanent = permanent
        self.since = now
        self.delay = delay
        self.retry_at = now + delay * random.uniform(0.5, 1.0)  # noqa: S311  # spreads retries, guards nothing


class Connecting(Generic[C]):
    """Makes connections for the engine, in tasks that the engine owns."""

    def __init__(self, engine: Engine[C]) -> None:
        self._engine = engine
        self.outage: Outage | None = None
        self._retry: asyncio.TimerHandle | None = None

    def allowed(self, now: float) -> int | None:
        """How many connects may run at once: any number, or during an outage one probe when its time has come."""
        if self.outage is None:
            return None
        return 1 if now >= self.outage.retry_at else 0

    def begin(self, slot: Slot[C]) -> None:
        self._engine.spawn("connect", slot, self._connect(slot))

    def hurry(self, now: float, budget: float) -> None:
        """Somebody with `budget` seconds began to wait: do not let the back-off sleep through all of them."""
        if self.outage is not None and not self.outage.permanent:
            retry_at = now + max(budget / PATIENCE, self._engine.settings.backoff_min)
            if retry_at < self.outage.retry_at:
                self.outage.retry_at = retry_at
                self._schedule(self.outage)

    def cancel_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    async def _connect(self, slot: Slot[C]) -> None:
        engine = self._engine
        started = engine.now()
        limit = engine.settings.connect_timeout
        scope = asyncio.timeout(limit)
        try:
            try:
                async with scope:
                    connection = await engine.hooks.connect()
            except TimeoutError as error:
                if not scope.expired():  # the system's own
                    raise DbConnectionError(f"connect failed: {error}", retryable=True) from error
                message = f"connecting took longer than connect_timeout = {limit:g} s"
                raise DbConnectionError(message, retryable=True) from error
        except Exception as error:
            self._failed(slot, started, error)
        except asyncio.CancelledError as error:
            if engine.phase is not RUNNING:
                raise
            # Nobody here cancels a connect while the pool runs: it was cancelled inside of the driver.
            failure = DbConnectionError("the connect was cancelled from within", retryable=True)
            failure.__cause__ = error
            self._failed(slot, started, failure)
        else:
            self._succeeded(slot, started, connection)

    def _succeeded(self, slot: Slot[C], started: float, connection: C) -> None:
        engine = self._engine
        now = engine.now()
        slot.connection = connection
        slot.born = slot.proven = slot.idle_since = now
        if engine.settings.max_lifetime is not None:
            # Drawn once, so that connections made together do not end together.
            slot.expires = now + engine.settings.max_lifetime * random.uniform(0.9, 1.0)  # noqa: S311  # as above
        engine.tally.connects += 1
        engine.tally.connect_seconds += now - started
        engine.emit(ConnectionOpened, seconds=now - started)
        if engine.readiness.is_clean(slot):
            self.worked(slot)
            engine.made_ready(slot)
        else:
            engine.readiness.reset(slot)  # `connect` has left a transaction open, or the like
        engine.pump()  # growth goes on while somebody waits

    def worked(self, slot: Slot[C]) -> None:
        """A new connection is ready for its first use."""
        engine = self._engine
        slot.untried = False
        if self.outage is not None:
            engine.log.warning("pool %s: connects succeed again", engine.name)
            self.outage = None
        self.cancel_retry()
        engine.books.growth *= 2
        engine.opened.check(engine.books)

    def _failed(self, slot: Slot[C], started: float, error: BaseException) -> None:
        engine = self._engine
        engine.books.move(slot, State.GONE, engine.now())
        self.set_back(started, error)
        engine.freed()

    def set_back(self, started: float, error: BaseException) -> None:
        """Note that a connect begun at `started` gave nothing that can be used, and when to try again."""
        engine = self._engine
        now = engine.now()
        engine.tally.connect_failures += 1
        permanent = not (isinstance(error, DbConnectionError) and error.retryable)
        settings = engine.settings
        outage = self.outage
        news = outage is None or type(outage.error) is not type(error) or str(outage.error) != str(error)
        if outage is None or started >= outage.since:
            # A connect that was under way when the outage began tells nothing new: it must not double the delay.
            delay = settings.backoff_min if outage is None else min(outage.delay * 2, settings.backoff_max)
            outage = self.outage = Outage(error, permanent=permanent, now=now, delay=min(delay, settings.backoff_max))
        else:
            outage.error, outage.permanent = error, permanent
        if not permanent:
            outage.retry_at = min(outage.retry_at, now + self._patience())
        told = engine.opened.failed(error)
        engine.log.log(
            logging.WARNING if news and not told else logging.DEBUG,
            "pool %s: connect failed (%s), next attempt in %.1f s: %s: %s",
            engine.name,
            "permanent" if permanent else "transient",
            outage.retry_at - now,
            type(error).__name__,
            error,
        )
        engine.emit(ConnectFailed, error=error, permanent=permanent, retry_in=outage.retry_at - now)
        if permanent and all(slot.untried or slot.state is State.CLOSING for slot in engine.books.slots):
            engine.lending.fail_waiters(error)
        self._schedule(outage)

    def _patience(self) -> float:
        """Longest pause between two probes that those who wait can bear."""
        shortest = self._engine.lending.line.shortest_limit()
        return max(shortest / PATIENCE, self._engine.settings.backoff_min)

    def _schedule(self, outage: Outage) -> None:
        self.cancel_retry()
        self._retry = self._engine.call_at(outage.retry_at, _retry)


def _retry(engine: Engine[Any]) -> None:
    engine.pump()


def again(error: BaseException) -> BaseException:
    """The error for one more waiter."""
    if not isinstance(error, DbError):
        return DbConnectionError(f"connect failed with {type(error).__name__}: {error}").with_traceback(None)
    return twin(error)
