"""Statements: one, several in one trip, one for many rows, and a script."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import capabilities
from psycopg.adapt import PyFormat
from psycopg.errors import InvalidSqlStatementName

from dbcore.driver import Result
from dbcore.errors import QueryError
from dbcore.statements import blaming
from dbcore_postgres.cancelling import COPY_STATES, abandon
from dbcore_postgres.connection import IDLE, NAMES, NATIVE, SESSION, Connection, use
from dbcore_postgres.errors import UNSENDABLE, Stale, not_a_parameter, to_error
from dbcore_postgres.prepared import COPY_REFUSED, Key, Seen, deallocate
from dbcore_postgres.results import columns_of, format_of, rows_of
from dbcore_postgres.values import unsendable
from dbcore_postgres.wire import TUPLES_OK, Command, collect, lost, pipeline, simple

if TYPE_CHECKING:
    from psycopg.abc import Buffer
    from psycopg.pq.abc import PGresult

__all__ = ["Trip", "batch", "bind", "execute_many", "freeing", "query", "read", "script"]

T = TypeVar("T")

Bound = tuple["Sequence[Buffer | None] | None", tuple[int, ...], "Sequence[int] | None"]
"""Parameters as the server gets them: values, types, formats."""

RESTYLED = (
    "DateStyle and IntervalStyle are set by a statement of their own: beside others in one trip, nobody could tell in "
    "which style their results are written"
)

_AUTO: list[list[PyFormat]] = [[PyFormat.AUTO] * count for count in range(64)]


def bind(connection: Connection, params: Sequence[Any]) -> Bound:
    """Turn parameters into what the server gets."""
    if not params:
        return None, (), None
    transformer = connection.transformer
    count = len(params)
    try:
        values = transformer.dump_sequence(params, _AUTO[count] if count < len(_AUTO) else [PyFormat.AUTO] * count)
    except UNSENDABLE as error:
        raise _refused(connection, params, error) from error
    return values, transformer.types or (), transformer.formats


def _refused(connection: Connection, params: Sequence[Any], error: Exception) -> QueryError:
    """Find the parameter that cannot be sent."""
    number, value = unsendable(connection, params, PyFormat.AUTO)
    return not_a_parameter(f"parameter {number}", value, error)


async def query(connection: Connection, sql: str, params: Sequence[Any]) -> Result:
    """Run one statement: one trip. From its second time on a text is prepared."""
    if connection.ending is not None:
        await connection.quiet()
    if connection.marks & NATIVE:
        connection.follow_adapters()
    bound = bind(connection, params)
    key = (sql, bound[1])
    seen = connection.prepared.get(key)
    if seen is None or seen.name is None or connection.pending is not None:
        return await _unless_stale(connection, lambda: _query(connection, key, bound))
    connection.prepared.used(key)
    use(connection)
    try:
        connection.pgconn.send_query_prepared(seen.name, bound[0], bound[2], seen.format)
    except psycopg.OperationalError as error:
        lost(connection, error)
    try:
        results = await collect(connection, by_name=True)
    except Stale as error:
        if not _recover(connection, error):
            raise
        return await _query(connection, key, bound)
    return result_of(connection, results[0], seen)


async def _query(connection: Connection, key: Key, bound: Bound) -> Result:
    """The longer way: the text is new, or is to be prepared, or a BEGIN goes with it."""
    results: list[PGresult] = []
    trip = Trip(connection)
    made = trip.commands(key, bound, results.append)  # first: a text that is refused must not take the BEGIN along
    commands = [*trip.begin(), *made]
    if len(commands) > 1:
        await trip.run(commands)
    else:
        ((send, _, by_name),) = commands
        try:
            send()
        except psycopg.OperationalError as error:
            lost(connection, error)
        try:
            results = await collect(connection, by_name=by_name)
        except asyncio.CancelledError:
            trip.done(surely=False)
            raise
        trip.done()
    return result_of(connection, results[0], trip.seen[key])


async def batch(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[Result]:
    """Run several statements in one trip, all or nothing. An error has the text of the one that failed."""
    await connection.quiet()
    connection.follow_adapters()
    bound: list[tuple[Key, Bound]] = []
    results: list[PGresult] = []
    decoded: list[Result] = []
    done: list[Any] = bound
    """What each statement has come to, at the present stage."""

    async def run() -> Trip:
        results.clear()
        trip = Trip(connection)
        made: list[Command] = []
        for key, values in bound:
            made += trip.commands(key, values, results.append)
            if len(bound) > 1 and trip.seen[key].restyles:
                raise QueryError(RESTYLED, sql=key[0])
        await trip.run([*trip.begin(), *made])
        return trip

    with blaming(statements, lambda: len(done), to_error):
        for sql, params in statements:
            values = bind(connection, params)
            bound.append(((sql, values[1]), values))
        if not bound:
            return []
        done = results
        trip = await _unless_stale(connection, run)
        done = decoded
        for result, (key, _) in zip(results, bound, strict=True):
            decoded.append(result_of(connection, result, trip.seen[key]))
    return decoded


async def execute_many(connection: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    """Run one statement for each row in one trip, all or nothing; return the rows affected."""
    await connection.quiet()
    connection.follow_adapters()
    bound = _alike(_bind_rows(connection, rows))
    if not bound:
        return 0

    async def run() -> int:
        count = 0

        def add(result: PGresult) -> None:
            nonlocal count
            count += result.command_tuples or 0

        Seen(sql)  # raises what the text is refused for, before the BEGIN is taken
        trip = Trip(connection)
        begin = trip.begin()
        commands = (command for values in bound for command in trip.commands((sql, values[1]), values, add))
        await trip.run(command for part in (begin, commands) for command in part)
        return count

    return await _unless_stale(connection, run)


def _bind_rows(connection: Connection, rows: Sequence[Sequence[Any]]) -> list[Bound]:
    bound: list[Bound] = []
    try:
        for row in rows:
            bound.append(bind(connection, row))  # noqa: PERF401 (how many there are when one fails is its number)
    except QueryError as error:
        raise QueryError(f"row {len(bound) + 1}: {error}") from error
    return bound


def _alike(bound: list[Bound]) -> list[Bound]:
    """Let rows that differ only in where they have NULL share a prepared statement: NULL goes with any type."""
    for number in range(1, len(bound)):
        before, (values, types, formats) = bound[number - 1][1], bound[number]
        if types != before and values is not None and len(types) == len(before):
            fits = all(new == old or value is None for new, old, value in zip(types, before, values, strict=True))
            if fits:
                bound[number] = (values, before, formats)
    return bound


async def script(connection: Connection, sql: str) -> None:
    """Run a text of several statements; all or nothing unless it has transaction statements of its own."""
    if "\0" in sql:
        raise QueryError("the script has a NUL character in it")
    await connection.quiet()
    use(connection)
    connection.marks |= SESSION | NAMES
    connection.altered = True
    begin, connection.pending = connection.pending, None
    text = sql.encode() if begin is None else begin + b"; " + sql.encode()
    try:
        results = await simple(connection, text)
    finally:
        connection.prepared.forget_names(gone=False)  # it may have changed the type of a column, whatever became of it
    if results and results[-1].status in COPY_STATES:
        await abandon(connection)
        raise QueryError(COPY_REFUSED)


class Trip:
    """What one trip takes along: a BEGIN that waits for it, preparations, and the statements themselves."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._names: dict[Key, bytes] = {}
        """Of what this trip prepares; they are good to its end, for it frees nothing after the first."""
        self.seen: dict[Key, Seen] = {}
        use(connection)

    def begin(self) -> list[Command]:
        """Take the BEGIN that waits for the first statement, if there is one."""
        connection = self._connection
        begin, connection.pending = connection.pending, None
        return [] if begin is None else [(partial(connection.pgconn.send_query_params, begin, None), None, False)]

    def commands(self, key: Key, bound: Bound, take: Callable[[PGresult], None]) -> list[Command]:
        """Return what sends one statement; before it, where the text is not new, what prepares it."""
        connection = self._connection
        prepared, pgconn = connection.prepared, connection.pgconn
        values, types, formats = bound
        seen = prepared.get(key)
        before: list[Command] = []
        if seen is None:
            seen = self.seen.get(key) or prepared.add(key)
        else:
            prepared.used(key)
            if seen.name is None and key not in self._names:
                before = self._prepare(key, seen, types)
        self.seen[key] = seen
        if seen.changes_session:
            connection.marks |= SESSION | NAMES if seen.renames else SESSION
        name = self._names.get(key, seen.name)
        if name is not None:
            return [*before, (partial(pgconn.send_query_prepared, name, values, formats, seen.format), take, True)]
        return [(partial(pgconn.send_query_params, seen.text, values, types or None, formats), take, False)]

    async def run(self, commands: Iterable[Command]) -> None:
        """Run them. Raises `Stale` only where the same can be sent again, and nothing is done twice."""
        try:
            await pipeline(self._connection, commands)
        except Stale as stale:
            if not all(seen.atomic for seen in self.seen.values()):
                # What is gone must not stay known all the same: whoever comes next would meet the same error.
                _forget(self._connection, stale)
                raise stale.__cause__ or stale from None
            raise
        except (Exception, asyncio.CancelledError):
            self.done(surely=False)
            raise
        self.done()

    def done(self, *, surely: bool = True) -> None:
        """Note what the statements did to the prepared ones, or may have done: a cancellation may come too late."""
        connection, every = self._connection, self.seen.values()
        ended = any(seen.ends_prepared for seen in every)
        altered = any(seen.alters for seen in every)
        if ended or altered or (connection.altered and any(seen.ends_transaction for seen in every)):
            connection.prepared.forget_names(gone=ended and surely)
        if altered or connection.altered:
            connection.altered = connection.pgconn.transaction_status != IDLE

    def _prepare(self, key: Key, seen: Seen, types: tuple[int, ...]) -> list[Command]:
        prepared, pgconn = self._connection.prepared, self._connection.pgconn
        commands = [] if self._names else freeing(self._connection)
        self._names[key] = name = prepared.next_name()
        made = partial(prepared.made, key, seen, name)
        commands.append((partial(pgconn.send_prepare, name, seen.text, types or None), made, False))
        return commands


def freeing(connection: Connection) -> list[Command]:
    """Return what frees at the server the statements that are unwanted now. It cannot fail where one is gone already.

    So a DEALLOCATE is not for here: its error would be the error of the transaction that it goes along with.
    """
    prepared, pgconn = connection.prepared, connection.pgconn
    names = tuple(prepared.unwanted)
    if not names:
        return []
    if not HAS_CLOSE:
        ours = deallocate(b"name OPERATOR(pg_catalog.=) ANY ('{%b}')" % b",".join(names))
        return [(partial(pgconn.send_query_params, ours, None), partial(prepared.freed, names), False)]
    return [(partial(pgconn.send_close_prepared, name), partial(prepared.freed, (name,)), False) for name in names]


HAS_CLOSE = capabilities.has_send_close_prepared()
"""libpq before 17 cannot close one by the protocol."""


async def _unless_stale(connection: Connection, run: Callable[[], Awaitable[T]]) -> T:
    """Run, and once more if a prepared statement had become stale and nothing is lost by that."""
    begin = connection.pending
    try:
        return await run()
    except Stale as error:
        if begin is not None:
            # It was the first statement of its transaction: the transaction can begin again.
            await simple(connection, b"ROLLBACK")
            connection.pending = begin
        if not _recover(connection, error):
            raise
    return await run()


def _recover(connection: Connection, error: Stale) -> bool:
    """Say whether the same can be sent again: not where an earlier part of its transaction was lost with it."""
    _forget(connection, error)
    return connection.pgconn.transaction_status == IDLE


def _forget(connection: Connection, error: Stale) -> None:
    connection.prepared.forget_names(gone=isinstance(error.__cause__, InvalidSqlStatementName))


def result_of(connection: Connection, result: PGresult, seen: Seen | None) -> Result:
    """Turn what the server sent into a `Result`. `seen`: what is known of the prepared statement that it comes from."""
    connection.follow_styles()
    return read(connection, result, seen)


def read(connection: Connection, result: PGresult, seen: Seen | None) -> Result:
    """The same, where somebody has seen to the styles."""
    if result.status != TUPLES_OK:
        return Result((), [], result.command_tuples or 0)
    columns = seen.columns if seen is not None else None
    if columns is None:
        columns = columns_of(result)
        if seen is not None and seen.name is not None:
            seen.columns = columns
            seen.format = format_of(connection, result)
    rows = rows_of(connection, result, columns)
    return Result(columns, rows, len(rows))
