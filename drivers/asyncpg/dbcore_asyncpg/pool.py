"""asyncpg's own pool behind closures: it lends, keeps, resets and closes. Here is what it leaves open.

Its `release` has to be awaited, so it runs in a task of ours; its `close` waits without a limit and lets in those who
wait already; and it says little about itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, Literal

import asyncpg

from dbcore import refusals
from dbcore.config import Config, connect_with
from dbcore.errors import DbConnectionError, PoolClosed, PoolTimeout
from dbcore.events import PoolStopped
from dbcore.pool import Release
from dbcore_asyncpg.books import Books, Lent
from dbcore_asyncpg.connecting import Connector
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.settings import AsyncpgSettings

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Proxy = PoolConnectionProxy[asyncpg.Record]

__all__ = ["NativePool", "start"]

log = logging.getLogger("dbcore.asyncpg")

_PATIENCE = 0.05
"""Seconds for which a checkout waits for a connection that is on its way back, before a new one is opened for it."""


class NativePool:
    """One running pool."""

    def __init__(self, config: Config[AsyncpgSettings], *, min_size: int) -> None:
        pool = config.pool
        self._config = config
        self._loop = asyncio.get_running_loop()
        self._pid = os.getpid()
        self.books = Books(config, min_size=min_size)
        connector = Connector(timeout=pool.connect_timeout, reset=pool.reset)
        self._connect = connect_with(config, connector)
        self._native = asyncpg.create_pool(
            min_size=min_size,
            max_size=pool.max_size,
            max_queries=config.settings.max_queries,
            max_inactive_connection_lifetime=pool.max_idle or 0,
            connect=self._counted_connect,
            connection_class=Connection,
        )
        self._scopes: set[asyncio.Timeout] = set()
        """The time limits of those who wait; `stop` lets them run out."""
        self._releases: set[asyncio.Task[None]] = set()
        self._left = asyncio.Event()
        """Somebody waits no more, or has no connection any more."""
        self._stopping: asyncio.Task[None] | None = None

    def _guard(self) -> None:
        """Refuse use from elsewhere, which asyncpg's pool does not notice in time."""
        if self._pid != os.getpid():
            raise refusals.forked(self._config.name)
        if asyncio.get_running_loop() is not self._loop:
            raise refusals.wrong_loop(self._config.name, self._loop)

    async def start(self) -> None:
        """Open the smallest number of connections, or raise why not. Leaves nothing behind then."""
        try:
            await self._native
        finally:
            self.books.look_for_lost()

    async def _counted_connect(self, *_: object, **__: object) -> Connection:
        """Called by asyncpg's pool in place of `asyncpg.connect`, with arguments that the connector knows better."""
        started = self._loop.time()
        self.books.connecting += 1
        try:
            connection = await self._connect()
        except Exception as error:
            self.books.not_opened(error)
            raise
        finally:
            self.books.connecting -= 1
        self.books.opened(connection, self._loop.time() - started)
        return connection

    # -- checkout ------------------------------------------------------------------------------------------------------

    async def checkout(self, timeout: float | None = None) -> tuple[Connection, Release]:
        """See `dbcore.pool.Checkout`."""
        self._guard()
        if self._stopping is not None:
            raise self._closed()
        limit = self._config.pool.checkout_timeout if timeout is None else timeout
        started = self._loop.time()
        at_once = bool(self._native.get_idle_size())
        scope = asyncio.timeout(limit)
        self._scopes.add(scope)
        self.books.waiting += 1
        try:
            async with scope:
                if not at_once:
                    await self._for_what_comes_back()
                proxy = await self._native.acquire()
        except BaseException as error:
            if isinstance(error, TimeoutError) and scope.expired():
                late = self._late(limit)
                self.books.not_served(started, late)
                raise late from None
            self.books.not_served(started, error)
            raise
        finally:
            self.books.waiting -= 1
            self._scopes.discard(scope)
            self._left.set()
        connection = _itself(proxy)
        # Not after its release: asyncpg's pool may have handed it on before a task of ours hears of that.
        connection.forget_holder()
        self.books.served(proxy, connection, started, waited=not at_once)
        return connection, self._release_of(proxy)

    async def _for_what_comes_back(self) -> None:
        """Wait a moment for a connection that is being reset, if there is one for everybody who waits.

        asyncpg's pool would open another one for a task that runs one statement after the other.
        """
        enough = len(self._releases) >= self.books.waiting
        if enough and self.books.connecting + len(self.books.live) < self._config.pool.max_size:
            await asyncio.wait(tuple(self._releases), timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)

    def _late(self, limit: float) -> PoolTimeout | PoolClosed:
        if self._stopping is not None:
            return self._closed()
        stats, holders = self.books.stats(), self.books.holders()
        reason: Literal["exhausted", "connecting"] = "exhausted"
        why = "all connections were busy"
        cure = (
            "Hold connections for shorter (nothing slow inside `async with`), look for a holder that never lets go, "
            "or raise pool.max_size if the database can bear it"
        )
        if stats.in_use < stats.max_size and (stats.connecting or stats.in_use + stats.resetting < stats.max_size):
            reason = "connecting"
            why = "a connect was still under way"
            cure = "Look at the network and the database's load, or raise checkout_timeout"
        held = f" Held longest: {holders[0]}." if holders else ""
        text = f"pool {self._config.name!r} had no connection within {limit:g} s: {why}. {stats}.{held} {cure}."
        return PoolTimeout(text, reason=reason, stats=stats, holders=holders)

    def _closed(self) -> PoolClosed:
        return refusals.stopped(self._config.name)

    # -- release -------------------------------------------------------------------------------------------------------

    def _release_of(self, proxy: Proxy) -> Callable[[], None]:
        def release() -> None:
            lent = self.books.released(proxy)
            self._left.set()
            if lent is not None and not self._loop.is_closed():
                self.books.resetting[lent.connection] = lent
                self._spawn(self._give_back(proxy, lent))

        return release

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work, name=f"dbcore {self._config.name} release")
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _give_back(self, proxy: Proxy, lent: Lent) -> None:
        connection, limit = lent.connection, self._config.pool.reset_timeout
        started = self._loop.time()
        asked = connection.is_in_transaction() or bool(connection.get_reset_query())
        failure: Exception | None = None
        try:
            async with asyncio.timeout(limit):
                await self._roll_back(connection)
                if connection.retired:
                    await connection.close()
            await self._native.release(proxy, timeout=limit)
        except Exception as error:
            failure = error
            if self._stopping is None:
                log.warning("pool %s: a reset failed, its connection is dropped: %r", self._config.name, error)
            connection.terminate()
        finally:
            self.books.no_more_resetting(lent)
        if asked or failure is not None:
            self.books.reset(started, failure)

    async def _roll_back(self, connection: Connection) -> None:
        await connection.settle()
        connection.open_stream = None
        if not connection.is_closed() and (connection.block or connection.is_in_transaction()):
            if not connection.own_transaction:
                log.warning("pool %s: a transaction that its holder left open is rolled back", self._config.name)
            await connection.execute("ROLLBACK")

    # -- the rest ------------------------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Replace every connection: those that are idle now, the others when they come back."""
        self._guard()
        if self._stopping is not None:
            raise self._closed()
        await self._native.expire_connections()
        idle = self.books.idle()
        for connection in self.books.live:
            connection.expired = True
        for connection in idle:
            self._spawn(self._close(connection))

    async def _close(self, connection: Connection) -> None:
        try:
            await connection.close(timeout=self._config.pool.reset_timeout)
        except Exception as error:  # asyncpg has dropped it then
            log.warning("pool %s: a connection did not close politely: %r", self._config.name, error)

    async def stop(self) -> None:
        """See `dbcore.pool.Pool.stop`. In a forked child it does nothing: the pool is the parent's."""
        if self._pid != os.getpid():
            return
        self._guard()
        if self._stopping is None:
            self._stopping = self._loop.create_task(self._stop(), name=f"dbcore {self._config.name} stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        pool = self._config.pool
        self.books.end_reason = "stopped"
        for scope in tuple(self._scopes):
            scope.reschedule(self._loop.time())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pool.stop_timeout):
                while self._scopes or self.books.lent:
                    self._left.clear()
                    await self._left.wait()
        cut_off = self.books.holders()
        if cut_off:
            self.books.end_reason = "cut off"
            log.warning(
                "pool %s: stop() cut off %d connection(s) that were still in use after stop_timeout = %g s: %s",
                self._config.name,
                len(cut_off),
                pool.stop_timeout,
                "; ".join(str(one) for one in cut_off),
            )
            self._native.terminate()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pool.reset_timeout):
                await self._native.close()  # waits for what is being given back, too
        for connection in (*self.books.live, *self.books.closing):
            connection.terminate()
        if self._releases:
            await asyncio.wait(tuple(self._releases), timeout=pool.reset_timeout)
        self.books.emit(PoolStopped, cut_off=cut_off)


def _itself(proxy: Any) -> Connection:
    """The connection behind the proxy, which hands on what it does not have itself."""
    connection: Connection = proxy.itself
    return connection


async def start(config: Config[AsyncpgSettings]) -> NativePool:
    """Start a pool as `startup` says."""
    if config.startup == "lazy":
        pool = NativePool(config, min_size=0)
        await pool.start()
        return pool
    try:
        pool = NativePool(config, min_size=config.pool.min_size)
        await pool.start()
    except DbConnectionError as error:
        if config.startup == "require":
            raise
        log.warning("pool %s: started without a connection: %s", config.name, error)
        pool = NativePool(config, min_size=0)
        await pool.start()
    return pool
