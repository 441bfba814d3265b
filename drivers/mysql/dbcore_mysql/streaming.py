"""Streams: rows as they come, in constant memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from dbcore.driver import Result
from dbcore_mysql.cancelling import end
from dbcore_mysql.connection import Connection
from dbcore_mysql.library import LibraryStream
from dbcore_mysql.wire import columns_of, payload, talk
from dbcore_mysql.words import look

__all__ = ["stream"]


async def stream(connection: Connection, sql: str, params: Sequence[Any], size: int) -> AsyncGenerator[Result, None]:
    """Yield the rows of a statement in results of at most `size`. Closed before its end, it stops the statement."""
    kind = look(sql)
    template = sql if params else None
    with connection.use():
        connection.check(kind)
        data = payload(connection, sql, params)
        this = connection.open_stream = LibraryStream(connection)
    try:
        with connection.use(streaming=this):
            await talk(connection, this.execute(data), template)
            columns = columns_of(this.description, sql, params)
            rows = await talk(connection, this.fetchmany(size), template)
        while rows:
            yield Result(columns, rows, len(rows))
            await asyncio.sleep(0)  # what has come already is no wait, and others want a turn
            with connection.use(streaming=this):
                rows = await talk(connection, this.fetchmany(size), template)
        with connection.use(streaming=this):
            await talk(connection, connection.finish_stream())
    finally:
        # A reset may have ended it, and the connection may have another holder by now.
        if connection.open_stream is this:
            with connection.use(streaming=this):
                try:
                    if connection.is_streaming and not connection.is_broken:
                        await end(connection)
                finally:
                    connection.close_stream()
