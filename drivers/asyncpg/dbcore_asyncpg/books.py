"""What is known of the native pool beside what it tells: who holds what, what came and went, and why."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

from dbcore.config import Config
from dbcore.events import (
    CheckoutFailed,
    CheckoutServed,
    CloseReason,
    ConnectFailed,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionReleased,
    ConnectionReset,
    Event,
    announce,
)
from dbcore.places import describe, frame_at, outside
from dbcore.stats import Holder, Stats
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.settings import AsyncpgSettings

__all__ = ["Books", "Lent"]

log = logging.getLogger("dbcore.asyncpg")


@dataclass(frozen=True, slots=True)
class Lent:
    """One checkout: who has the connection, since when and where."""

    connection: Connection
    task: str
    code: CodeType
    instruction: int
    since: float

    def holder(self, now: float) -> Holder:
        site = describe(self.code, self.instruction)
        return Holder(self.task, site, now - self.since, self.connection.is_in_transaction())


class Books:
    """Gauges are read from what is noted here, counters only grow."""

    def __init__(self, config: Config[AsyncpgSettings], *, min_size: int) -> None:
        self._config = config
        self._min_size = min_size
        self._now = asyncio.get_running_loop().time
        self.live: dict[Connection, float] = {}
        """Every connection that was opened and is not gone, with the time when."""
        self.lent: dict[object, Lent] = {}
        """By the proxy that asyncpg's pool made for this checkout."""
        self.resetting: dict[Connection, Lent] = {}
        """Those on their way back, with the checkout that they come from."""
        self.closing: set[Connection] = set()
        self.connecting = self.waiting = 0
        self.end_reason: CloseReason | None = None
        """Why connections end from now on, whatever their state."""
        self._served = self._waited = self._timeouts = self._cancelled = self._refused = 0
        self._connects = self._failures = self._resets = 0
        self._ended: dict[CloseReason, int] = {}
        self._wait_seconds = self._connect_seconds = 0.0

    # -- connections ---------------------------------------------------------------------------------------------------

    def opened(self, connection: Connection, seconds: float) -> None:
        self.look_for_lost()
        self.live[connection] = self._now()
        connection.watcher = self
        self._connects += 1
        self._connect_seconds += seconds
        self.emit(ConnectionOpened, seconds=seconds)

    def not_opened(self, error: BaseException) -> None:
        self._failures += 1
        self.emit(ConnectFailed, error=error, permanent=not getattr(error, "retryable", False), retry_in=0.0)

    def ending(self, connection: Connection) -> None:
        """Called by a connection that somebody closes or drops: asyncpg's pool, or we."""
        held = connection in self.resetting or any(lent.connection is connection for lent in self.lent.values())
        reason: CloseReason = "lost" if held or connection.is_closed() else "idle"
        self._gone(connection, self.end_reason or ("drained" if connection.expired else reason))
        self.resetting.pop(connection, None)
        self.closing.add(connection)

    def ended(self, connection: Connection) -> None:
        """Called by it when it is gone."""
        self.closing.discard(connection)

    def altered(self) -> None:
        """Called by one that has altered something: none of them knows any more what is in the database."""
        for connection in self.live:
            connection.outdated = True

    def look_for_lost(self) -> None:
        """Find the idle ones that the server has closed; asyncpg's pool finds them when it wants to lend them."""
        for connection in [each for each in self.live if each.is_closed()]:
            connection.watcher = None
            self._gone(connection, "lost")

    def _gone(self, connection: Connection, reason: CloseReason) -> None:
        opened = self.live.pop(connection, None)
        if opened is not None:
            self._ended[reason] = self._ended.get(reason, 0) + 1
            self.emit(ConnectionClosed, reason=reason, age=self._now() - opened)

    # -- checkouts -----------------------------------------------------------------------------------------------------

    def served(self, proxy: object, connection: Connection, started: float, *, waited: bool) -> None:
        now = self._now()
        frame = frame_at(outside(_INSIDE))
        task = asyncio.current_task()
        self.resetting.pop(connection, None)
        self.lent[proxy] = Lent(connection, task.get_name() if task else "", frame.f_code, frame.f_lasti, now)
        self._served += 1
        if waited:
            self._waited += 1
            self._wait_seconds += now - started
        self.emit(CheckoutServed, waited=now - started if waited else 0.0)

    def not_served(self, started: float, error: BaseException) -> None:
        seconds = self._now() - started
        self._waited += 1
        self._wait_seconds += seconds
        cancelled = isinstance(error, asyncio.CancelledError)
        if cancelled:
            self._cancelled += 1
        elif isinstance(error, TimeoutError):
            self._timeouts += 1
        else:
            self._refused += 1
        self.emit(CheckoutFailed, waited=seconds, error=None if cancelled else error)

    def released(self, proxy: object) -> Lent | None:
        """Take a checkout out of the books; `None` if it was given back before."""
        lent = self.lent.pop(proxy, None)
        if lent is not None:
            self.emit(ConnectionReleased, held=self._now() - lent.since)
        return lent

    def no_more_resetting(self, lent: Lent) -> None:
        """Note that a release has ended; the connection may be somebody else's by now."""
        if self.resetting.get(lent.connection) is lent:
            del self.resetting[lent.connection]

    def reset(self, started: float, error: BaseException | None) -> None:
        self._resets += 1
        self.emit(ConnectionReset, seconds=self._now() - started, error=error)

    # -- reports -------------------------------------------------------------------------------------------------------

    def holders(self) -> tuple[Holder, ...]:
        """Who holds a connection now, longest first."""
        now = self._now()
        return tuple(sorted((lent.holder(now) for lent in self.lent.values()), key=lambda one: -one.held_for))

    def idle(self) -> list[Connection]:
        """Return the connections that nobody has and nothing is done with."""
        busy = {lent.connection for lent in self.lent.values()} | self.resetting.keys()
        return [each for each in self.live if each not in busy]

    def stats(self) -> Stats:
        """A snapshot of this moment."""
        self.look_for_lost()
        idle, in_use, resetting, closing = len(self.idle()), len(self.lent), len(self.resetting), len(self.closing)
        return Stats(
            size=idle + in_use + self.connecting + resetting + closing,
            idle=idle,
            in_use=in_use,
            connecting=self.connecting,
            resetting=resetting,
            closing=closing,
            waiting=self.waiting,
            min_size=self._min_size,
            max_size=self._config.pool.max_size,
            checkouts=self._served,
            waited=self._waited,
            timeouts=self._timeouts,
            cancelled=self._cancelled,
            refused=self._refused,
            connects=self._connects,
            connect_failures=self._failures,
            resets=self._resets,
            lost=self._ended.get("lost", 0),
            shrunk=self._ended.get("idle", 0),
            drained=self._ended.get("drained", 0),
            wait_seconds=self._wait_seconds,
            connect_seconds=self._connect_seconds,
        )

    def emit(self, kind: Callable[..., Event], **facts: object) -> None:
        announce(self._config.observe, log, self._config.name, kind, facts)


_INSIDE = frozenset({"dbcore", "dbcore_asyncpg"})
