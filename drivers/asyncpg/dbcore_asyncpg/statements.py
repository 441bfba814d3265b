"""Statements: one, several, one for many rows, and a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dbcore.driver import Result
from dbcore.errors import DbError
from dbcore.statements.blame import blaming
from dbcore_asyncpg.casting import Fitter, in_common, with_casts
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.errors import STALE, decode_failure, to_error
from dbcore_asyncpg.running import run, use
from dbcore_asyncpg.texts import Text, check_script, read
from dbcore_asyncpg.transactions import whole

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.prepared_stmt import PreparedStatement

    Statement = PreparedStatement[asyncpg.Record]

__all__ = ["batch", "bind", "count_of", "execute_many", "query", "script"]

_UNREADABLE = (ValueError, OverflowError)
"""What asyncpg's decoders raise for a value that Python's type cannot hold."""


async def query(connection: Connection, sql: str, params: Sequence[Any]) -> Result:
    """Run one statement: one trip, and one more to prepare it when asyncpg has not kept it."""
    text = read(sql)
    use(connection)
    if text.changes_session:
        connection.changed = True
    if text.plain and not params:
        status = await run(connection, connection.execute, sql)
        result = Result((), [], count_of(status))
    else:
        try:
            result = await run(connection, _fetch, connection, sql, params)
        except STALE:
            connection.schema_changed()
            if connection.is_in_transaction():
                raise
            result = await run(connection, _fetch, connection, sql, params)
    _note(connection, text)
    return result


async def bind(connection: Connection, sql: str, params: Sequence[Any]) -> tuple[Statement, Sequence[Any]]:
    """Return the prepared statement, and its parameters as asyncpg takes them."""
    statement = await connection.prepared(sql)
    if not params:
        return statement, params
    values, casts = Fitter(statement.get_parameters()).fit(params)
    return (await connection.prepared(with_casts(sql, casts)) if casts else statement), values


async def _fetch(connection: Connection, sql: str, params: Sequence[Any]) -> Result:
    statement, values = await bind(connection, sql, params)
    try:
        rows = await statement.fetch(*values)
    except _UNREADABLE as error:
        if isinstance(error, DbError):
            raise
        raise decode_failure(tuple(each.name for each in statement.get_attributes())) from error
    if rows:
        return Result(tuple(rows[0].keys()), [tuple(row) for row in rows], len(rows))
    columns = tuple(each.name for each in statement.get_attributes())
    return Result(columns, [], 0 if columns else count_of(statement.get_statusmsg()))


def _note(connection: Connection, text: Text) -> None:
    """After DDL everything is prepared anew, in the whole pool; and here when names mean something else."""
    ends = text.ends_transaction
    if text.alters or (ends and connection.altered):
        connection.schema_changed()
        connection.altered = connection.is_in_transaction()
    if text.renames or (ends and connection.renaming):
        connection.forget_schema()
        connection.renamed = True
        connection.renaming = connection.is_in_transaction()


def count_of(status: str | None) -> int:
    """Return the number at the end of a command tag: `INSERT 0 5`, `UPDATE 3`; 0 for `CREATE TABLE`."""
    last = (status or "").rpartition(" ")[2]
    return int(last) if last.isdigit() else 0


async def execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run one statement for each row, all or nothing; return the rows affected.

    asyncpg sends them together, but tells of nothing except rows. So an INSERT, UPDATE or DELETE is asked for one for
    each that it changed; what cannot be asked so goes one by one.
    """
    text = read(sql)
    use(connection)
    if text.changes_session:
        connection.changed = True
    asking = text.counting or sql
    statement = await run(connection, connection.prepared, asking)
    fitter = Fitter(statement.get_parameters())
    fits = [fitter.fit(row) for row in rows]
    casts = in_common([casts for _, casts in fits], rows)
    if casts is not None and statement.get_attributes():
        if casts:
            statement = await run(connection, connection.prepared, with_casts(asking, casts))
        return len(await run(connection, statement.fetchmany, [values for values, _ in fits]))
    async with whole(connection):
        return sum([(await run(connection, _fetch, connection, sql, row)).count for row in rows])


async def batch(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[Result]:
    """Run several statements, all or nothing: one after the other, for asyncpg cannot send them together."""
    results: list[Result] = []
    async with whole(connection):
        with blaming(statements, lambda: len(results), to_error):
            for sql, params in statements:
                results.append(await query(connection, sql, params))
    return results


async def script(connection: Connection, sql: str) -> None:
    """Run a text of several statements; all or nothing unless it has transaction statements of its own."""
    check_script(sql)
    use(connection)
    connection.changed = connection.renamed = True
    await run(connection, connection.execute, sql)
    connection.schema_changed()
    connection.altered = connection.is_in_transaction()
