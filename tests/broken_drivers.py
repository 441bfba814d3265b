"""Drivers that were good, and have one thing wrong now: `BROKEN` names each, and the promises that must find it out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import dbcore_sqlite
from dbcore_sqlite import Connection, SqliteSettings, transactions
from dbcore_sqlite.errors import to_error
from dbcore_sqlite.statements import batch, query
from dbcore_sqlite.streams import stream

import dbcore as db
from dbcore.config.values import Reset
from dbcore.pool import Release

AnyDriver = db.Driver[Any, Any]

GOOD: AnyDriver = dbcore_sqlite.driver


async def nothing(native: Connection, *_: Any) -> None:
    """What a driver does that only says it did it."""


def unheard(native: Connection) -> None:
    """What a driver does that takes no note."""


async def rollback_in_place_of_commit(native: Connection) -> None:
    await transactions.rollback(native)


async def begin_for_writing(native: Connection, isolation: Any, read_only: bool) -> None:
    await transactions.begin(native, isolation, read_only=False)


async def one_by_one(native: Connection, sql: str, rows: Sequence[Sequence[Any]]) -> int:
    return sum([(await query(native, sql, row)).count for row in rows])


async def batch_in_pieces(native: Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[db.Result]:
    return [await query(native, sql, params) for sql, params in statements]


async def batch_turned_around(native: Connection, statements: Sequence[tuple[str, Sequence[Any]]]) -> list[db.Result]:
    return (await batch(native, statements))[::-1]


async def insert_in_pieces(native: Connection, table: tuple[str, ...], columns: Sequence[str], rows: Any) -> int:
    found = [row async for row in rows] if hasattr(rows, "__aiter__") else list(rows)
    marks = ", ".join("?" * len(columns))
    names = ", ".join(f'"{name}"' for name in columns)
    return await one_by_one(native, f'INSERT INTO "{table[0]}" ({names}) VALUES ({marks})', found)


async def first_of_a_script(native: Connection, sql: str) -> None:
    await query(native, sql.partition(";")[0], ())


async def parameters_turned_around(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
    return await query(native, sql, list(params)[::-1])


async def no_counts(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
    return replace(await query(native, sql, params), count=-1)


async def shouting_columns(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
    result = await query(native, sql, params)
    return replace(result, columns=tuple(name.upper() for name in result.columns))


async def texts_of_all_values(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
    return await query(native, sql, [value if isinstance(value, int | None) else str(value) for value in params])


async def work_goes_on(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
    running = asyncio.ensure_future(query(native, sql, params))
    running.add_done_callback(lambda done: done.cancelled() or done.exception())
    return await asyncio.shield(running)


async def begin_late(native: Connection, isolation: Any, read_only: bool) -> None:
    await native.execute("BEGIN")  # takes no lock, so that a second writer has read what is old by then


async def commit_by_text(native: Connection) -> None:
    await native.execute("COMMIT")


async def all_at_once(
    native: Connection, sql: str, params: Sequence[Any], size: int
) -> AsyncGenerator[db.Result, None]:
    yield await query(native, sql, params)


async def last_row_lost(
    native: Connection, sql: str, params: Sequence[Any], size: int
) -> AsyncGenerator[db.Result, None]:
    async with contextlib.aclosing(stream(native, sql, params, size)) as results:
        async for result in results:
            yield replace(result, rows=result.rows[:-1])


def plain_errors(error: BaseException) -> db.DbError | None:
    found = to_error(error)
    return db.QueryError(str(found)) if found is not None else None


def errors_that_quote(error: BaseException) -> db.DbError | None:
    found = to_error(error)
    if isinstance(found, db.ConstraintError):
        found.args = (f"{found}: the value was a-value-that-is-private",)
    return found


def no_errors(error: BaseException) -> db.DbError | None:
    return None


async def no_version(native: Connection) -> db.ServerInfo:
    return db.ServerInfo(version="some database")


def with_pool(change: Callable[[db.PoolOps[Any]], db.Pool[Any]]) -> AnyDriver:
    """The driver with a pool that is no longer the engine's alone."""

    async def start_pool(config: db.Config[SqliteSettings]) -> db.Pool[Connection]:
        ops = await dbcore_sqlite.start_pool(config)
        assert isinstance(ops, db.PoolOps)
        return change(ops)

    return replace(GOOD, start_pool=start_pool)


def that_resets(less: Mapping[Reset, Reset]) -> AnyDriver:
    """The driver with a pool that resets less than it is told to."""

    async def start_pool(config: db.Config[SqliteSettings]) -> db.Pool[Connection]:
        reset = less.get(config.pool.reset, config.pool.reset)
        return await dbcore_sqlite.start_pool(replace(config, pool=config.pool.model_copy(update={"reset": reset})))

    return replace(GOOD, start_pool=start_pool)


def plain(ops: db.PoolOps[Any]) -> db.PoolOps[Any]:
    """Just the two closures, as a pool of somebody else's has them."""
    return db.PoolOps(checkout=ops.checkout, stop=ops.stop)


KEPT: list[Any] = []
"""What would put itself in order if it were forgotten; the test does that in the end."""


def that_never_stops(ops: db.PoolOps[Any]) -> db.Pool[Any]:
    async def stop() -> None:
        KEPT.append(ops)

    return replace(plain(ops), stop=stop)


def that_releases_nothing(ops: db.PoolOps[Any]) -> db.Pool[Any]:
    async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
        native, release = await ops.checkout(timeout)
        KEPT.append(release)
        return native, lambda: None

    return replace(plain(ops), checkout=checkout)


def that_knows_no_timeout(ops: db.PoolOps[Any]) -> db.Pool[Any]:
    async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
        return await ops.checkout(3600)

    return replace(plain(ops), checkout=checkout)


def that_never_gives_up(ops: db.PoolOps[Any]) -> db.Pool[Any]:
    async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
        try:
            return await ops.checkout(timeout)
        except db.DbConnectionError as error:
            raise db.DbConnectionError("perhaps it will be there later", retryable=True) from error

    return replace(plain(ops), checkout=checkout)


def that_serves_the_last_first(ops: db.PoolOps[Any]) -> db.Pool[Any]:
    waiting: list[asyncio.Future[tuple[Any, Release]]] = []
    out: list[Any] = []

    async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
        if out:
            waiting.append(asyncio.get_running_loop().create_future())
            return await waiting[-1]
        native, release = await ops.checkout(timeout)
        out.append(native)

        def give_back() -> None:
            if waiting:
                waiting.pop().set_result((native, give_back))
            else:
                out.clear()
                release()

        return native, give_back

    return replace(plain(ops), checkout=checkout)


def that_is_released_late(ops: db.PoolOps[Any]) -> db.Pool[Any]:
    """A second release gives back what somebody else has by then."""

    async def checkout(timeout: float | None = None) -> tuple[Any, Release]:
        native, release = await ops.checkout(timeout)
        current.append(release)
        return native, lambda: current[-1]()

    current: list[Release] = []
    return replace(plain(ops), checkout=checkout)


async def query_that_says_nothing_of_what_is_done(native: Connection, sql: str, params: Sequence[Any]) -> db.Result:
    try:
        return await query(native, sql, params)
    except asyncio.CancelledError:
        raise asyncio.CancelledError from None


BROKEN: dict[str, tuple[AnyDriver, list[str]]] = {
    "commits nothing": (
        replace(GOOD, commit=rollback_in_place_of_commit, transaction_status=None),
        ["a_transaction_commits_when_its_block_ends", "transactions_side_by_side_are_all_kept"],
    ),
    "says nothing of a timeout that comes too late": (
        replace(GOOD, query=query_that_says_nothing_of_what_is_done),
        ["what_a_timeout_says_was_ended_was_not_done"],
    ),
    "forgets to commit": (replace(GOOD, commit=nothing), ["a_transaction_commits_when_its_block_ends"]),
    "forgets to roll back": (
        replace(GOOD, rollback=nothing),
        ["a_connection_runs_transactions_one_after_the_other"],
    ),
    "has no read-only": (
        replace(GOOD, begin=begin_for_writing),
        ["read_only_is_enforced_and_ends_with_the_transaction"],
    ),
    "is serializable in name alone": (
        replace(GOOD, begin=nothing, commit=nothing, rollback=nothing, transaction_status=None),
        ["a_serializable_transaction_knows_no_write_skew"],
    ),
    "has plain errors for conflicts": (
        replace(
            GOOD,
            begin=begin_late,
            commit=commit_by_text,
            rollback=None,
            transaction_status=None,
            to_error=plain_errors,
        ),
        ["a_write_conflict_is_retryable_or_waits"],
    ),
    "has savepoints in name alone": (
        replace(GOOD, savepoints=db.Savepoints(begin="SELECT 1", rollback="SELECT 1", release=None)),
        ["an_exception_in_a_savepoint_keeps_what_was_before_it", "rollback_of_a_savepoint_keeps_the_rest"],
    ),
    "runs execute_many row by row": (
        replace(GOOD, execute_many=one_by_one),
        ["execute_many_is_all_or_nothing", "many_rows_that_are_cancelled_are_stored_all_or_none"],
    ),
    "runs a batch in pieces": (
        replace(GOOD, batch=batch_in_pieces),
        ["batch_is_all_or_nothing", "a_batch_that_fails_late_stores_nothing"],
    ),
    "turns a batch around": (replace(GOOD, batch=batch_turned_around), ["batch_gives_a_result_for_each_statement"]),
    "loads rows in pieces": (
        replace(GOOD, insert_many=insert_in_pieces),
        ["insert_many_is_all_or_nothing", "insert_many_takes_names_literally"],
    ),
    "runs the first of a script": (
        replace(GOOD, script=first_of_a_script),
        ["a_script_runs_every_statement", "a_script_is_all_or_nothing"],
    ),
    "turns parameters around": (
        replace(GOOD, query=parameters_turned_around),
        ["parameters_stand_where_they_belong", "many_parameters_keep_their_order"],
    ),
    "counts nothing": (
        replace(GOOD, query=no_counts),
        ["execute_counts_the_rows_that_it_changed", "a_statement_counts_its_own_rows_alone"],
    ),
    "renames columns": (replace(GOOD, query=shouting_columns), ["a_row_has_the_names_of_its_columns"]),
    "makes texts of all values": (
        replace(GOOD, query=texts_of_all_values),
        ["every_portable_value_comes_back_equal"],
    ),
    "lets work go on": (
        replace(GOOD, query=work_goes_on),
        ["a_cancelled_statement_leaves_the_connection_usable"],
    ),
    "streams all at once": (
        replace(GOOD, stream=all_at_once),
        ["a_batch_of_a_stream_is_never_larger_than_asked", "a_stream_begins_before_its_last_row_is_made"],
    ),
    "streams without the last row": (replace(GOOD, stream=last_row_lost), ["a_stream_gives_every_row_in_order"]),
    "knows one kind of error": (
        replace(GOOD, to_error=plain_errors),
        [
            "a_key_that_is_taken_is_a_constraint_error",
            "a_foreign_key_is_enforced_and_a_constraint_error",
            "a_missing_value_is_a_constraint_error",
            "a_failed_check_is_a_constraint_error",
        ],
    ),
    "quotes values in errors": (
        replace(GOOD, to_error=errors_that_quote),
        ["a_key_that_is_taken_is_a_constraint_error", "a_constraint_is_the_same_error_whatever_met_it"],
    ),
    "raises errors of its library": (
        replace(GOOD, to_error=no_errors),
        ["a_wrong_statement_is_a_query_error_with_its_text", "a_wrong_statement_leaves_the_connection_usable"],
    ),
    "tells no version": (replace(GOOD, server_info=no_version), ["a_server_tells_its_version"]),
    "never stops": (
        with_pool(that_never_stops),
        ["after_stop_no_task_and_no_thread_is_left", "a_raw_checkout_after_stop_is_refused"],
    ),
    "releases nothing": (
        with_pool(that_releases_nothing),
        ["a_connection_comes_back_on_every_way_out", "a_checkout_gives_the_native_connection_and_a_release"],
    ),
    "knows no timeout": (with_pool(that_knows_no_timeout), ["a_checkout_that_takes_too_long_is_a_pool_timeout"]),
    "resets no session": (
        that_resets({"tracked": "transaction", "full": "transaction"}),
        [
            "a_tracked_reset_undoes_what_a_text_has_made",
            "a_tracked_reset_undoes_what_native_has_made",
            "a_full_reset_leaves_nothing_of_a_session",
            "a_full_reset_undoes_what_nobody_has_seen",
        ],
    ),
    "resets what it saw, and calls that all": (
        that_resets({"full": "tracked"}),
        ["a_full_reset_undoes_what_nobody_has_seen"],
    ),
    "takes no note of native": (
        replace(GOOD, touch=unheard),
        ["a_tracked_reset_undoes_what_native_has_made"],
    ),
    "never gives up": (with_pool(that_never_gives_up), ["what_cannot_get_better_is_told_as_such"]),
    "serves the last first": (with_pool(that_serves_the_last_first), ["first_come_first_served"]),
    "releases what others have": (
        with_pool(that_is_released_late),
        ["a_second_release_does_not_touch_the_next_holder"],
    ),
}
