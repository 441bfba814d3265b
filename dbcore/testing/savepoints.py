"""A driver whose transactions are savepoints of one that is open already. The driver of a `sandbox`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Coroutine, Iterable, Sequence
from typing import Any, Generic, TypeVar, get_args

from dbcore.config import Config
from dbcore.driver import Driver, Isolation, Result, Savepoints, ServerInfo, TransactionStatus
from dbcore.errors import DbConnectionError, TransactionError, UnsupportedError, UsageError
from dbcore.loops import look_at_failure
from dbcore.pool import PoolOps
from dbcore.statements import split
from dbcore.testing.refusals import refuse_ending, refuse_writing
from dbcore.testing.turns import Level, Turns

__all__ = ["InSavepoints"]

C = TypeVar("C")
T = TypeVar("T")

log = logging.getLogger("dbcore.testing")

NAME = "dbcore_sandbox"

OVER = (
    "the sandbox is over, for the database has ended its transaction: by a statement that commits (DDL does on some "
    "databases), because a statement failed or was cancelled in a way that it answers with a rollback of all, or "
    "because the connection was lost. Make tables before the sandbox, and begin a new one"
)
UNSURE = (
    "the sandbox is over: a rollback to a savepoint failed ({}), so nobody knows what is in its transaction. Begin a "
    "new one"
)


class InSavepoints(Generic[C]):
    """Wraps the functions of a driver; all of them work on the one connection of `turns`, one at a time."""

    def __init__(self, driver: Driver[Any, C], config: Config[Any], turns: Turns[C]) -> None:
        self._real = driver
        self._turns = turns
        self._native = turns.native
        self._limit = config.pool.reset_timeout
        self._lock = asyncio.Lock()
        self._begun = False
        self._unsure: str | None = None
        """What a rollback to a savepoint has failed with, so that nobody knows what is in the transaction."""
        self._refused: dict[tuple[Isolation | None, bool], str] = {}

    def driver(self) -> Driver[Any, C]:
        """The driver for the `Database` of the sandbox. What the real one cannot do, this one cannot."""
        real = self._real
        # Made anew, not `replace`d: a capability that this one does not wrap would get past the savepoints.
        return Driver(
            name=real.name,
            schemes=real.schemes,
            settings=real.settings,
            start_pool=self._start_pool,
            query=self._query,
            to_error=real.to_error,
            syntax=real.syntax,
            begin=self._begin_inside,
            commit=self._commit,
            rollback=self._rollback,
            savepoints=real.savepoints,
            transaction_status=None if real.transaction_status is None else self._status,
            execute_many=None if real.execute_many is None else self._execute_many,
            batch=None if real.batch is None else self._batch,
            script=None if real.script is None else self._script,
            stream=None if real.stream is None else self._stream,
            insert_many=None if real.insert_many is None else self._insert_many,
            touch=real.touch,
            server_info=None if real.server_info is None else self._server_info,
            endpoint=real.endpoint,
        )

    async def _start_pool(self, config: Config[Any]) -> PoolOps[C]:
        return self._turns.pool()

    # -- the outer transaction -----------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Begin the transaction that holds all of it, after a look at what kinds of transaction there are."""
        _ = self._savepoints  # without them there can be no sandbox
        try:
            await self._begin_outside()
        except Exception as error:
            known = self._real.to_error(error)
            if known is None:
                raise
            raise known from error
        self._begun = True

    async def _begin_outside(self) -> None:
        real, native = self._real, self._native
        if real.begin is not None:
            kinds: list[tuple[Isolation | None, bool]] = [(isolation, False) for isolation in get_args(Isolation)]
            for isolation, read_only in [*kinds, (None, True)]:
                try:
                    await real.begin(native, isolation, read_only)
                except UnsupportedError as error:
                    self._refused[isolation, read_only] = error.message
                else:
                    await self._roll_back_all()
            await real.begin(native, None, False)  # noqa: FBT003  # positional in the contract
        else:
            await real.query(native, "BEGIN", ())

    async def end(self) -> None:
        """Roll all of it back. Where somebody is still at work, that is left to the reset of the connection."""
        if self._lock.locked() or self._turns.held_by_others():
            return
        try:
            await _to_its_end(self._in_time(self._roll_back_all()))
        except Exception as error:  # the connection is lost, and its transaction with it
            log.warning("sandbox: the rollback failed, the connection is dropped: %s", type(error).__name__)

    async def _roll_back_all(self) -> None:
        if self._real.rollback is not None:
            await self._real.rollback(self._native)
        else:
            await self._real.query(self._native, "ROLLBACK", ())

    # -- transactions of the application -------------------------------------------------------------------------------

    async def _begin_inside(self, native: C, isolation: Isolation | None, read_only: bool) -> None:
        if self._real.begin is None and (isolation is not None or read_only):
            raise UnsupportedError(
                f"driver {self._real.name!r} cannot set the isolation of a transaction or make it read-only"
            )
        for refused in (self._refused.get((isolation, False)), self._refused.get((None, read_only))):
            if refused is not None:
                raise UnsupportedError(refused)
        self._check()
        leases = self._turns.leases
        depth = sum(len(lease.levels) for lease in leases) + 1
        leases[-1].levels.append(Level(f"{NAME}_{depth}", read_only))

    async def _commit(self, native: C) -> None:
        lease = next((lease for lease in reversed(self._turns.leases) if lease.levels), None)
        if lease is None:
            return
        level = lease.levels[-1]

        async def release() -> None:
            if level.sent and level.read_only:  # whatever wrote without looking like it
                texts = self._savepoints.to_undo(level.name)
            elif level.sent:
                texts = self._savepoints.to_release(level.name)
            else:
                texts = ()
            for text in texts:
                await self._say(text)
            lease.levels.remove(level)

        async with self._lock:
            self._check()
            await _to_its_end(self._in_time(release()))

    async def _rollback(self, native: C) -> None:
        lease = self._turns.leases[-1] if self._turns.leases else None
        if lease is not None and lease.levels:
            level = lease.levels.pop()
            async with self._lock:
                if level.sent:
                    await self._undo(level.name)

    def _status(self, native: C) -> TransactionStatus:
        if not any(lease.levels for lease in self._turns.leases) or self._real.transaction_status is None:
            return "idle"
        return self._real.transaction_status(native)

    # -- statements ----------------------------------------------------------------------------------------------------

    async def _query(self, native: C, sql: str, params: Sequence[Any]) -> Result:
        self._look(sql)
        return await self._run(lambda: self._real.query(native, sql, params))

    async def _execute_many(self, native: C, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        self._look(sql)
        return await self._run(lambda: _there(self._real.execute_many)(native, sql, rows))

    async def _batch(self, native: C, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[Result]:
        for sql, _ in statements:
            self._look(sql)
        return await self._run(lambda: _there(self._real.batch)(native, statements))

    async def _script(self, native: C, sql: str) -> None:
        for statement in split(sql, self._real.syntax):
            self._look(statement)
        await self._run(lambda: _there(self._real.script)(native, sql))

    async def _stream(self, native: C, sql: str, params: Sequence[Any], size: int) -> AsyncGenerator[Result, None]:
        """All rows at once: while they are read, the application may use what it takes for another connection."""
        whole = await self._query(native, sql, params)
        for start in range(0, len(whole.rows), size):
            rows = whole.rows[start : start + size]
            yield Result(whole.columns, rows, len(rows))

    async def _insert_many(
        self,
        native: C,
        table: tuple[str, ...],
        columns: Sequence[str],
        rows: Iterable[Sequence[Any]] | AsyncIterable[Sequence[Any]],
    ) -> int:
        self._look("INSERT")
        # An async iterable may come from the application's other connection, which is this one.
        given = [row async for row in rows] if isinstance(rows, AsyncIterable) else rows
        return await self._run(lambda: _there(self._real.insert_many)(native, table, columns, given))

    async def _server_info(self, native: C) -> ServerInfo:
        return await self._run(lambda: _there(self._real.server_info)(native))

    def _look(self, sql: str) -> None:
        real = self._real
        refuse_ending(sql, real.syntax)
        if any(level.read_only for lease in self._turns.leases for level in lease.levels):
            refuse_writing(sql, real.syntax, real.writes)

    async def _run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something on the connection: in the transaction that is open, else in a savepoint of its own."""
        async with self._lock:
            await self._settle()
            self._check()
            leases = self._turns.leases
            for lease in leases:
                for level in lease.levels:
                    if not level.sent:
                        level.sent = True
                        await self._steer(self._savepoints.to_begin(level.name))
            if leases and leases[-1].levels:
                result = await _to_its_end(work(), cancel=True)
            else:
                result = await self._alone(work)
            self._check()
            return result

    async def _alone(self, work: Callable[[], Awaitable[T]]) -> T:
        """As if by autocommit: an error takes back what this did, and nothing else."""
        name = f"{NAME}_statement"
        try:
            await self._steer(self._savepoints.to_begin(name))
            result = await _to_its_end(work(), cancel=True)
        except BaseException:
            await self._undo(name)
            raise
        if not self._is_over():
            await self._steer(*self._savepoints.to_release(name))
        return result

    async def _settle(self) -> None:
        """Roll back what was left open by somebody who had no time to."""
        left = self._turns.left_open
        lowest = next((level for level in left if level.sent), None)
        left.clear()
        if lowest is not None:
            await self._undo(lowest.name)

    def _check(self) -> None:
        if self._turns.disorder is not None:
            raise UsageError(self._turns.disorder)
        if self._unsure is not None:
            raise TransactionError(UNSURE.format(self._unsure))
        if self._is_over():
            raise TransactionError(OVER)

    def _is_over(self) -> bool:
        status = self._real.transaction_status
        return self._begun and status is not None and status(self._native) == "idle"

    @property
    def _savepoints(self) -> Savepoints:
        savepoints = self._real.savepoints
        if savepoints is None:
            raise UnsupportedError(f"driver {self._real.name!r} has no savepoints, and a sandbox is made of them")
        return savepoints

    # -- savepoints ----------------------------------------------------------------------------------------------------

    async def _undo(self, name: str) -> None:
        if self._is_over():
            return
        try:
            await self._steer(*self._savepoints.to_undo(name))
        except Exception as error:
            # Of a connection that is lost the driver will speak itself.
            if not isinstance(self._real.to_error(error) or error, DbConnectionError):
                self._unsure = type(error).__name__
            log.warning("sandbox: a rollback to a savepoint failed: %s", type(error).__name__)

    async def _steer(self, *texts: str) -> None:
        """Say something that a cancellation must not cut in half."""

        async def say_all() -> None:
            for text in texts:
                await self._say(text)

        await _to_its_end(self._in_time(say_all()))

    async def _say(self, text: str) -> None:
        await self._real.query(self._native, text, ())

    async def _in_time(self, work: Coroutine[Any, Any, T]) -> T:
        async with asyncio.timeout(self._limit):
            return await work


def _there(function: T | None) -> T:
    if function is None:
        raise AssertionError("bug: a function that the driver does not have was offered")
    return function


async def _to_its_end(work: Awaitable[T], *, cancel: bool = False) -> T:
    """Await work whatever happens to the caller meanwhile; a cancellation comes out afterwards.

    With `cancel` the first cancellation cancels the work too. A driver drops its connection when it is cancelled once
    more meanwhile, and this one must last.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            if cancel and cancelled is None:
                task.cancel()
            cancelled = error
    if cancelled is None:
        return task.result()
    look_at_failure(task)  # the cancellation goes first
    raise cancelled
