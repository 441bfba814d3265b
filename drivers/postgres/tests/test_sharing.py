"""Trips that statements of many tasks share: each has its own result, error and end, and leaves the session clean."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from dbcore_postgres import Connection, libpq
from dbcore_postgres.connection import abort
from dbcore_postgres.sharing import interrupt, may, run, share
from dbcore_postgres.statements import query, script
from dbcore_postgres.streaming import stream
from postgres_connections import backend, configured, connected, failure, rows, until

from dbcore.driver import Result
from dbcore.errors import DbConnectionError, DecodeError, QueryError, UsageError

Outcome = Result | BaseException | None


class Trip:
    """What is sent in one trip, and what has come of it so far."""

    def __init__(self, connection: Connection, *statements: tuple[str, Sequence[Any]]) -> None:
        self.connection = connection
        self.statements = statements
        self.outcomes: list[Outcome] = []

    def report(self, number: int, outcome: Outcome) -> None:
        assert number == len(self.outcomes)
        self.outcomes.append(outcome)

    async def run(self) -> list[Outcome]:
        await run(self.connection, self.statements, self.report)
        return self.outcomes

    async def begun(self, admin: Connection, marker: str) -> asyncio.Task[list[Outcome]]:
        """Start it, and return when the server works on a statement that has this in it."""
        pid = self.connection.pgconn.backend_pid
        task = asyncio.create_task(self.run())
        asked = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active' AND strpos(query, $2) > 0"
        await until(lambda: rows(admin, asked, pid, marker))
        return task

    @property
    def values(self) -> list[Any]:
        """The first value of each result, and what stands for everything else."""
        return [outcome.rows[0][0] if isinstance(outcome, Result) else outcome for outcome in self.outcomes]


def ask(value: object) -> tuple[str, Sequence[Any]]:
    return "SELECT $1::int", (value,)


SLOW = ("SELECT 7 FROM pg_sleep(600)", ())


async def test_each_statement_has_its_own_result_in_order(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        for _ in range(3):
            trip = Trip(connection, *map(ask, range(50)))
            await trip.run()
            assert trip.values == list(range(50))
            assert hooks.is_clean(connection)


async def test_a_trip_gives_what_query_gives(postgres_url: str) -> None:
    texts: list[tuple[str, Sequence[Any]]] = [
        ("SELECT $1::int AS a, $2::text AS b, NULL AS c", (1, None)),
        ("SELECT now()::date AS day, interval '1 day', 1.50, '{\"a\": [1]}'::jsonb, ARRAY[1, NULL]", ()),
        ("SELECT 'x'::\"char\", 1.1::float4, (1, 'a')", ()),
        ("SELECT g FROM generate_series(1, 300) g", ()),
        ("SELECT 1 WHERE false", ()),
        ("SELECT", ()),
        ("VALUES (1, 2), (3, 4)", ()),
        ("", ()),
    ]
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, other):
        for _ in range(4):  # new, new, prepared with a result as text, in binary
            assert await Trip(connection, *texts).run() == [await query(other, *text) for text in texts]


async def test_nothing_to_run_is_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        assert await Trip(connection).run() == []
        assert hooks.is_clean(connection)


async def test_an_error_stays_with_its_statement(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        for _ in range(3):
            trip = Trip(
                connection,
                ask(1),
                ("SELECT 1 / $1::int", (0,)),
                ("SELEC 1", ()),
                ("SELECT $1::text", ("half of a character: \ud800",)),
                ("SELECT $1::text + 1", ("a",)),
                ("SELECT 'infinity'::date", ()),
                ("SELECT $1::int", [1] * 70_000),
                ask(2),
            )
            outcomes = await trip.run()
            assert [trip.values[0], trip.values[-1]] == [1, 2]
            division, syntax, value, operator, date, many = outcomes[1:-1]
            assert isinstance(division, psycopg.errors.DivisionByZero)
            assert isinstance(syntax, psycopg.errors.SyntaxError)
            assert isinstance(value, QueryError)
            assert isinstance(operator, psycopg.errors.UndefinedFunction)
            assert isinstance(date, DecodeError)
            assert isinstance(many, psycopg.Error)
            assert hooks.is_clean(connection)


async def test_a_text_that_cannot_be_prepared_fails_alike_for_each(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        outcomes = await Trip(connection, *[("SELECT * FROM nowhere", ())] * 5).run()
        assert {type(outcome) for outcome in outcomes} == {psycopg.errors.UndefinedTable}


async def prepared(connection: Connection) -> list[str]:
    asked = "SELECT statement FROM pg_prepared_statements WHERE statement NOT LIKE '%pg_prepared%' ORDER BY statement"
    return [text for (text,) in await rows(connection, asked)]


async def test_a_text_is_prepared_when_it_is_sent_for_the_second_time(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await Trip(connection, ("SELECT 1", ()), ("SELECT 2", ()), ("SELECT 2", ()), ("SELECT 2", ())).run()
        assert await prepared(connection) == ["SELECT 2"]
        for _ in range(2):
            await Trip(connection, ("SELECT 1", ()), ("SELECT 2", ())).run()
            assert await prepared(connection) == ["SELECT 1", "SELECT 2"]


async def test_texts_that_are_too_many_to_remember_are_freed_at_the_server(postgres_url: str) -> None:
    async with connected(postgres_url, prepared_statements=3) as (_, connection):
        for number in range(20):
            trip = Trip(connection, *[(f"SELECT {number}, {part}", ()) for part in (0, 0, 1, 1)])
            assert await trip.run()
            assert trip.values == [number] * 4
        assert len(await prepared(connection)) <= 6


async def test_nothing_is_prepared_where_that_is_switched_off(postgres_url: str) -> None:
    async with connected(postgres_url, prepared_statements=0) as (_, connection):
        trip = Trip(connection, *[ask(1)] * 3)
        await trip.run()
        assert trip.values == [1, 1, 1]
        assert await prepared(connection) == []


async def test_a_prepared_statement_that_ddl_has_made_stale_is_sent_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, other):
        await script(other, "DROP TABLE IF EXISTS shared_things; CREATE TABLE shared_things AS SELECT 1 AS a")
        texts = [("SELECT * FROM shared_things", ()), ask(3)]
        for _ in range(3):
            await Trip(connection, *texts).run()
        await script(other, "ALTER TABLE shared_things ADD b text DEFAULT 'x'")
        for _ in range(3):
            outcomes = await Trip(connection, *texts, *texts).run()
            expected = [Result(("a", "b"), [(1, "x")], 1), Result(("int4",), [(3,)], 1)]
            assert outcomes == expected * 2
        await script(other, "DROP TABLE shared_things")
        outcomes = await Trip(connection, *texts).run()
        assert isinstance(outcomes[0], psycopg.errors.UndefinedTable)


async def test_prepared_statements_that_are_gone_are_made_anew(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(2):
            await Trip(connection, ask(1), ("SELECT 2", ())).run()
        await connection.execute("DEALLOCATE ALL")
        trip = Trip(connection, ask(1), ("SELECT 2", ()), ask(3))
        await trip.run()
        assert trip.values == [1, 2, 3]


async def test_an_interrupt_hits_the_one_that_runs_and_the_others_go_on(postgres_url: str) -> None:
    """The server signals twice for a request, so that a slow one behind it may be hit as well."""
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        pid = await backend(connection)
        for _ in range(10):
            trip = Trip(connection, ask(1), SLOW, *map(ask, range(100)))
            task = await trip.begun(admin, "pg_sleep")
            assert trip.values == [1]  # what has ended is not held up
            await interrupt(connection)
            await task
            assert trip.values[:2] == [1, None]
            others = trip.values[2:]
            assert all(value in (None, number) for number, value in enumerate(others))
            assert others.count(None) <= 1
            assert hooks.is_clean(connection)
        assert await backend(connection) == pid


async def test_a_statement_behind_one_that_was_interrupted_can_be_interrupted_too(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        trip = Trip(connection, *[SLOW] * 5)
        task = await trip.begun(admin, "pg_sleep")
        for _ in trip.statements:
            await interrupt(connection)
        await task
        assert trip.values == [None] * 5


async def reported(trip: Trip, count: int) -> bool:
    return len(trip.outcomes) >= count


async def test_an_interrupt_that_comes_too_late_does_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await Trip(connection, ask(1)).run()
        await interrupt(connection)
        assert await rows(connection, "SELECT 1") == [(1,)]


async def test_interrupts_at_any_moment_hit_nobody_after_the_trip(postgres_url: str) -> None:
    chance = random.Random(1)
    async with connected(postgres_url) as (hooks, connection):
        pid = await backend(connection)
        turns = hit = 0
        while turns < 150 or hit < 5:  # on a busy machine most come too late
            turns += 1
            texts = [ask(number) for number in range(20)]
            slow = chance.randrange(20)
            texts[slow] = "SELECT $1::int FROM pg_sleep(0.002)", (slow,)
            trip = Trip(connection, *texts)
            task = asyncio.create_task(trip.run())
            await asyncio.sleep(chance.random() * 0.004)
            stopping = asyncio.create_task(interrupt(connection))
            await task
            assert hooks.is_clean(connection)
            assert await rows(connection, "SELECT count(*) FROM generate_series(1, 2000)") == [(2000,)]
            await stopping
            assert all(value in (None, number) for number, value in enumerate(trip.values))
            hit += trip.values.count(None)
        assert await backend(connection) == pid


async def test_a_timeout_of_the_servers_own_is_an_error_of_its_statement(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "SET statement_timeout = '20ms'")
        trip = Trip(connection, ask(1), SLOW, ask(2))
        outcomes = await trip.run()
        assert isinstance(outcomes[1], psycopg.errors.QueryCanceled)
        assert [trip.values[0], trip.values[2]] == [1, 2]


async def test_a_server_that_ends_the_session_says_why_to_the_one_that_runs(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        trip = Trip(connection, ask(1), SLOW, ask(2))
        task = await trip.begun(admin, "pg_sleep")
        await rows(admin, "SELECT pg_terminate_backend($1)", connection.pgconn.backend_pid)
        assert isinstance(await failure(task), DbConnectionError)
        assert trip.values[0] == 1
        assert isinstance(trip.outcomes[1], psycopg.errors.AdminShutdown)
        assert len(trip.outcomes) == 2
        assert not hooks.is_clean(connection)


async def test_a_connection_that_is_dropped_wakes_the_trip(postgres_url: str) -> None:
    loop = asyncio.get_running_loop()
    async with connected(postgres_url) as (hooks, connection), connected(postgres_url) as (_, admin):
        file = connection.pgconn.socket
        trip = Trip(connection, ask(1), SLOW, ask(2))
        task = await trip.begun(admin, "pg_sleep")
        abort(connection)
        assert not loop.remove_reader(file)
        error = await failure(task)
        assert isinstance(error, DbConnectionError)
        assert error.outcome_unknown
        assert trip.values == [1]
        assert not hooks.is_clean(connection)


async def test_a_trip_that_is_cancelled_leaves_no_work_behind(postgres_url: str) -> None:
    async with (
        connected(postgres_url, client_connection_check_interval=None) as (hooks, connection),
        connected(postgres_url) as (_, admin),
    ):
        pid = await backend(connection)
        trip = Trip(connection, ask(1), SLOW, ask(2))
        task = await trip.begun(admin, "pg_sleep")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert trip.values == [1]
        assert not hooks.is_clean(connection)
        assert not hooks.is_usable(connection)

        async def gone() -> bool:
            return not await rows(admin, "SELECT 1 FROM pg_stat_activity WHERE pid = $1", pid)

        await until(gone)


async def test_a_request_to_cancel_that_fails_costs_the_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unreachable(self: Connection, *, timeout: float) -> None:
        raise psycopg.OperationalError("no route to host")

    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        monkeypatch.setattr(Connection, "cancel_safe", unreachable)
        task = await Trip(connection, ask(1), SLOW).begun(admin, "pg_sleep")
        await interrupt(connection)
        assert isinstance(await failure(task), DbConnectionError)
        assert connection.closed


async def test_a_request_whose_fate_is_unknown_costs_the_connection(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proceed = asyncio.Event()

    async def late(self: Connection, *, timeout: float) -> None:
        await proceed.wait()
        raise psycopg.errors.CancellationTimeout("late")

    async with connected(postgres_url) as (hooks, connection):
        monkeypatch.setattr(Connection, "cancel_safe", late)
        trip = Trip(connection, ("SELECT 7 FROM pg_sleep(0.02)", ()))
        task = asyncio.create_task(trip.run())
        await asyncio.sleep(0)
        stopping = asyncio.create_task(interrupt(connection))
        await until(lambda: reported(trip, 1))
        assert not task.done()  # it may still hit who comes next
        proceed.set()
        await asyncio.gather(task, stopping)
        assert trip.values == [7]
        assert not hooks.is_clean(connection)
        with pytest.raises(DbConnectionError):
            await hooks.reset(connection)


async def test_a_large_result_among_small_ones(postgres_url: str) -> None:
    large = ("SELECT repeat('x', 5000) FROM generate_series(1, 1000)", ())
    async with connected(postgres_url) as (hooks, connection):
        trip = Trip(connection, ask(1), large, ask(2), large, ask(3))
        outcomes = await trip.run()
        assert [len(outcome.rows) for outcome in outcomes if isinstance(outcome, Result)] == [1, 1000, 1, 1000, 1]
        assert [trip.values[at] for at in (0, 2, 4)] == [1, 2, 3]
        assert hooks.is_clean(connection)


async def test_both_sides_may_have_more_to_say_than_the_sockets_take(postgres_url: str) -> None:
    text = "x" * 200_000
    async with connected(postgres_url) as (hooks, connection):
        trip = Trip(connection, *[("SELECT $1::text", (text,))] * 300)
        await trip.run()
        assert trip.values == [text] * 300
        assert hooks.is_clean(connection)


async def test_2000_statements_in_one_trip(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        trip = Trip(connection, *map(ask, range(2000)))
        await trip.run()
        assert trip.values == list(range(2000))


async def test_a_libpq_that_cannot_hold_back_a_sync_serves_as_well(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libpq, "_send_sync", None)
    async with connected(postgres_url) as (hooks, connection):
        for _ in range(3):
            trip = Trip(connection, *map(ask, range(300)))
            await trip.run()
            assert trip.values == list(range(300))
            assert hooks.is_clean(connection)


async def test_a_trip_after_a_stream_has_all_of_its_rows(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        async for _ in stream(connection, "SELECT generate_series(1, 10)", (), 3):
            pass
        outcomes = await Trip(connection, ("SELECT generate_series(1, 5)", ()), ask(1)).run()
        assert [outcome.count for outcome in outcomes if isinstance(outcome, Result)] == [5, 1]


async def test_a_trip_on_a_connection_that_is_in_use_is_refused(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection), connected(postgres_url) as (_, admin):
        task = asyncio.create_task(query(connection, "SELECT 7 FROM pg_sleep(0.1)", ()))
        asked = "SELECT 1 FROM pg_stat_activity WHERE pid = $1 AND state = 'active'"
        await until(lambda: rows(admin, asked, connection.pgconn.backend_pid))
        assert isinstance(await failure(Trip(connection, ask(1)).run()), UsageError)
        assert (await task).rows == [(7,)]


async def test_a_use_of_each_trip_is_noted_where_every_use_is_reset(postgres_url: str) -> None:
    async with connected(postgres_url, pool={"reset": "full"}) as (hooks, connection):
        await Trip(connection, ask(1)).run()
        assert not hooks.is_clean(connection)


def test_trips_are_offered_where_a_session_is_one_and_the_same(postgres_url: str) -> None:
    assert share(configured(postgres_url)) is not None
    assert share(configured(postgres_url, pooler="session")) is not None
    assert share(configured(postgres_url, pooler="transaction")) is None
    assert share(configured(postgres_url, pool={"reset": "full"})) is None


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  select id from users where id = $1 -- for update",
        "VALUES (1)",
        "TABLE users",
        "WITH a AS (SELECT 1) SELECT * FROM a",
        "(SELECT 1) UNION SELECT 2",
        "SELECT 'INSERT INTO', \"update\" FROM t",
        "SELECT last_value, a[1] FROM t WHERE updated > now()",
        "SELECT count(*), coalesce(max(a), 0) FROM t WHERE a IN (1, 2) AND (b OR EXISTS (SELECT 1))",
        "SELECT jsonb_build_object('a', lower(b)) FROM t CROSS JOIN LATERAL unnest(c) AS d",
    ],
)
def test_what_only_reads_may_share(sql: str) -> None:
    assert may(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "INSERT INTO t VALUES (1)",
        "WITH a AS (DELETE FROM t RETURNING *) SELECT * FROM a",
        "SELECT * FROM t FOR UPDATE",
        "SELECT * FROM t FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT * FROM t FOR KEY SHARE",
        "SELECT 1 AS a INTO new_table",
        "SELECT set_config('a.b', 'c', false)",
        "SELECT pg_catalog.\"set_config\"('a.b', 'c', false)",
        "SELECT U&\"\\0073et_config\"('a.b', 'c', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT PG_TRY_ADVISORY_XACT_LOCK(1)",
        "SELECT nextval('s')",
        "SELECT currval('s')",
        "SELECT lastval()",
        "SELECT setseed(0.5)",
        "SELECT pg_notify('a', 'b')",
        "SELECT dblink_connect('a')",
        "SELECT a_function_of_mine($1)",
        "SELECT a_function_of_mine /* of mine */ ($1)",
        "SELECT audit.count(*) FROM t",
        "SELECT \"lower\"('A')",
        "SELECT pg_terminate_backend(1)",
        "SELECT pg_logical_emit_message(false, 'a', 'b')",
        "SELECT lo_create(0)",
        "EXPLAIN ANALYZE SELECT 1",
        "SHOW search_path",
        "SET a.b = 1",
        "LISTEN a",
        "DO $$BEGIN END$$",
        "CALL p()",
        "COPY t TO STDOUT",
        "BEGIN",
        "CREATE TABLE t AS SELECT 1",
    ],
)
def test_what_does_more_than_read_may_not_share(sql: str) -> None:
    assert not may(sql)
