"""Statements: each function here is one hop to the worker, whatever it does there."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

from dbcore.driver import Result
from dbcore.errors import DbError, QueryError
from dbcore.statements import blaming, row_shape, split, words
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.errors import code_of, is_busy, name_of, to_error
from dbcore_sqlite.values import encode, encode_rows
from dbcore_sqlite.words import SYNTAX, Kind, look
from dbcore_sqlite.worker import Native, Patience

__all__ = [
    "batch",
    "columns_of",
    "execute_many",
    "explain",
    "prepare",
    "query",
    "release_savepoint",
    "run_one",
    "script",
    "set_savepoint",
    "together",
    "undo_savepoint",
]

_execute = sqlite3.Connection.execute

_OF_TRANSACTIONS = frozenset({"BEGIN", "COMMIT", "END", "RELEASE", "ROLLBACK", "SAVEPOINT"})
_MAY_QUOTE = frozenset({0, sqlite3.SQLITE_ERROR})
"""0: the library itself, which quotes a text that is not UTF-8."""
_WITHOUT_ROWS = frozenset(["ALTER", "ATTACH", "DETACH", "PRAGMA", "VACUUM"]) | _OF_TRANSACTIONS
"""What SQLite says of these as they run is about the schema, the session or the transaction."""
_EMPTY = "; \t\n\r\f\v\ufeff"
"""What may stand before a statement, and cannot stand behind EXPLAIN."""
_CHANGING = frozenset({"DELETE", "INSERT", "REPLACE", "UPDATE", "WITH"})


async def query(connection: Connection, sql: str, params: Sequence[Any]) -> Result:
    """Run one statement and return all of its rows."""
    kind = look(sql)
    if not kind.plain or connection.begun or connection.ending is not None or connection.home.strict:
        await prepare(connection, kind)
    try:
        result: Result = await connection.work(run_one, sql, encode(params))
        if connection.failed and kind.first == "ROLLBACK":
            connection.failed = False  # back to a savepoint from before the failure
        return result
    finally:
        if connection.lane.owner is connection:
            connection.settle()


async def batch(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[Result]:
    """Run several statements, all or nothing. An error has the text of the one that failed."""
    kinds = [look(sql) for sql, _ in statements]
    work: list[tuple[str, Sequence[Any]]] = []
    results: list[Result] = []
    done: list[Any] = work
    """What each statement has come to, at the present stage."""
    with blaming(statements, lambda: len(done), to_error):
        for sql, params in statements:
            work.append((sql, encode(params)))
        done = results
        await together(connection, kinds, _batch, work, results)
    return results


async def execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run one statement for each row, all or nothing; return the rows affected."""
    kind = look(sql)
    count: int = await together(connection, [kind], _executemany if kind.many else _one_by_one, sql, encode_rows(rows))
    return count


async def script(connection: Connection, sql: str) -> None:
    """Run a text of several statements: all or nothing, unless it has transaction statements of its own."""
    statements = split(sql, SYNTAX)
    kinds = [look(statement) for statement in statements]
    if not any(kind.ends for kind in kinds):
        await together(connection, kinds, _script, statements)
        return
    if connection.begun:
        raise QueryError("the script has BEGIN, COMMIT or ROLLBACK; run it outside of a transaction, or take them out")
    note(connection, kinds)
    await connection.lane.take(connection)
    try:
        await connection.run(_patient_script, statements, connection)
    finally:
        connection.settle()


async def prepare(connection: Connection, kind: Kind) -> None:
    """Whatever comes before a statement: refuse it, note what it does to the session, wait for its turn to write."""
    if connection.ending is not None:
        await connection.quiet()
    if kind.session or connection.home.reset == "full":
        note(connection, [kind])
    if connection.begun:
        connection.check(kind.first)
    elif (kind.writes or connection.lane.everything) and not connection.lane.take_now(connection):
        await connection.lane.take(connection)


def note(connection: Connection, kinds: Sequence[Kind]) -> None:
    """Remember what the reset will have to undo: with `pool.reset = "full"` also what nobody can see in a text."""
    connection.changed = connection.changed or connection.home.reset == "full"
    for kind in kinds:
        if kind.session == "known":
            connection.changed = True
        elif kind.session == "unknown":
            connection.tainted = True


async def together(connection: Connection, kinds: Sequence[Kind], work: Callable[..., Any], *arguments: Any) -> Any:
    """Run work of several statements, all or nothing: in a transaction of its own, or inside of the open one.

    One that `begin` has begun fails with it; in one of text, which nobody here can fail, it has a savepoint.
    """
    if connection.ending is not None:
        await connection.quiet()
    note(connection, kinds)
    if connection.inside and not connection.begun:
        if any(kind.first in _OF_TRANSACTIONS for kind in kinds):  # they may end the savepoint with the rest
            return await connection.work(work, *arguments)
        return await connection.work(_in_savepoint, work, *arguments)
    if connection.begun:
        connection.check()
        try:
            return await connection.work(work, *arguments)
        except BaseException:
            connection.failed = not connection.pending
            raise
    writes = any(kind.writes for kind in kinds)
    if writes or connection.lane.everything:
        await connection.lane.take(connection)
    try:
        return await connection.work(_whole, "BEGIN IMMEDIATE" if writes else "BEGIN", work, *arguments)
    finally:
        connection.settle()


# -- in the worker -----------------------------------------------------------------------------------------------------


def run_one(native: Native, sql: str, params: Sequence[Any]) -> Result:
    """Run one statement, in the worker."""
    try:
        cursor = _execute(native, sql, params)
        if cursor.description is not None:
            cursor.row_factory = None  # the user of `native` may have set one on the connection
            columns = columns_of(cursor)
            rows = list(map(row_shape(columns), cursor))  # each tuple is gone before the next one is made
            return Result(columns, rows, len(rows))
    except sqlite3.OperationalError as error:
        explain(native, sql, params, error)
        raise
    count = cursor.rowcount
    if count < 0:  # all but INSERT, UPDATE, DELETE and REPLACE: the library looks at the first word
        count = _changes(native) if look(sql).first in _CHANGING else 0
    return Result((), [], count)


def _changes(native: Native) -> int:
    cursor = _execute(native, "SELECT changes()")
    cursor.row_factory = None
    count: int = cursor.fetchone()[0]
    return count


def columns_of(cursor: sqlite3.Cursor) -> tuple[str, ...]:
    """Return the names of the columns; none for a statement that returns no rows."""
    description = cursor.description
    return tuple([column[0] for column in description]) if description is not None else ()


def _batch(native: Native, statements: Sequence[tuple[str, Sequence[Any]]], results: list[Result]) -> None:
    results.clear()  # of an earlier attempt, which a lock has stopped
    for sql, params in statements:
        results.append(run_one(native, sql, params))


def _executemany(native: Native, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    try:
        return max(native.executemany(sql, rows).rowcount, 0)
    except sqlite3.OperationalError as error:
        explain(native, sql, rows[0] if rows else (), error)
        raise


def _one_by_one(native: Native, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    return sum(run_one(native, sql, row).count for row in rows)


def _script(native: Native, statements: Sequence[str]) -> None:
    for statement in statements:
        try:
            _execute(native, statement).fetchall()
        except sqlite3.OperationalError as error:
            explain(native, statement, (), error)
            raise


def _patient_script(native: Native, statements: Sequence[str], connection: Connection) -> None:
    """Run a script with transactions of its own; where it may wait for a lock that another process holds, it does.

    That is outside of a transaction, and at its COMMIT. Inside of one, whoever holds the lock may wait for it.
    """
    begun = False
    """The transaction has only begun: it holds nothing that anybody waits for."""
    for statement in statements:
        patience: Patience | None = None
        while True:
            try:
                _script(native, [statement])
                break
            except sqlite3.OperationalError as error:
                may_wait = begun or not native.in_transaction or look(statement).ends
                patience = patience or Patience(connection.settings.busy_timeout)
                if not may_wait or not is_busy(error) or connection.is_unwanted or not patience.wait():
                    raise
        begun = look(statement).first == "BEGIN"


def _whole(native: Native, begin: str, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do work in a transaction of its own."""
    _execute(native, begin)
    try:
        result = work(native, *arguments)
        _execute(native, "COMMIT")
    except BaseException:
        if native.in_transaction:  # SQLite may have rolled back itself
            _execute(native, "ROLLBACK")
        raise
    return result


def _in_savepoint(native: Native, work: Callable[..., Any], *arguments: Any) -> Any:
    """Do work inside of a transaction that goes on when it fails."""
    set_savepoint(native)
    try:
        result = work(native, *arguments)
    except BaseException:
        undo_savepoint(native)
        raise
    release_savepoint(native)
    return result


def set_savepoint(native: Native) -> None:
    """Begin what `release_savepoint` keeps and `undo_savepoint` takes back, inside of the open transaction."""
    _execute(native, "SAVEPOINT dbcore_together")


def release_savepoint(native: Native) -> None:
    """Keep what was done since `set_savepoint`."""
    _execute(native, "RELEASE dbcore_together")


def undo_savepoint(native: Native) -> None:
    """Take back what was done since `set_savepoint`; the transaction goes on."""
    for sql in ("ROLLBACK TO dbcore_together", "RELEASE dbcore_together"):
        if not native.in_transaction:  # SQLite has rolled all of it back itself
            return
        try:
            _execute(native, sql)
        except sqlite3.OperationalError as error:
            if code_of(error) != sqlite3.SQLITE_INTERRUPT:
                raise
            _execute(native, sql)  # the interrupt was meant for the work; none comes twice in a row


def explain(native: Native, sql: str, params: Sequence[Any], error: sqlite3.OperationalError) -> None:
    """Raise an error of our own where SQLite's words may quote a value, as those of FTS5 and JSON functions do.

    A statement that can be prepared failed as it ran. One that cannot fails again with the same words, which are about
    its text alone.
    """
    first = look(sql).first
    if code_of(error) not in _MAY_QUOTE:
        return
    if not params and (first in _WITHOUT_ROWS or words(sql, SYNTAX)[:2] == ("CREATE", "VIRTUAL")):
        return
    text = sql.lstrip(_EMPTY)
    try:
        _execute(native, text if first == "EXPLAIN" else f"EXPLAIN {text}", [None] * len(params)).close()
    except sqlite3.Error as again:
        if str(again) == str(error):
            return
    failure: DbError = QueryError(
        f"the statement failed as it ran ({name_of(error)}); what SQLite says may hold values, see __cause__", sql=sql
    )
    raise failure from error
