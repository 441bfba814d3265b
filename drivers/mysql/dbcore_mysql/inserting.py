"""Loading many rows: INSERTs of many rows each, as large as the server takes them, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Sequence
from contextlib import aclosing
from typing import Any

from dbcore.errors import QueryError
from dbcore.statements import chunked
from dbcore_mysql.connection import Connection
from dbcore_mysql.literals import literal, name
from dbcore_mysql.transactions import together
from dbcore_mysql.wire import ask, talk

__all__ = ["insert_many"]

_ROWS = 1000
"""Rows that are written out in one go; other tasks have a turn after them."""
_TEXT = 2**20
"""Bytes of one INSERT: larger ones are no faster, and memory is the server's too."""

Row = Sequence[Any]
Rows = Iterable[Row] | AsyncIterable[Row]


async def insert_many(connection: Connection, table: tuple[str, ...], columns: Sequence[str], rows: Rows) -> int:
    """Insert all of the rows or none; return how many. `rows` may be any iterable, also an asynchronous one.

    A row of another length than `columns`, or a value that MySQL has no form for, is a `QueryError` that says which.
    What `rows` itself raises goes through.
    """
    names = b", ".join(map(name, columns))
    head = b"INSERT INTO " + b".".join(map(name, table)) + b" (" + names + b") VALUES "
    with connection.use():
        connection.check_literals("")
        inserting = _Inserting(connection, head, columns)
        async with together(connection), aclosing(chunked(rows, _ROWS, len(columns))) as chunks:
            async for chunk in chunks:
                await inserting.add(chunk)
                await asyncio.sleep(0)
            await inserting.flush()
        return inserting.count


class _Inserting:
    """Collects rows as text, and sends them when there are enough."""

    def __init__(self, connection: Connection, head: bytes, columns: Sequence[str]) -> None:
        self.count = 0
        self._connection = connection
        self._head = head
        self._columns = columns
        self._seen = 0
        self._texts: list[bytes] = []
        self._size = len(head)

    async def add(self, rows: Sequence[Row]) -> None:
        most = min(_TEXT, self._connection.max_packet - 1)
        for row in rows:
            self._seen += 1
            text = self._written(row)
            if self._texts and self._size + len(text) + 1 > most:
                await self.flush()
            if self._size + len(text) >= self._connection.max_packet:
                raise QueryError(
                    f"nothing was inserted: row {self._seen} is {len(text)} bytes, and the server takes less than "
                    f"{self._connection.max_packet} (max_allowed_packet)"
                )
            self._texts.append(text)
            self._size += len(text) + 1

    async def flush(self) -> None:
        if self._texts:
            data = self._head + b",".join(self._texts)
            self._texts, self._size = [], len(self._head)
            result = await talk(self._connection, ask(self._connection, data), self._head.decode())
            self.count += result.affected_rows

    def _written(self, row: Row) -> bytes:
        values: list[bytes] = []
        for value in row:
            try:
                values.append(literal(value))
            except QueryError as error:
                where = f"row {self._seen}, column {self._columns[len(values)]!r}"
                raise QueryError(
                    f"nothing was inserted: {where} (a {type(value).__name__}) cannot be sent: {error}"
                ) from error
        return b"(" + b",".join(values) + b")"
