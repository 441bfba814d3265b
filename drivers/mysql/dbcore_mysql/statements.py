"""Statements: one, several, one for many rows, and a script."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from dbcore.driver import Result
from dbcore.errors import QueryError, UsageError
from dbcore.statements import split
from dbcore_mysql.connection import Connection
from dbcore_mysql.library import LibraryResult
from dbcore_mysql.transactions import together
from dbcore_mysql.wire import ask, columns_of, payload, run, talk
from dbcore_mysql.words import SYNTAX, look

__all__ = ["batch", "execute_many", "query", "script"]

_SET_OPTION = 0x1B
_SEVERAL, _ONE = b"\0\0", b"\1\0"


async def query(connection: Connection, sql: str, params: Sequence[Any]) -> Result:
    """Run one statement and return all of its rows: one trip."""
    kind = look(sql)
    with connection.use():
        connection.check(kind)
        return _result(await run(connection, sql, params), sql, params)


async def batch(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[Result]:
    """Run several statements, all or nothing: a trip for each, and two for their transaction."""
    if len(statements) == 1:
        ((sql, params),) = statements
        return [await query(connection, sql, params)]
    with connection.use():
        _check_together(connection, [sql for sql, _ in statements])
        results: list[Result] = []
        async with together(connection):
            for sql, params in statements:
                try:
                    results.append(_result(await run(connection, sql, params), sql, params))
                except QueryError as error:
                    error.sql = sql
                    raise
        return results


async def execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run one statement for each row, all or nothing: a trip for each, and two for their transaction."""
    with connection.use():
        _check_together(connection, [sql])
        template = sql if rows and rows[0] else None
        texts = [_bound(connection, sql, number, row) for number, row in enumerate(rows, 1)]
        count = 0
        async with together(connection):
            for text in texts:
                result = await talk(connection, ask(connection, text), template)
                count += result.affected_rows
        return count


def _bound(connection: Connection, sql: str, number: int, row: Sequence[Any]) -> bytes:
    try:
        return payload(connection, sql, row)
    except QueryError as error:
        raise QueryError(f"row {number}: {error}") from error


async def script(connection: Connection, sql: str) -> None:
    """Run a text of several statements: one trip, and some around it.

    All or nothing, unless it has transaction statements of its own, or such as MySQL commits at once (CREATE, ALTER,
    DROP ...): then it is stopped at the first that fails, and what was done before stays.
    """
    kinds = [look(statement) for statement in split(sql, SYNTAX)]
    alone = any(kind.transaction or kind.unfit is not None for kind in kinds)
    with connection.use():
        for kind in kinds:
            connection.check(kind)
        if alone and connection.in_transaction:
            raise UsageError(
                "the script has statements that begin or end a transaction; run it outside of one, or take them out"
            )
        data = payload(connection, sql, ())
        await _several_per_text(connection, allowed=True)
        try:
            async with nullcontext() if alone else together(connection):
                await talk(connection, ask(connection, data))
        finally:
            await _several_per_text(connection, allowed=False)


async def _several_per_text(connection: Connection, *, allowed: bool) -> None:
    """Let the server take several statements in one text, or one alone, as it is anywhere else."""
    if connection.is_broken:
        return
    try:
        await talk(connection, connection.command(_SET_OPTION, _SEVERAL if allowed else _ONE))
    except BaseException:
        connection.drop()
        raise


def _check_together(connection: Connection, texts: Sequence[str]) -> None:
    for text in texts:
        kind = look(text)
        connection.check(kind)
        if kind.unfit is not None:
            raise UsageError(
                f"{kind.unfit} cannot be one of several that are all or nothing: MySQL commits with it what came "
                "before; run it by execute, or in execute_script"
            )


def _result(result: LibraryResult, sql: str, params: Sequence[Any]) -> Result:
    rows = result.rows
    if rows is None:
        return Result((), [], result.affected_rows)
    return Result(columns_of(result.description, sql, params), list(rows), len(rows))
