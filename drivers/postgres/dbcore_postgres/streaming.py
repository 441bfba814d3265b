"""Streams: rows as they come, in constant memory."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

import psycopg
from psycopg import capabilities, pq

from dbcore.driver import Result
from dbcore_postgres.cancelling import abandon
from dbcore_postgres.connection import ACTIVE, NAMES, OK, SESSION, STREAM, Connection, use
from dbcore_postgres.prepared import Seen
from dbcore_postgres.results import columns_of, rows_of
from dbcore_postgres.statements import bind
from dbcore_postgres.wire import fetch, lost, simple

__all__ = ["stream"]

CHUNK = int(pq.ExecStatus.TUPLES_CHUNK)
SINGLE = int(pq.ExecStatus.SINGLE_TUPLE)


async def stream(connection: Connection, sql: str, params: Sequence[Any], size: int) -> AsyncGenerator[Result, None]:
    """Yield the rows of a statement in results of at most `size`.

    They come in the text format: the types of the columns are not known yet, and text is hardly slower.

    Closed before its end, it stops the statement at the server. Inside of a transaction that would doom the
    transaction, so a savepoint is set there first: one trip before the stream, and one after it.
    """
    await connection.quiet()
    connection.follow_adapters()
    values, types, formats = bind(connection, params)
    seen = Seen(sql)
    use(connection)
    if seen.changes_session:
        connection.marks |= SESSION | NAMES
    if seen.alters:
        connection.prepared.forget_names(gone=False)
        connection.altered = True
    begin, connection.pending = connection.pending, None
    savepoint = connection.block
    if savepoint:
        await simple(connection, (b"" if begin is None else begin + b"; ") + b"SAVEPOINT _db_stream")
    pgconn = connection.pgconn
    try:
        pgconn.send_query_params(seen.text, values, types or None, formats)
    except psycopg.OperationalError as error:
        lost(connection, error)
    chunked = capabilities.has_stream_chunked()
    if chunked:
        pgconn.set_chunked_rows_mode(size)
    else:
        pgconn.set_single_row_mode()
    this = connection.open_stream = object()
    connection.marks |= STREAM
    connection.chunked = True
    complete = False
    try:
        columns: tuple[str, ...] | None = None
        rows: list[tuple[Any, ...]] = []
        while (result := await fetch(connection)) is not None:
            if result.status not in (CHUNK, SINGLE):
                continue
            if columns is None:
                columns = columns_of(result)
            connection.follow_styles()
            rows += rows_of(connection, result, columns)
            if len(rows) >= size:
                yield Result(columns, rows, len(rows))
                rows = []
        complete = True
        if columns is not None and rows:
            yield Result(columns, rows, len(rows))
    finally:
        # A reset may have ended it, and the connection may have another holder by now.
        if connection.open_stream is this:
            connection.open_stream = None
            connection.transformer.set_pgresult(None)
            if not complete and pgconn.status == OK and pgconn.transaction_status == ACTIVE:
                await abandon(connection)
                if savepoint and pgconn.status == OK:
                    await simple(connection, b"ROLLBACK TO SAVEPOINT _db_stream")
            connection.marks &= ~STREAM
            if savepoint and pgconn.status == OK and pgconn.transaction_status == int(pq.TransactionStatus.INTRANS):
                await simple(connection, b"RELEASE SAVEPOINT _db_stream")
