"""What a database and its connections share: the driver's functions, the running pool, and how an operation is run."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import Any, Final, Generic, NoReturn, TypeVar, cast

from dbcore import refusals
from dbcore.config import Config
from dbcore.driver import CancelledTooLate, Driver, Result
from dbcore.errors import DbConnectionError, DbError, PoolClosed, QueryError, QueryTimeout, UnsupportedError, UsageError
from dbcore.events import CheckoutFailed, Endpoint, Event, StatementFinished, announce
from dbcore.foreign import foreign_lender
from dbcore.pool import Hold, NotLent, PoolOps, Release
from dbcore.statements import reader

__all__ = ["UNDONE", "Access"]

C = TypeVar("C")
T = TypeVar("T")
E = TypeVar("E", bound=DbError)

UNDONE: Final = object()
"""The outcome of an operation that did not take place after all, and has to be run in another way."""

log = logging.getLogger("dbcore.database")


class Access(Generic[C]):
    """The way to one database. Inside the library only; what users hold are `Database` and `Connection`."""

    __slots__ = (
        "_plain",
        "_tasks",
        "compile",
        "config",
        "driver",
        "endpoint",
        "lend",
        "loop",
        "name",
        "observe",
        "pid",
        "pool",
        "query",
        "statement_timeout",
        "stopped",
        "take_back",
        "take_back_unused",
        "try_lend",
    )

    def __init__(self, config: Config[Any], driver: Driver[Any, C]) -> None:
        self.config = config
        self.driver = driver
        self.name = config.name
        self.pool: PoolOps[C] | None = None
        self.stopped = False
        self.loop: asyncio.AbstractEventLoop | None = None
        self.pid = 0
        self.observe = config.observe
        self.endpoint = Endpoint(system=driver.name) if driver.endpoint is None else driver.endpoint(config.settings)
        # From the start on those of the pool, looked up once.
        self.lend: Callable[[Hold[C], float | None, int], Awaitable[None]]
        self.take_back: Callable[[Hold[C], NotLent], None]
        self.take_back_unused: Callable[[Hold[C], NotLent], None]
        self.try_lend: Callable[[Hold[C], int], bool] = self._not_running
        self.statement_timeout = config.statement_timeout
        self._plain = config.observe is None and config.statement_timeout is None
        self.query = driver.query
        self.compile = reader(driver.syntax).compile
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- connections ---------------------------------------------------------------------------------------------------

    def opened(self, pool: PoolOps[C], loop: asyncio.AbstractEventLoop) -> None:
        """The pool runs: from now on connections are to be had."""
        self.loop, self.pid, self.pool = loop, os.getpid(), pool
        lender = pool.lender if pool.lender is not None else foreign_lender(pool, self._guard)
        self.try_lend, self.lend = lender.try_lend, lender.lend
        self.take_back, self.take_back_unused = lender.take_back, lender.take_back_unused

    def running(self) -> PoolOps[C]:
        """The pool, or an error that says why there is none."""
        if self.pool is None:
            if self.stopped:
                raise self.closed()
            raise self.own(
                UsageError(
                    f"database {self.name!r} was not started: use `async with database:`, or `await database.start()`"
                )
            )
        return self.pool

    def closed(self) -> PoolClosed:
        """The error for whoever comes after the stop."""
        return self.own(refusals.stopped(self.name))

    async def take(self, hold: Hold[C], timeout: float | None, depth: int, *, writing: bool = False) -> Release | None:
        """Check a connection out. One that will write passes the pool's gate first, where there is one.

        Returns what to call after the release, to let the next writer in. `depth` says how many frames up from here
        the place is that asked for it.
        """
        gate: Release | None = None
        try:
            if writing:
                gate, timeout = await self.pass_gate(timeout)
            if not self.try_lend(hold, depth + 1):
                await self.lend(hold, timeout, depth + 1)
        except BaseException as error:
            if gate is not None:
                gate()
            if isinstance(error, Exception):
                self.fail_to_connect(error)
            raise
        return gate

    async def pass_gate(self, timeout: float | None) -> tuple[Release | None, float | None]:
        """Wait until writing is admitted, where there is a gate: what opens it, and what is left of the timeout."""
        admit = self.running().admit
        if admit is None:
            return None, timeout
        now = asyncio.get_running_loop().time
        limit = self.config.pool.checkout_timeout if timeout is None else timeout
        began = now()
        try:
            gate = await admit(limit)
        except BaseException as error:
            failure = self.translate(error) if isinstance(error, Exception) else None
            self.emit(CheckoutFailed, waited=now() - began, error=failure)
            raise
        return gate, began + limit - now()

    def _not_running(self, _hold: Hold[C], _depth: int) -> bool:
        self.running()
        raise AssertionError("bug: a pool that runs, and a database that does not know it")

    def _guard(self) -> None:
        """A pool that is not ours may not notice a wrong loop or a fork; our engine does so itself."""
        if self.pid != os.getpid():
            raise refusals.forked(self.name)
        self.refuse_other_loops()

    def refuse_other_loops(self) -> None:
        """Raise `UsageError` in another loop than the one it was started in. A forked child has none in common."""
        if self.loop is not None and self.pid == os.getpid() and asyncio.get_running_loop() is not self.loop:
            raise self.own(refusals.wrong_loop(self.name, self.loop))

    # -- operations ----------------------------------------------------------------------------------------------------

    def run(self, operation: Awaitable[T], sql: str | None, timeout: float | None) -> Awaitable[T]:
        """One operation of the driver, to be awaited: bounded in time, and reported to `observe`.

        Whoever awaits it makes its errors ours, by `fail`. Nothing stands between where neither is asked for.
        """
        return operation if self._plain and timeout is None else self._run(operation, sql, timeout)

    async def _run(self, operation: Awaitable[T], sql: str | None, timeout: float | None) -> T:
        limit = self.statement_timeout if timeout is None else timeout
        observe = self.observe
        started = asyncio.get_running_loop().time() if observe is not None else 0.0
        try:
            if limit is None:
                result = await operation
            else:
                named = f"timeout = {limit:g} s" if timeout is not None else f"statement_timeout = {limit:g} s"
                result = await self._in_time(operation, sql, limit, named)
        except Exception as native:
            raise self._failed(started, sql, native)  # noqa: B904  # `translate` has set the cause
        except BaseException as error:
            if observe is not None:
                self._finished(started, sql, error)
            raise
        if observe is not None and result is not UNDONE:
            self._finished(started, sql, None, *_counted(result))
        return result

    def check_timeout(self, timeout: float) -> None:
        """Refuse what is no time span, before anything is sent."""
        if type(timeout) not in (int, float) or not timeout > 0:
            raise self.own(UsageError(f"timeout is a number of seconds above 0 (math.inf: no limit), not {timeout!r}"))

    async def _in_time(self, operation: Awaitable[T], sql: str | None, limit: float, named: str) -> T:
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                return await operation
        except TimeoutError as error:
            if not scope.expired():
                raise
            cancelled = error.__cause__
            unknown = cancelled is not None and isinstance(cancelled.__cause__, CancelledTooLate)
            end = "was ended at the database"
            if unknown:
                end = "may have been done all the same; look whether it was before you repeat it"
            elif isinstance(operation, asyncio.Future):
                end = "is not waited for any more; it shares its trip with others, and only reads"
            message = f"connection {self.name!r}: the statement took longer than {named}, and {end}"
            raise QueryTimeout(message, sql=sql, outcome_unknown=unknown) from error

    def fail(self, error: Exception, sql: str | None = None) -> NoReturn:
        """Raise `error` as one of ours, with the native one as its cause."""
        raise self.translate(error, sql)

    def fail_to_connect(self, error: Exception) -> NoReturn:
        """Raise why there is no connection, with the name it has in the config."""
        found = self.translate(error)
        where = f"connection {self.name!r}: "
        if isinstance(found, DbConnectionError) and not found.message.startswith(where):
            found.args = (where + found.message,)
        raise found

    def translate(self, error: Exception, sql: str | None = None) -> Exception:
        if isinstance(error, DbError):
            return self.own(error, sql)
        mapped = self.driver.to_error(error)
        if mapped is None:
            return error
        mapped.__cause__ = error
        return self.own(mapped, sql)

    def own(self, error: E, sql: str | None = None) -> E:
        """Write into an error what only the core knows."""
        if error.driver is None:
            error.driver = self.driver.name
        if sql is not None and isinstance(error, QueryError) and error.sql is None:
            error.sql = sql
        return error

    def unsupported(self, what: str) -> UnsupportedError:
        return UnsupportedError(f"driver {self.driver.name!r} cannot {what}", driver=self.driver.name)

    # -- background ----------------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, T], *, context: Context | None = None) -> asyncio.Task[T]:
        """Run something that must go on when its caller is cancelled. `context` if it is not the caller's business."""
        task = asyncio.get_running_loop().create_task(work, name=f"dbcore {self.name}", context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def tasks_ended(self, limit: float) -> None:
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=limit)

    def _failed(self, started: float, sql: str | None, native: Exception) -> Exception:
        """The error to raise. Observers hear of the same one: the text of a native error may hold values."""
        error = self.translate(native, sql)
        if self.observe is not None:
            self._finished(started, sql, error)
        return error

    def _finished(
        self, started: float, sql: str | None, error: BaseException | None, count: int = 0, returned: int = 0
    ) -> None:
        self.emit(
            StatementFinished,
            sql=sql or "",
            seconds=asyncio.get_running_loop().time() - started,
            count=count,
            returned=returned,
            error=error,
            endpoint=self.endpoint,
        )

    def emit(self, kind: Callable[..., Event], **facts: object) -> None:
        announce(self.observe, log, self.name, kind, facts)


def _counted(result: object) -> tuple[int, int]:
    """How many rows an operation of the driver returned or changed, and how many it returned."""
    if isinstance(result, Result):
        return result.count, len(result.rows)
    if isinstance(result, list):  # of a batch
        each = [_counted(one) for one in cast("list[object]", result)]
        return sum(count for count, _ in each), sum(returned for _, returned in each)
    return (result if isinstance(result, int) else 0), 0
