"""insert_many: rows by binary COPY, as asyncpg does it; by INSERT where a type has no binary form there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from typing import TYPE_CHECKING

from asyncpg import exceptions as native

from dbcore.errors import DbError, QueryError
from dbcore.statements import chunked
from dbcore_asyncpg.casting import Fitter, Row
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.running import run, use
from dbcore_asyncpg.statements import count_of, execute_many

if TYPE_CHECKING:
    from asyncpg.types import Type

__all__ = ["insert_many"]

_CHUNK = 500
"""Rows after which other tasks have a turn."""
_REMEMBERED = 100

_BINARY = frozenset(
    {
        "bool", "bpchar", "bytea", "date", "float4", "float8", "int2", "int4", "int8", "interval", "json", "jsonb",
        "numeric", "text", "time", "timestamp", "timestamptz", "timetz", "uuid", "varchar",
    }
)  # fmt: skip


async def insert_many(
    connection: Connection,
    table: tuple[str, ...],
    columns: Sequence[str],
    rows: Iterable[Row] | AsyncIterable[Row],
) -> int:
    """Load rows by COPY, all or nothing; return how many.

    A row that does not fit its columns is a `QueryError` that says which, and so is one of another length. What `rows`
    itself raises goes through.
    """
    use(connection)
    names = (*table, *columns)
    if any("\0" in name for name in names):
        raise QueryError("the name of a table or column has a NUL character in it")
    source = _Source(rows, columns)
    try:
        first = await source.first()
        if first is None:
            return 0
        into, listed = ".".join(map(_quoted, table)), ", ".join(map(_quoted, columns))
        types = await _describe(connection, f"SELECT {listed} FROM {into}")  # noqa: S608  # quoted
        fitter = Fitter(types)
        binary = len(table) <= 2 and all(name.removesuffix("[]") in _BINARY for name in fitter.names)
        if binary and not any(fitter.fit(row)[1] for row in first):
            return await _copy(connection, table, columns, source.fitted(fitter), source)
        marks = ", ".join(f"${number}" for number in range(1, len(columns) + 1))
        insert = f"INSERT INTO {into} ({listed}) VALUES ({marks})"  # noqa: S608  # quoted
        return await execute_many(connection, insert, [row async for row in source.rows()])
    finally:
        await source.close()


async def _copy(
    connection: Connection, table: tuple[str, ...], columns: Sequence[str], records: AsyncIterable[Row], source: _Source
) -> int:
    *schema, name = table
    try:
        status = await run(
            connection,
            connection.copy_records_to_table,
            name,
            schema_name=schema[0] if schema else None,
            columns=columns,
            records=records,
        )
    except BaseException as error:
        # asyncpg has asked the server to end the COPY, and waits for that before the next statement.
        connection.failed = connection.is_in_transaction()
        known = (DbError, native.PostgresError, native.InterfaceError, native.InternalClientError)
        if not isinstance(error, Exception) or error is source.error or isinstance(error, known):
            raise
        raise QueryError(
            f"row {source.number} holds a value that its column cannot take; see the cause. Nothing was inserted"
        ) from error
    return count_of(status)


class _Source:
    """The user's rows, and what they raised: an error of theirs is no error of ours."""

    def __init__(self, rows: Iterable[Row] | AsyncIterable[Row], columns: Sequence[str]) -> None:
        self._columns = columns
        self._chunks = chunked(rows, _CHUNK, len(columns))
        self._first: list[Row] | None = None
        self.number = 0
        """Of the row that is under way, counted from 1."""
        self.error: Exception | None = None

    async def first(self) -> list[Row] | None:
        """Return the first rows; `None` if there is no row at all."""
        self._first = await anext(self._chunks, None)
        return self._first

    async def rows(self) -> AsyncGenerator[Row, None]:
        chunk = self._first
        while chunk is not None:
            for row in chunk:
                self.number += 1
                yield row
            await asyncio.sleep(0)
            try:
                chunk = await anext(self._chunks, None)
            except Exception as error:
                self.error = error
                raise

    async def fitted(self, fitter: Fitter) -> AsyncGenerator[Row, None]:
        async for row in self.rows():
            values, casts = fitter.fit(row)
            if casts:
                index = casts[0][0] - 1
                raise QueryError(
                    f"row {self.number}, column {self._columns[index]!r}: this {type(row[index]).__name__} does not "
                    f"fit {fitter.names[index]}, as which the rows before it were sent; nothing was inserted"
                )
            yield values

    async def close(self) -> None:
        await self._chunks.aclose()


async def _describe(connection: Connection, sql: str) -> Sequence[Type]:
    """Ask for the types of the columns: one trip.

    asyncpg remembers how it wrote to these columns before. One of 8 bytes that became one of 8 other bytes since then
    would take the rows without a word, so it is made to forget that.
    """
    statement = await run(connection, connection.prepare, sql, name="")  # one that needs no end
    types = [each.type for each in statement.get_attributes()]
    copied, numbers = connection.copied, tuple(type_.oid for type_ in types)
    if copied.setdefault(sql, numbers) != numbers:
        connection.forget_schema()
    if len(copied) > _REMEMBERED:
        connection.forget_schema()
        copied.clear()
    copied[sql] = numbers
    return types


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
