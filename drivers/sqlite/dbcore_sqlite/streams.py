"""Rows in batches: one hop for each, in constant memory."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from dbcore.driver import Result
from dbcore.errors import QueryError
from dbcore.statements import words
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.statements import columns_of, explain, prepare
from dbcore_sqlite.values import encode
from dbcore_sqlite.words import SYNTAX, look
from dbcore_sqlite.worker import Native

__all__ = ["Stream", "stream"]


class Stream:
    """An open cursor. While it is open its connection sees the database as it was, and no checkpoint gets past that."""

    __slots__ = ("connection", "cursor", "holds_lane", "is_cut_off", "params", "sql", "writes")

    def __init__(
        self, connection: Connection, sql: str, params: Sequence[Any], *, holds_lane: bool, writes: bool
    ) -> None:
        self.connection = connection
        self.sql = sql
        self.params = params
        self.cursor: sqlite3.Cursor | None = None
        self.holds_lane = holds_lane
        self.writes = writes
        self.is_cut_off = False

    def begin(self, native: Native, size: int) -> Result:
        """Runs in the worker, as `go_on` and `finish` do."""
        self.cursor = native.cursor()
        self.cursor.row_factory = None  # as in `run_one`
        try:
            self.cursor.execute(self.sql, self.params)
        except sqlite3.OperationalError as error:
            explain(native, self.sql, self.params, error)
            raise
        return self.go_on(native, size)

    def go_on(self, native: Native, size: int) -> Result:
        cursor = self.cursor
        if cursor is None:
            raise AssertionError("bug: a stream goes on before it has begun")
        try:
            rows = cursor.fetchmany(size)
        except sqlite3.OperationalError as error:
            explain(native, self.sql, self.params, error)
            raise
        return Result(columns_of(cursor), rows, len(rows))

    def finish(self, native: Native) -> None:
        if self.cursor is None or self.is_cut_off:
            return
        try:
            if self.writes:
                # All was written before the first row came, but the commit that ends the statement stands behind the
                # last one: a cursor that is closed before it commits too, and if that fails, does so in silence.
                for _ in self.cursor:
                    pass
        finally:
            self.cursor.close()

    def cut_off(self) -> None:
        """End the stream from outside; whoever reads it gets an error. Only while the connection is quiet."""
        self.is_cut_off = True
        self.connection.streams.discard(self)
        if self.cursor is not None:
            self.cursor.close()


async def stream(connection: Connection, sql: str, params: Sequence[Any], size: int) -> AsyncGenerator[Result, None]:
    """Yield the rows of a statement, at most `size` at a time. `aclose` closes the cursor, cancelled or not.

    It raises what a statement that writes fails with at its end: then nothing of it was written.
    """
    kind = look(sql)
    values = encode(params)
    await prepare(connection, kind)
    lane = connection.lane
    holds_lane = lane.owner is connection and (lane.everything or not connection.begun)
    this = Stream(connection, sql, values, holds_lane=holds_lane, writes="RETURNING" in words(sql, SYNTAX))
    connection.streams.add(this)
    try:
        result: Result = await connection.work(this.begin, size)
        yield result
        while result.count == size:
            await connection.quiet()
            if this.is_cut_off:
                raise QueryError(
                    "the stream was closed early: a statement beside it on its connection was cancelled, "
                    "or the connection was released"
                )
            connection.check(kind.first)
            result = await connection.run(this.go_on, size)
            if result.rows:
                yield result
    finally:
        # Reset and cancellation may have closed it, and the connection may have another holder by now.
        if not this.is_cut_off and this in connection.streams:
            try:
                if connection.is_open:
                    await connection.run(this.finish, interruptible=False)
            finally:
                connection.streams.discard(this)
                connection.settle()
