"""Loading many rows: chunks of one INSERT, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from dbcore.errors import QueryError
from dbcore.statements import chunked
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.statements import execute_many, release_savepoint, set_savepoint, undo_savepoint
from dbcore_sqlite.transactions import begin, commit, rollback

__all__ = ["insert_many"]

_CHUNK = 5000
"""Rows in one hop: enough that the hop costs nothing beside them, few enough that nothing else has long to wait."""

Row = Sequence[Any]
Rows = Iterable[Row] | AsyncIterable[Row]


async def insert_many(connection: Connection, table: tuple[str, ...], columns: Sequence[str], rows: Rows) -> int:
    """Insert all of the rows or none; return how many. `rows` may be any iterable, also an asynchronous one.

    A row of another length than `columns` is a `QueryError` that says which. What `rows` itself raises goes through.
    """
    if not table or not columns:
        raise QueryError("insert_many takes a table and at least one column")
    names = ", ".join(map(_quoted, columns))
    sql = f"INSERT INTO {'.'.join(map(_quoted, table))} ({names}) VALUES ({', '.join('?' * len(columns))})"  # noqa: S608 (quoted)
    lane = connection.lane
    if isinstance(rows, AsyncIterable) and lane.owner is not connection:
        # It may take any time to read the first rows: that must not keep other writers out, nor shorten the wait that
        # comes after it.
        lane.dismiss(asyncio.current_task())
    async with aclosing(chunked(rows, _CHUNK, len(columns))) as chunks:
        chunk = await anext(chunks, None)
        if chunk is None:
            return 0
        following = await anext(chunks, None) if len(chunk) == _CHUNK else None
        if following is None:
            return await execute_many(connection, sql, chunk)
        of_text = connection.inside and not connection.begun
        own = not connection.begun and not of_text
        if own:
            await begin(connection, isolation=None, read_only=False)
        elif of_text:
            await connection.run(set_savepoint)
        try:
            count = await execute_many(connection, sql, chunk)
            while following is not None:
                count += await execute_many(connection, sql, following)
                following = await anext(chunks, None)
            if own:
                await commit(connection)
            elif of_text:
                await connection.run(release_savepoint)
        except (Exception, asyncio.CancelledError) as error:
            if isinstance(error, asyncio.CancelledError) and (connection.begun or of_text):
                error.__cause__ = None  # a part of the work may have been done by then, and is taken back
            if own:
                await connection.take_back(rollback)
            elif of_text:
                await connection.take_back(_undo_savepoint)
            else:
                connection.failed = not connection.pending
            raise
        return count


async def _undo_savepoint(connection: Connection) -> None:
    if connection.is_open:
        await connection.run(undo_savepoint, interruptible=False)


def _quoted(name: str) -> str:
    if "\0" in name:
        raise QueryError("a name holds a NUL character, which no identifier can")
    return '"' + name.replace('"', '""') + '"'
