"""Streams: rows as they come, in constant memory, out of a cursor of the server's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from dbcore.driver import Result
from dbcore.errors import DbError
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.errors import decode_failure
from dbcore_asyncpg.running import run, use
from dbcore_asyncpg.statements import bind
from dbcore_asyncpg.texts import read

if TYPE_CHECKING:
    import asyncpg

__all__ = ["stream"]


async def stream(connection: Connection, sql: str, params: Sequence[Any], size: int) -> AsyncGenerator[Result, None]:
    """Yield the rows of a statement in results of at most `size`: a trip for each.

    A cursor lives in a transaction, so the stream begins one where there is none: two more trips. Inside of one it
    sets a savepoint. Closed before its end, it rolls back to where it began, which ends the statement.
    """
    text = read(sql)
    use(connection)
    if text.changes_session:
        connection.changed = True
    if text.renames:
        connection.outdated = connection.renamed = connection.renaming = True
    own = not connection.is_in_transaction()
    this = connection.open_stream = object()
    connection.own_transaction = own
    complete = False
    try:
        await run(connection, connection.execute, "BEGIN" if own else "SAVEPOINT _db_stream")
        statement, values = await run(connection, bind, connection, sql, params)
        columns = tuple(each.name for each in statement.get_attributes())
        records = aiter(statement.cursor(*values, prefetch=size))
        full = True
        while full:
            rows = await run(connection, _read, records, size, columns)
            full = len(rows) == size
            if rows:
                yield Result(columns, rows, len(rows))
        complete = True
    finally:
        # A release may have ended it, and the connection may have another holder by now.
        if connection.open_stream is this:
            try:
                await _end(connection, own=own, complete=complete)
            finally:
                connection.open_stream = None
                connection.own_transaction = False


async def _read(records: AsyncIterator[asyncpg.Record], size: int, columns: tuple[str, ...]) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    try:
        async for record in records:
            rows.append(tuple(record))
            if len(rows) == size:
                break
    except (ValueError, OverflowError) as error:
        if isinstance(error, DbError):
            raise
        raise decode_failure(columns) from error
    return rows


async def _end(connection: Connection, *, own: bool, complete: bool) -> None:
    if connection.is_closed():
        return
    if own:
        await run(connection, connection.execute, "COMMIT" if complete else "ROLLBACK")
        return
    if not complete:
        await run(connection, connection.execute, "ROLLBACK TO SAVEPOINT _db_stream")
    await run(connection, connection.execute, "RELEASE SAVEPOINT _db_stream")
