"""The database as an application sees it: statements, transactions, and the pool behind them."""

# Members with an underscore are for inside the library; this file is inside.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import logging
import os
import random
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from dbcore.access import Access
from dbcore.config import Config
from dbcore.connection import Connection
from dbcore.driver import Driver, Isolation, Result, ServerInfo
from dbcore.errors import DbError, PoolError
from dbcore.events import Observer
from dbcore.loading import resolve
from dbcore.loan import BEFORE, Loan
from dbcore.places import frame_at, outside
from dbcore.pool import Pool, PoolOps, Release
from dbcore.querying import Querying
from dbcore.refusals import time_span
from dbcore.registry import find_driver
from dbcore.stats import Holder, Stats
from dbcore.transaction import Transaction
from dbcore.trips import Trips

__all__ = ["Database", "open_database"]

T = TypeVar("T")

log = logging.getLogger("dbcore.database")

_new = cast("Callable[[Any], Connection[Any]]", object.__new__)

RETRY_FIRST, RETRY_LONGEST = 0.02, 1.0
"""Seconds before the first retry of a transaction, doubling up to the second; the actual pause is drawn below that."""


class Database(Querying[Any]):
    """One database, talked to through a pool. Made by `db.open`, which does no I/O.

    `async with database:` starts and stops it. The statement methods find a connection for each statement, their
    own or one that short reads of many tasks share; use `connection()` or `transaction()` for several that belong
    together. Everything raises `UsageError` before the start and `PoolClosed` after the stop.
    """

    def __init__(self, config: Config[Any], driver: Driver[Any, Any]) -> None:
        self._access: Access[Any] = Access(config, driver)
        self._raw: PoolOps[Any] | None = None
        self._trips: Trips[Any] | None = None
        self._warned = False
        self._starting: asyncio.Future[None] | None = None
        self._opening: asyncio.Task[Pool[Any]] | None = None
        frame = frame_at(outside())
        self._opened_at = f"{frame.f_code.co_filename}:{frame.f_lineno}"

    # -- start and stop ------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open `min_size` connections, or raise the reason why not; what `startup` says decides how strictly.

        Harmless when called again, also by several tasks at once; after a failure it may be called again. Cancelled,
        it leaves nothing behind; cancelled again, it leaves that to a task, for which `stop` waits. Raises `PoolClosed`
        when it is stopped meanwhile.
        """
        while self._access.pool is None or self._access.stopped:
            if self._access.stopped:
                raise self._access.closed()
            if self._starting is None:
                await self._start()
            else:
                await asyncio.wait([self._starting])
        self._access.refuse_other_loops()

    async def _start(self) -> None:
        access = self._access
        loop = asyncio.get_running_loop()
        share = access.driver.share
        sharing = share(access.config) if share is not None and access.config.share_trips else None
        self._starting = starting = loop.create_future()
        # A task of its own: `stop` ends it and not the caller, and a caller that is cancelled twice leaves it be.
        self._opening = opening = loop.create_task(self._open_pool())
        try:
            pool = await asyncio.shield(opening)
            if access.stopped:  # meanwhile, by somebody else
                raise asyncio.CancelledError  # noqa: TRY301  # as if that had come in time
            ops = _ops(pool)
            access.opened(ops, loop)
            self._raw = self._raw_ops(ops)
            self._trips = Trips(access, sharing, loop)
        except asyncio.CancelledError:
            ending = access.spawn(self._call_off(opening))
            ending.add_done_callback(lambda _: self._start_is_over(starting))  # also if it never comes to begin
            await asyncio.shield(ending)
            task = asyncio.current_task()
            if access.stopped and task is not None and not task.cancelling():
                raise access.closed() from None
            raise
        except BaseException as error:
            self._start_is_over(starting)
            if isinstance(error, Exception):
                access.fail_to_connect(error)
            raise
        _started.add(self)
        self._start_is_over(starting)

    async def _open_pool(self) -> Pool[Any]:
        return await self._access.driver.start_pool(self._access.config)

    async def _call_off(self, opening: asyncio.Task[Pool[Any]]) -> None:
        """End a start; a pool that is ready all the same is stopped."""
        if not opening.cancelling():  # once: it has things to put away
            opening.cancel()
        await asyncio.wait([opening])
        if not opening.cancelled() and opening.exception() is None:
            await opening.result().stop()

    def _start_is_over(self, starting: asyncio.Future[None]) -> None:
        starting.set_result(None)
        self._starting = self._opening = None

    async def stop(self) -> None:
        """Stop for good: refuse, fail those who wait with `PoolClosed`, wait for holders up to `stop_timeout`.

        Idempotent; several callers share one stop. It goes on when its caller is cancelled, and is always bounded.
        """
        access = self._access
        if not access.stopped and access.loop is not None and not access.loop.is_closed():
            access.refuse_other_loops()
        access.stopped = True
        _started.discard(self)
        if self._starting is not None:  # it will stop what it has started
            if self._opening is not None and not self._opening.cancelling():
                self._opening.cancel()
            await asyncio.wait([self._starting])
        if access.pool is not None:
            try:
                await access.pool.stop()
            except Exception as error:
                access.fail(error)
            await access.tasks_ended(access.config.pool.reset_timeout)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __del__(self) -> None:
        if hasattr(self, "_opened_at"):  # it was made to its end
            self._warn()

    def _warn(self) -> None:
        """Say, once, that nobody stopped it."""
        access = self._access
        if access.pool is None or access.stopped or self._warned or access.pid != os.getpid():
            return  # the last: a forked child, and the parent answers for this one
        self._warned = True
        log.warning(
            "database %s, opened at %s, was never stopped: use `async with database:`", self.name, self._opened_at
        )

    # -- connections and transactions ----------------------------------------------------------------------------------

    def connection(self, timeout: float | None = None) -> Connection[Any]:
        """Take a connection: `async with database.connection() as connection:`.

        `timeout` in seconds covers waiting, connecting and checking; `None` means `pool.checkout_timeout`. Raises
        `PoolTimeout`, `PoolExhausted`, `PoolDeadlock`, `PoolClosed`, or what the connect failed with.
        """
        if timeout is not None:
            timeout = time_span(timeout)
        # Made here, for the call of a constructor would be a thirtieth of an empty checkout.
        connection = _new(Connection)
        connection._access = self._access
        connection._timeout = timeout
        connection._native = None
        connection.lent = BEFORE
        return connection

    async def run(self, fn: Callable[[Connection[Any]], Awaitable[T]], *, timeout: float | None = None) -> T:
        """Call `await fn(connection)` with a connection that is released on every way out."""
        connection = self.connection(timeout)
        await connection._take(timeout)  # `async with` would name this line as the place, and not the caller's
        try:
            return await fn(connection)
        finally:
            connection._let_go(frame_at(0))

    def transaction(
        self,
        isolation: Isolation | None = None,
        read_only: bool = False,
        timeout: float | None = None,
    ) -> Transaction[Any]:
        """Open a transaction on a connection of its own: `async with database.transaction() as tx:`.

        See `Connection.transaction`. `timeout` in seconds is for the connection, and for the writers in front where
        the database has one writer at a time.
        """
        return self.connection(timeout)._pinned_transaction(isolation, read_only=read_only)

    async def run_transaction(
        self,
        fn: Callable[[Connection[Any]], Awaitable[T]],
        retries: int = 3,
        isolation: Isolation | None = None,
        read_only: bool = False,
        timeout: float | None = None,
    ) -> T:
        """Call `await fn(connection)` inside a transaction, all over again when it ends in a `retryable` error.

        The connection is released between attempts, and the pause grows, with jitter. A commit whose outcome is
        unknown is never repeated, and neither is a wait for a connection. The last error gets a note that says how
        often it was tried. `timeout` is that of `transaction()`, for each attempt.
        """
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries}")
        pause = RETRY_FIRST
        for attempt in range(1, retries + 2):
            try:
                async with self.transaction(isolation, read_only, timeout) as tx:
                    return await fn(tx)
            except DbError as error:
                if not error.retryable or error.outcome_unknown or isinstance(error, PoolError):
                    raise
                if attempt > retries:
                    error.add_note(f"The transaction was tried {attempt} times.")
                    raise
            await asyncio.sleep(random.uniform(0, pause))  # noqa: S311  # spreads retries, guards nothing
            pause = min(pause * 2, RETRY_LONGEST)
        raise AssertionError("bug: the last attempt neither returned nor raised")

    # -- the pool ------------------------------------------------------------------------------------------------------

    @property
    def pool(self) -> PoolOps[Any]:
        """The pool itself: `checkout` gives `(native connection, release)`, and `stop` ends it.

        dbcore does not see what is done with such a connection, so its session counts as changed.
        """
        self._access.running()
        if self._raw is None:
            raise AssertionError("bug: a running database without a raw pool")
        return self._raw

    def stats(self) -> Stats:
        """A snapshot of the pool's gauges and counters. `UnsupportedError` where a foreign pool keeps none."""
        stats = self._access.running().stats
        if stats is None:
            raise self._access.unsupported("report the statistics of its pool")
        return stats()

    def holders(self) -> tuple[Holder, ...]:
        """Who holds a connection now, longest first. `UnsupportedError` where a foreign pool does not know."""
        holders = self._access.running().holders
        if holders is None:
            raise self._access.unsupported("tell who holds its connections")
        return holders()

    async def drain(self) -> None:
        """Replace all connections: those idle now, those in use when they come back. The pool stays open."""
        drain = self._access.running().drain
        if drain is None:
            raise self._access.unsupported("drain its pool")
        try:
            await drain()
        except Exception as error:
            self._access.fail(error)

    async def server_info(self) -> ServerInfo:
        """Ask what is at the other end: name and version, and whether the way there is encrypted."""
        info = self._access.driver.server_info
        if info is None:
            raise self._access.unsupported("tell about its server")
        return await self._alone(info, None, None, writing=False)

    @property
    def name(self) -> str:
        """Name of the connection in the config."""
        return self._access.name

    @property
    def driver(self) -> str:
        """Name of the driver."""
        return self._access.driver.name

    @property
    def config(self) -> Config[Any]:
        return self._access.config

    def __repr__(self) -> str:
        access = self._access
        state = "stopped" if access.stopped else "not started" if access.pool is None else "running"
        return f"<Database {self.name!r} ({self.driver}), {state}>"

    # -- inside --------------------------------------------------------------------------------------------------------

    def _query(self, sql: str, text: str, values: Sequence[Any], timeout: float | None) -> Awaitable[Result]:
        if self._trips is None:
            self._access.running()
            raise AssertionError("bug: a running database that cannot run statements")
        return self._trips.query(sql, text, values, timeout, depth=2)

    async def _together(
        self, operation: Callable[[Any], Awaitable[T]], sql: str | None, timeout: float | None, *, apart: bool = False
    ) -> T:
        if not apart:
            async with self.transaction() as tx:
                return await tx._together(operation, sql, timeout)
        return await self._alone(operation, sql, timeout, writing=True)

    async def _alone(
        self, operation: Callable[[Any], Awaitable[T]], sql: str | None, timeout: float | None, *, writing: bool
    ) -> T:
        loan: Loan[Any] = Loan(self._access)
        await loan._take(None, writing=writing)
        try:
            return await loan._run_alone(operation, sql, timeout)
        finally:
            loan._let_go(frame_at(0))

    def _streaming(self) -> tuple[Loan[Any], bool]:
        return Loan(self._access), True

    def _raw_ops(self, ops: PoolOps[Any]) -> PoolOps[Any]:
        access, touch = self._access, self._access.driver.touch

        async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
            try:
                native, release = await ops.checkout(timeout)
            except Exception as error:
                access.fail(error)
            if touch is not None:
                touch(native)
            return native, release

        return dataclasses.replace(ops, checkout=checkout, stop=self.stop, lender=None)


def _ops(pool: Pool[Any]) -> PoolOps[Any]:
    """Whoever made the pool: two closures, and what else it offers."""
    return pool if isinstance(pool, PoolOps) else PoolOps(checkout=pool.checkout, stop=pool.stop)


def open_database(
    source: str | Path | Config[Any] | Mapping[str, Any] | None = None,
    name: str | None = None,
    *,
    driver: Driver[Any, Any] | None = None,
    observe: Observer | None = None,
) -> Database:
    """Make a `Database` from a config, without any I/O to the database; `async with` starts it.

    `source` is the path of a TOML file, a URL, a `Config`, or a mapping of the shape of the file or of one connection;
    without it `$DBCORE_CONFIG`, else `db.toml` in the working directory. `name` picks a connection where there are
    several and no `default`. `driver` is a `Driver` value for tests and drivers in the making. `observe` is called
    with every event (see `dbcore.events`). Raises `ConfigError` with all that is wrong.
    """
    config = resolve(source, name, driver=driver, observe=observe)
    return Database(config, driver if driver is not None else find_driver(config.driver))


_started: weakref.WeakSet[Database] = weakref.WeakSet()


@atexit.register
def _warn_of_the_forgotten() -> None:
    for database in list(_started):
        database._warn()
