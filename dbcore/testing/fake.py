"""A scripted driver: a `Driver` over a `Script`, so that a `Database` can be tested without a database.

script = Script()
driver = scripted_driver(script, {"SELECT 1": [(1,)]})
async with db.open("scripted://", driver=driver) as database:
    assert await database.fetch_value("SELECT 1") == 1
assert script.statements == [(1, "SELECT 1", ())]
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from dbcore.config import Config, Settings
from dbcore.driver import Driver, Isolation, Result, ServerInfo, TransactionStatus
from dbcore.engine import start_pool
from dbcore.errors import DbError, QueryError
from dbcore.pool import PoolOps
from dbcore.testing.script import FakeConnection, Script

__all__ = [
    "Answer",
    "Answers",
    "NativeError",
    "ScriptedSettings",
    "scripted_driver",
    "to_error",
    "touch",
    "transaction_status",
]

Answer = Result | Sequence[tuple[Any, ...]] | int | DbError
"""What a statement gives: a `Result`, only its rows (with columns `a`, `b`, ...), only its count, or an error."""

Answers = Mapping[str, Answer] | Callable[[str, Sequence[Any]], Answer]
"""By the text as the driver gets it, or by a function of text and parameters."""


class NativeError(Exception):
    """What the scripted library raises in place of `error`; `to_error` turns it back."""

    def __init__(self, error: DbError) -> None:
        super().__init__(str(error))
        self.error = error


class ScriptedSettings(Settings):
    """A scripted driver needs none."""


def scripted_driver(
    script: Script,
    answers: Answers | None = None,
    *,
    name: str = "scripted",
) -> Driver[ScriptedSettings, FakeConnection]:
    """A driver of in-memory connections that answers statements from `answers`, and does all else as `script` says.

    Time, failures and hangs of statements come from the plan `script.query`; each statement, `BEGIN`, `COMMIT` and
    `ROLLBACK` included, is in `script.statements`. A text without an answer returns no rows. An error inside a
    transaction dooms it, as on Postgres, until a rollback, also one to a savepoint. `execute_many`, `batch` and
    `insert_many` are left to the core; take away or add what a test is about with `dataclasses.replace`.
    """
    bank = _Bank(script, answers or {})
    return Driver(
        name=name,
        schemes=frozenset({name}),
        settings=ScriptedSettings,
        start_pool=bank.start_pool,
        query=bank.query,
        to_error=to_error,
        from_url=_no_keys,
        begin=bank.begin,
        commit=bank.commit,
        rollback=bank.rollback,
        transaction_status=transaction_status,
        script=bank.run_script,
        stream=bank.stream,
        touch=touch,
        server_info=_server_info,
    )


class _Bank:
    """The functions that need the script and its answers."""

    def __init__(self, script: Script, answers: Answers) -> None:
        self._script = script
        self._answers = answers

    async def start_pool(self, config: Config[ScriptedSettings]) -> PoolOps[FakeConnection]:
        hooks = self._script.hooks()
        pool = await start_pool(hooks, config.pool, name=config.name, startup=config.startup, observe=config.observe)
        return self._script.watch(pool)

    async def query(self, connection: FakeConnection, sql: str, params: Sequence[Any]) -> Result:
        script = self._script
        script.statements.append((connection.id, sql, tuple(params)))
        undoes = sql.upper().startswith("ROLLBACK")
        try:
            await script.run_query(connection)
            if connection.failed and not undoes:
                msg = "the transaction is aborted: only a rollback is possible"
                raise QueryError(msg, sqlstate="25P02")
            answer = self._answers(sql, params) if callable(self._answers) else self._answers.get(sql, ())
            result = _result(answer)
        except DbError as error:
            connection.failed = connection.in_transaction
            raise NativeError(error) from None
        except asyncio.CancelledError:
            # Nobody knows how far it came, so it is for the reset to find out.
            connection.dirty = True
            raise
        if undoes:
            connection.failed = False
        return result

    async def begin(self, connection: FakeConnection, isolation: Isolation | None, read_only: bool) -> None:
        words = ["BEGIN", *([isolation.upper()] if isolation else []), *(["READ ONLY"] if read_only else [])]
        await self.query(connection, " ".join(words), ())
        connection.in_transaction = True

    async def commit(self, connection: FakeConnection) -> None:
        await self.query(connection, "COMMIT", ())
        connection.in_transaction = False

    async def rollback(self, connection: FakeConnection) -> None:
        await self.query(connection, "ROLLBACK", ())
        connection.in_transaction = False

    async def run_script(self, connection: FakeConnection, sql: str) -> None:
        await self.query(connection, sql, ())

    async def stream(
        self, connection: FakeConnection, sql: str, params: Sequence[Any], size: int
    ) -> AsyncGenerator[Result]:
        whole = await self.query(connection, sql, params)
        for start in range(0, len(whole.rows), size):
            rows = whole.rows[start : start + size]
            yield Result(whole.columns, rows, len(rows))


def _result(answer: Answer) -> Result:
    if isinstance(answer, Result):
        return answer
    if isinstance(answer, int):
        return Result((), (), answer)
    if isinstance(answer, DbError):
        raise answer
    width = len(answer[0]) if answer else 0
    return Result(tuple("abcdefghijklmnopqrstuvwxyz"[:width]), answer, len(answer))


def to_error(native: BaseException) -> DbError | None:
    """Give back what was packed into a `NativeError`."""
    return native.error if isinstance(native, NativeError) else None


def _no_keys(url: str) -> Mapping[str, Any]:
    return {}


def transaction_status(connection: FakeConnection) -> TransactionStatus:
    """Say how the transaction of an in-memory connection is."""
    if not connection.in_transaction:
        return "idle"
    return "failed" if connection.failed else "open"


def touch(connection: FakeConnection) -> None:
    """Let an in-memory connection be reset."""
    connection.dirty = True


async def _server_info(connection: FakeConnection) -> ServerInfo:
    return ServerInfo(version="scripted")
