"""insert_many: rows by COPY, in binary where the types of the columns are known."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg

from dbcore.errors import QueryError
from dbcore.statements import chunked
from dbcore_postgres.cancelling import cut_short
from dbcore_postgres.connection import Connection
from dbcore_postgres.encoding import BinaryRows, Encoder, TextRows
from dbcore_postgres.fitting import BINARY_TYPES
from dbcore_postgres.statements import Trip
from dbcore_postgres.waiting import flush, ready
from dbcore_postgres.wire import Command, collect, lost, pipeline, simple

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["insert_many"]

Row = Sequence[Any]
_CHUNK = 500
"""Rows that are turned into bytes and sent at once."""
_PIECE = 128 * 1024
"""libpq keeps what it cannot send; given much more at once, it copies that around."""


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
    if not columns:
        raise QueryError("insert_many needs at least one column")
    await connection.quiet()
    chunks = chunked(rows, _CHUNK, len(columns))
    try:
        chunk = await anext(chunks, None)
        if chunk is None:
            return 0
        try:
            types = await _describe(connection, table, columns)
        except asyncio.CancelledError as error:
            raise error from None  # whatever came too late for it, no row was sent
        encoder, data = _encoder(connection, types, columns, chunk)
        statement = f"COPY {_quoted(table)} ({_listed(columns)}) FROM STDIN ".encode()
        await simple(connection, statement + encoder.format)
        try:
            await _send(connection, data)
            async for chunk in chunks:
                await _send(connection, encoder.encode(chunk))
            await _send(connection, encoder.last)
            connection.pgconn.put_copy_end()
        except psycopg.OperationalError as error:
            lost(connection, error)
        except Exception:
            await _give_up(connection)
            raise
        except BaseException as error:
            await cut_short(connection, error)
    finally:
        await chunks.aclose()
    done = await collect(connection)
    return done[-1].command_tuples or 0


def _encoder(
    connection: Connection, types: Sequence[int], columns: Sequence[str], rows: list[Row]
) -> tuple[Encoder, bytes]:
    """Choose the format by the first rows: text takes more than binary does, and is slower. Return them encoded."""
    if all(type_ in BINARY_TYPES for type_ in types):
        binary = BinaryRows(connection, types, columns)
        with contextlib.suppress(QueryError):
            return binary, binary.encode(rows)
    text = TextRows(connection, types, columns)
    return text, text.encode(rows)


async def _give_up(connection: Connection) -> None:
    """End COPY so that nothing of it is kept; the error that the server has for that says nothing new."""
    with contextlib.suppress(psycopg.Error):
        connection.pgconn.put_copy_end(b"the rows ended with an error")
        await collect(connection)


async def _describe(connection: Connection, table: tuple[str, ...], columns: Sequence[str]) -> tuple[int, ...]:
    """Ask for the types of the columns: one trip, which takes along a BEGIN that waits.

    Nothing is remembered: a column of 8 bytes that became one of 8 other bytes would take the rows without a word.
    """
    pgconn = connection.pgconn
    text = f"SELECT {_listed(columns)} FROM {_quoted(table)}".encode()  # noqa: S608 (quoted)
    described: list[PGresult] = []
    commands: list[Command] = [
        *Trip(connection).begin(),
        (partial(pgconn.send_prepare, b"", text), None, False),
        (partial(pgconn.send_describe_prepared, b""), described.append, False),
    ]
    await pipeline(connection, commands)
    return tuple(described[0].ftype(number) for number in range(described[0].nfields))


async def _send(connection: Connection, data: bytes) -> None:
    pgconn = connection.pgconn
    for start in range(0, len(data), _PIECE):
        piece = data[start : start + _PIECE] if len(data) > _PIECE else data
        while pgconn.put_copy_data(piece) == 0:
            await ready(connection, writing=True)
        await flush(connection)


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(_quoted((column,)) for column in columns)


def _quoted(names: Sequence[str]) -> str:
    if any("\0" in name for name in names):
        raise QueryError("the name of a table or column has a NUL character in it")
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)
