"""The driver of a fake database: statements go to the script, and what became of them is written down."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dbcore.config import Config, Settings
from dbcore.driver import Driver, Isolation, Result, ServerInfo
from dbcore.engine import start_pool
from dbcore.errors import DbConnectionError, QueryError
from dbcore.pool import Hold, Lender, PoolOps, Release
from dbcore.statements import words
from dbcore.testing.fake import NativeError, to_error, touch, transaction_status
from dbcore.testing.fake_lines import SYNTAX, Lines, UnexpectedStatement, normalised
from dbcore.testing.script import FakeConnection, Script

__all__ = ["FakeDriver", "RecordedCall", "RecordedTransaction"]

Outcome = Literal["running", "open", "committed", "rolled back"]


@dataclass(eq=False, slots=True)
class RecordedTransaction:
    """A transaction of the application."""

    isolation: Isolation | None
    read_only: bool
    outcome: Literal["open", "committed", "rolled back"] = "open"


@dataclass(eq=False, slots=True)
class RecordedCall:
    """A statement that came, and what became of it."""

    sql: str
    """As the driver gets it: `$1, $2, ...` in place of `:name`."""
    params: Sequence[Any]
    """In the order of the numbers. Of `execute_many` and `insert_many`: one such sequence for each row."""
    transaction: RecordedTransaction | None
    """`None`: a statement on its own."""
    outcome: Outcome = "running"
    """`open` until its transaction has ended; `rolled back` also by a savepoint, or because it failed."""
    error: BaseException | None = None


@dataclass(eq=False, slots=True)
class _Open:
    """What is open on one connection."""

    transaction: RecordedTransaction
    calls: list[RecordedCall] = field(default_factory=list[RecordedCall])
    savepoints: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    """Names, and how many calls there were before."""


class FakeSettings(Settings):
    """A fake database needs none."""


class FakeDriver:
    """Answers from `lines`; `script` makes the connections."""

    def __init__(self, script: Script, lines: Lines, *, errors_doom: bool) -> None:
        self._script = script
        self._lines = lines
        self._errors_doom = errors_doom
        self._open: dict[int, _Open] = {}
        self.calls: list[RecordedCall] = []
        self.transactions: list[RecordedTransaction] = []
        self.unexpected: list[UnexpectedStatement] = []
        self.guard: Callable[[PoolOps[FakeConnection], float | None], None] = _let_in
        """Called before each checkout, with the pool and the timeout."""

    def driver(self, name: str) -> Driver[FakeSettings, FakeConnection]:
        return Driver(
            name=name,
            schemes=frozenset({name}),
            settings=FakeSettings,
            start_pool=self._start_pool,
            query=self._query,
            to_error=to_error,
            syntax=SYNTAX,
            begin=self._begin,
            commit=self._commit,
            rollback=self._rollback,
            transaction_status=transaction_status,
            execute_many=self._execute_many,
            script=self._run_script,
            stream=self._stream,
            touch=touch,
            server_info=_server_info,
        )

    def let_in(self) -> None:
        """Keep nobody from a checkout any more."""
        self.guard = _let_in

    # -- the pool ------------------------------------------------------------------------------------------------------

    async def _start_pool(self, config: Config[FakeSettings]) -> PoolOps[FakeConnection]:
        hooks = self._script.hooks()

        async def reset(connection: FakeConnection) -> None:
            self._end(connection, "rolled back")
            await hooks.reset(connection)

        pool = await start_pool(
            dataclasses.replace(hooks, reset=reset),
            config.pool,
            name=config.name,
            startup=config.startup,
            observe=config.observe,
        )

        async def checkout(timeout: float | None = None) -> tuple[FakeConnection, Release]:
            self.guard(pool, timeout)
            return await pool.checkout(timeout)

        lender = None if pool.lender is None else self._guarded(pool, pool.lender)
        return dataclasses.replace(pool, checkout=checkout, lender=lender)

    def _guarded(self, pool: PoolOps[FakeConnection], lender: Lender[FakeConnection]) -> Lender[FakeConnection]:
        def try_lend(hold: Hold[FakeConnection], depth: int) -> bool:
            self.guard(pool, None)
            return lender.try_lend(hold, depth + 1)

        return dataclasses.replace(lender, try_lend=try_lend)

    # -- statements ----------------------------------------------------------------------------------------------------

    async def _query(self, connection: FakeConnection, sql: str, params: Sequence[Any]) -> Result:
        first, *rest = [*words(sql, SYNTAX), ""]
        if first in ("SAVEPOINT", "RELEASE") or (first == "ROLLBACK" and "TO" in rest):
            await self._steer(connection, sql, undoes=first == "ROLLBACK")
            self._move_savepoint(connection, first, normalised(sql).split()[-1])
            return Result((), [], 0)
        return await self._answer(connection, sql, params)

    async def _execute_many(self, connection: FakeConnection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
        result = await self._answer(connection, sql, rows, many=True)
        return result.count or len(rows)

    async def _run_script(self, connection: FakeConnection, sql: str) -> None:
        await self._answer(connection, sql, ())

    async def _stream(
        self, connection: FakeConnection, sql: str, params: Sequence[Any], size: int
    ) -> AsyncGenerator[Result, None]:
        whole = await self._answer(connection, sql, params)
        for start in range(0, len(whole.rows), size):
            rows = whole.rows[start : start + size]
            yield Result(whole.columns, rows, len(rows))

    async def _answer(
        self, connection: FakeConnection, sql: str, params: Sequence[Any], *, many: bool = False
    ) -> Result:
        open_here = self._open.get(connection.id)
        call = RecordedCall(sql, params, None if open_here is None else open_here.transaction)
        self.calls.append(call)
        try:
            self._refuse_if_failed(connection)
            result = await self._line_for(connection, sql, params, many=many)
        except BaseException as error:
            call.error = error.error if isinstance(error, NativeError) else error
            call.outcome = "rolled back"
            raise
        call.outcome = "committed" if open_here is None else "open"
        if open_here is not None:
            open_here.calls.append(call)
        return result

    async def _line_for(self, connection: FakeConnection, sql: str, params: Sequence[Any], *, many: bool) -> Result:
        line = self._lines.find(sql, params, many=many)
        if line is None:
            if connection.broken:
                await self._script.run_query(connection)  # it comes to no script, for its connection is lost
            error = self._lines.unexpected(sql, params)
            self.unexpected.append(error)
            raise error
        step, result = line.step()
        self._script.query.then(step)
        try:
            await self._script.run_query(connection)
        except asyncio.CancelledError:
            connection.dirty = True  # nobody knows how far it came
            connection.failed = connection.in_transaction and self._errors_doom
            raise
        except Exception as error:
            connection.failed = connection.in_transaction and self._errors_doom
            if isinstance(error, NativeError) and isinstance(error.error, DbConnectionError):
                connection.broken = connection.noticed = True
            raise
        return result

    def _refuse_if_failed(self, connection: FakeConnection) -> None:
        if connection.failed:
            message = "an error has doomed this transaction: only a rollback is possible"
            raise NativeError(QueryError(message, sqlstate="25P02"))

    # -- transactions --------------------------------------------------------------------------------------------------

    async def _begin(self, connection: FakeConnection, isolation: Isolation | None, read_only: bool) -> None:
        await self._steer(connection, "BEGIN")
        connection.in_transaction = True
        transaction = RecordedTransaction(isolation, read_only)
        self.transactions.append(transaction)
        self._open[connection.id] = _Open(transaction)

    async def _commit(self, connection: FakeConnection) -> None:
        await self._steer(connection, "COMMIT")
        connection.in_transaction = False
        self._end(connection, "committed")

    async def _rollback(self, connection: FakeConnection) -> None:
        self._end(connection, "rolled back")  # also where the connection is lost meanwhile
        await self._steer(connection, "ROLLBACK", undoes=True)
        connection.in_transaction = connection.failed = False

    async def _steer(self, connection: FakeConnection, sql: str, *, undoes: bool = False) -> None:
        """What begins and ends transactions passes without a line in the script, but may have one."""
        if not undoes:
            self._refuse_if_failed(connection)
        if self._lines.find(sql, ()) is not None:
            await self._line_for(connection, sql, (), many=False)
        else:
            await self._script.run_query(connection)

    def _move_savepoint(self, connection: FakeConnection, verb: str, name: str) -> None:
        here = self._open.get(connection.id)
        if here is None:
            return
        if verb == "SAVEPOINT":
            here.savepoints.append((name, len(here.calls)))
            return
        while here.savepoints and here.savepoints[-1][0] != name:
            here.savepoints.pop()
        if verb == "ROLLBACK" and here.savepoints:
            connection.failed = False
            before = here.savepoints[-1][1]
            for call in here.calls[before:]:
                call.outcome = "rolled back"
            del here.calls[before:]
        elif here.savepoints:
            here.savepoints.pop()

    def _end(self, connection: FakeConnection, outcome: Literal["committed", "rolled back"]) -> None:
        ended = self._open.pop(connection.id, None)
        if ended is not None:
            ended.transaction.outcome = outcome
            for call in ended.calls:
                call.outcome = outcome


def _let_in(_pool: PoolOps[FakeConnection], _timeout: float | None) -> None:
    """Keep nobody from a checkout."""


async def _server_info(_connection: FakeConnection) -> ServerInfo:
    return ServerInfo(version="fake")
