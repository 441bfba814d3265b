"""Loading many rows: chunks of one INSERT, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence, Sized
from contextlib import aclosing
from itertools import islice
from typing import Any

from dbcore.errors import QueryError
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.statements import execute_many
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
    async with aclosing(_fitting(_chunks(rows), len(columns))) as chunks:
        chunk = await anext(chunks, None)
        if chunk is None:
            return 0
        following = await anext(chunks, None) if len(chunk) == _CHUNK else None
        if following is None:
            return await execute_many(connection, sql, chunk)
        own = not connection.begun and not connection.inside
        if own:
            await begin(connection, isolation=None, read_only=False)
        try:
            count = await execute_many(connection, sql, chunk)
            while following is not None:
                count += await execute_many(connection, sql, following)
                following = await anext(chunks, None)
            if own:
                await commit(connection)
        except (Exception, asyncio.CancelledError):
            if own:
                await rollback(connection)
            else:
                connection.failed = bool(connection.begun) and not connection.pending
            raise
        return count


async def _chunks(rows: Rows) -> AsyncGenerator[list[Row], None]:
    if isinstance(rows, AsyncIterable):
        chunk: list[Row] = []
        async for row in rows:
            chunk.append(row)
            if len(chunk) == _CHUNK:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
    else:
        source = iter(rows)
        while chunk := list(islice(source, _CHUNK)):
            yield chunk


async def _fitting(chunks: AsyncGenerator[list[Row], None], width: int) -> AsyncGenerator[list[Row], None]:
    """Let pass chunks of rows that have as many values as there are columns."""
    done = 0
    async with aclosing(chunks):
        async for chunk in chunks:
            if not _fit(chunk, width):
                raise _misfit(chunk, done, width)
            done += len(chunk)
            yield chunk


def _fit(rows: list[Row], width: int) -> bool:
    try:
        return set(map(len, rows)) == {width}
    except TypeError:  # some row has no length
        return False


def _misfit(rows: Sequence[object], done: int, width: int) -> QueryError:
    number, row = next(
        (number, row) for number, row in enumerate(rows, done + 1) if not isinstance(row, Sized) or len(row) != width
    )
    what = f"has {len(row)} values for {width} columns" if isinstance(row, Sized) else "is no sequence of values"
    return QueryError(f"row {number} {what}; nothing was inserted")


def _quoted(name: str) -> str:
    if "\0" in name:
        raise QueryError("a name holds a NUL character, which no identifier can")
    return '"' + name.replace('"', '""') + '"'
