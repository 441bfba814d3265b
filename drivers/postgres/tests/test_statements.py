"""Statements: trips, prepared statements, several at once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import pytest
from dbcore_postgres import Connection
from dbcore_postgres.connection import NAMES, SESSION
from dbcore_postgres.prepared import Prepared
from dbcore_postgres.statements import HAS_CLOSE, batch, execute_many, query, script
from dbcore_postgres.transactions import commit, rollback
from postgres_connections import Proxy, connected, failure, rows, start
from postgres_names import OTHERS, ZIP

from dbcore.driver import Hooks
from dbcore.errors import ConstraintError, QueryError, TransactionError


async def make_items(connection: Connection) -> None:
    await script(connection, "CREATE TEMP TABLE items (id int PRIMARY KEY, name text)")


async def test_parameters_go_where_their_numbers_say(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        assert await rows(connection, "SELECT $2::text, $1::int, $2::text || '%?'", 1, "a") == [("a", 1, "a%?")]


async def test_a_result_has_columns_rows_and_count(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        inserted = await query(connection, "INSERT INTO items VALUES (1, 'a'), (2, 'b')", ())
        assert (inserted.columns, list(inserted.rows), inserted.count) == ((), [], 2)
        returned = await query(connection, "UPDATE items SET name = 'c' RETURNING id, name", ())
        assert (returned.columns, list(returned.rows), returned.count) == (("id", "name"), [(1, "c"), (2, "c")], 2)
        assert (await query(connection, "", ())).count == 0


async def test_a_statement_is_one_trip_new_or_known(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        for _ in range(4):  # new, prepared on the way, prepared, prepared
            before = proxy.trips
            await rows(connection, "SELECT $1::int", 1)
            assert proxy.trips == before + 1


async def test_a_transaction_of_one_statement_is_two_trips_and_an_empty_one_none(postgres_url: str) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        for _ in range(4):
            before = proxy.trips
            await start(connection)
            await rows(connection, "SELECT $1::int", 1)
            await commit(connection)
            assert proxy.trips == before + 2
        before = proxy.trips
        await start(connection, "serializable", read_only=True)
        await commit(connection)
        await start(connection)
        await rollback(connection)
        assert proxy.trips == before


@pytest.mark.parametrize("many", [False, True])
async def test_statements_that_go_together_are_one_trip(postgres_url: str, many: bool) -> None:
    async with Proxy(postgres_url) as proxy, connected(proxy.url) as (_, connection):
        await make_items(connection)
        before = proxy.trips
        if many:
            await execute_many(connection, "INSERT INTO items VALUES ($1, $2)", [(number, "x") for number in range(50)])
        else:
            await batch(connection, [("SELECT 1", ()), ("INSERT INTO items VALUES ($1, 'a')", (1,)), ("SELECT 2", ())])
        assert proxy.trips == before + 1


async def test_the_prepared_statements_are_bounded(postgres_url: str) -> None:
    async with connected(postgres_url, prepared_statements=5) as (_, connection):
        for number in range(30):
            for _ in range(3):
                await rows(connection, f"SELECT {number}, $1::int", 1)
        ((count,),) = await rows(connection, "SELECT count(*) FROM pg_prepared_statements")
        assert len(connection.prepared) == 5
        assert 1 <= count <= 6  # one that was forgotten goes with the next that is made


@pytest.mark.parametrize("keys", [{"prepared_statements": 0}, {"pooler": "transaction"}])
async def test_nothing_is_prepared_where_that_is_said(postgres_url: str, keys: dict[str, Any]) -> None:
    async with connected(postgres_url, **keys) as (_, connection):
        for _ in range(4):
            await rows(connection, "SELECT $1::int", 1)
        assert await rows(connection, "SELECT count(*) FROM pg_prepared_statements") == [(0,)]


async def test_an_int_has_two_widths_and_no_more(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for value in (0, 1, 200, 70_000, 2**31, -(2**63), 2**63 - 1) * 2:
            assert await rows(connection, "SELECT $1::int8", value) == [(value,)]
        assert len(connection.prepared) == 2


async def test_a_value_beyond_python_says_so(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        error = await failure(query(connection, "SELECT 'infinity'::timestamptz AS moment", ()))
        assert "moment" in str(error)
        assert hooks.is_clean(connection)


@pytest.mark.parametrize(
    "sql", ["SELECT 1; SELECT 2", "SELECT 1\0", "COPY (SELECT 1) TO STDOUT", "COPY items FROM STDIN"]
)
async def test_what_is_no_single_statement_is_refused_and_the_connection_lives(postgres_url: str, sql: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        assert isinstance(await failure(query(connection, sql, ())), QueryError)
        assert isinstance(await failure(batch(connection, [("SELECT 1", ()), (sql, ())])), QueryError)
        assert await rows(connection, "SELECT 1") == [(1,)]


async def stale(connection: Connection, change: str) -> str:
    """Prepare a statement, and pull the ground from under it."""
    await script(connection, "CREATE TEMP TABLE things (a int); INSERT INTO things VALUES (1)")
    for _ in range(3):
        assert await rows(connection, "SELECT * FROM things") == [(1,)]
    await connection.execute(change.encode())  # by psycopg's own interface, which the driver does not look into
    return "SELECT * FROM things"


CHANGES = ["ALTER TABLE things ADD COLUMN b int", "DEALLOCATE ALL", "SELECT 1; DEALLOCATE ALL"]


@pytest.mark.parametrize("change", CHANGES)
async def test_a_stale_prepared_statement_is_prepared_anew(postgres_url: str, change: str) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = await stale(connection, change)
        for _ in range(3):
            assert (await rows(connection, sql))[0][0] == 1


@pytest.mark.parametrize("change", CHANGES)
async def test_a_stale_prepared_statement_is_no_obstacle_at_the_begin_of_a_transaction(
    postgres_url: str, change: str
) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = await stale(connection, change)
        await start(connection, "repeatable read")
        assert (await rows(connection, sql))[0][0] == 1
        assert await rows(connection, "SHOW transaction_isolation") == [("repeatable read",)]
        await commit(connection)


@pytest.mark.parametrize("change", CHANGES)
async def test_a_stale_prepared_statement_within_a_transaction_is_worth_another_try(
    postgres_url: str, change: str
) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = await stale(connection, change)
        await start(connection)
        await rows(connection, "SELECT 'new to this connection'")
        assert (await failure(query(connection, sql, ()))).retryable
        await rollback(connection)
        assert (await rows(connection, sql))[0][0] == 1


async def test_a_call_that_misses_a_prepared_statement_after_its_commit_is_not_sent_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(
            connection,
            "CREATE TEMP TABLE calls (a int); CREATE PROCEDURE pg_temp.called() LANGUAGE plpgsql AS "
            "$$BEGIN INSERT INTO calls VALUES (1); COMMIT; EXECUTE 'DEALLOCATE nope'; END$$",
        )
        error = await failure(query(connection, "CALL pg_temp.called()", ()))
        assert (error.sqlstate, error.retryable) == ("26000", False)
        assert await rows(connection, "SELECT count(*) FROM calls") == [(1,)]


async def test_a_batch_that_has_committed_is_not_sent_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = await stale(connection, "ALTER TABLE things ADD COLUMN b int")
        work = [("INSERT INTO things VALUES (2)", ()), ("COMMIT", ()), (sql, ())]
        assert not (await failure(batch(connection, work))).retryable
        assert await rows(connection, "SELECT a FROM things ORDER BY a") == [(1,), (2,)]
        assert len(await rows(connection, sql)) == 2  # and it is known to be stale


async def test_a_batch_that_alters_what_it_reads_by_a_prepared_statement_is_sent_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        sql = await stale(connection, "SELECT 1")
        results = await batch(connection, [("ALTER TABLE things ADD COLUMN b int", ()), (sql, ())])
        assert results[1].rows == [(1, None)]


async def test_a_function_that_misses_a_prepared_statement_of_its_own_runs_once(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(
            connection,
            "CREATE TEMP SEQUENCE runs; CREATE FUNCTION pg_temp.missing() RETURNS int LANGUAGE plpgsql AS "
            "$$BEGIN PERFORM nextval('runs'); EXECUTE 'EXECUTE nope'; RETURN 1; END$$",
        )
        for count in range(1, 4):  # new, to be prepared, by its name
            error = await failure(query(connection, "SELECT pg_temp.missing()", ()))
            assert (error.sqlstate, error.retryable) == ("26000", False)
            assert await rows(connection, "SELECT last_value FROM runs") == [(count,)]


async def test_a_name_of_the_users_that_is_missing_costs_none_of_ours(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(2):
            await rows(connection, "SELECT 'known'")
        assert not (await failure(query(connection, "EXECUTE nope", ()))).retryable
        assert await prepared(connection, "SELECT 'known'") == 1
        await rows(connection, "SELECT 'known'")
        assert await prepared(connection, "SELECT 'known'") == 1


async def prepared(connection: Connection, marker: str) -> int:
    """How many statements with this in their text the server keeps prepared."""
    asked = "SELECT 1 FROM pg_prepared_statements WHERE strpos(statement, $1) > 0 AND strpos(statement, 'strpos') = 0"
    return len(await rows(connection, asked, marker))


@pytest.fixture(params=[True, False], ids=["close", "do"])
def ways_to_free(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As libpq 17 frees a prepared statement, and as it is done with one that cannot."""
    monkeypatch.setattr("dbcore_postgres.statements.HAS_CLOSE", request.param and HAS_CLOSE)


@pytest.mark.usefixtures("ways_to_free")
async def test_several_texts_are_prepared_anew_within_a_transaction(postgres_url: str) -> None:
    texts = [("SELECT 'again 1'", ()), ("SELECT 'again 2'", ())]
    async with connected(postgres_url) as (_, connection):
        for _ in range(2):
            for text in texts:
                await query(connection, *text)
        await query(connection, "CREATE TEMP TABLE things (a int)", ())
        await start(connection)
        await query(connection, "INSERT INTO things VALUES (1)", ())
        assert [result.rows for result in await batch(connection, texts)] == [[("again 1",)], [("again 2",)]]
        await commit(connection)
        assert await prepared(connection, "again") == 2


@pytest.mark.usefixtures("ways_to_free")
async def test_a_name_that_was_freed_by_a_trip_that_was_cut_short_is_no_obstacle(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(2):
            await rows(connection, "SELECT 'first'")
        await query(connection, "CREATE TEMP TABLE things (a int)", ())
        slow = "SELECT 1 FROM pg_sleep($1)"
        await rows(connection, slow, 0.0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await query(connection, slow, (600.0,))  # what was unwanted is freed on its way
        await start(connection)
        await query(connection, "INSERT INTO things VALUES (1)", ())
        assert await rows(connection, slow, 0.0) == [(1,)]
        await commit(connection)


@pytest.mark.usefixtures("ways_to_free")
async def test_a_name_that_somebody_else_has_freed_is_no_obstacle(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(2):
            await rows(connection, "SELECT 'first'")
        await query(connection, "CREATE TEMP TABLE things (a int)", ())
        await connection.execute("DEALLOCATE ALL")
        await start(connection)
        for _ in range(2):
            await rows(connection, "SELECT 'second'")
        await commit(connection)


@pytest.mark.usefixtures("ways_to_free")
@pytest.mark.parametrize("block", [False, True])
async def test_execute_many_takes_more_types_than_prepared_statements_are_kept(postgres_url: str, block: bool) -> None:
    small, big = 1, 2**40
    data = [(small, small)] * 600 + [(small, big)] * 600 + [(big, big)] * 600 + [(small, small)] * 5
    async with connected(postgres_url, prepared_statements=1) as (_, connection):
        await script(connection, "CREATE TEMP TABLE things (a bigint, b bigint)")
        for _ in range(3):
            if block:
                await start(connection)
            assert await execute_many(connection, "INSERT INTO things VALUES ($1, $2)", data) == len(data)
            if block:
                await commit(connection)
            assert await prepared(connection, "INTO things") <= 4


@pytest.mark.usefixtures("ways_to_free")
async def test_trips_that_are_cut_short_leave_no_prepared_statements_behind(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(10):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await query(connection, "SELECT 'slow' FROM pg_sleep(600)", ())
        assert await prepared(connection, "slow") <= 1


async def test_discard_all_as_a_statement_is_survived(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        for _ in range(3):
            await rows(connection, "SELECT $1::int", 1)
        await query(connection, "DISCARD ALL", ())
        await start(connection)
        await rows(connection, "SELECT 'first'")
        assert await rows(connection, "SELECT $1::int", 1) == [(1,)]
        await commit(connection)


@pytest.mark.parametrize("many", [False, True])
async def test_a_failure_leaves_nothing_of_what_went_together(postgres_url: str, many: bool) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        insert = "INSERT INTO items VALUES ($1, $2)"
        data = [(number, "x") for number in range(1000)] + [(5, "again")]
        work = execute_many(connection, insert, data) if many else batch(connection, [(insert, row) for row in data])
        assert isinstance(await failure(work), ConstraintError)
        assert await rows(connection, "SELECT count(*) FROM items") == [(0,)]


async def test_within_a_transaction_a_failure_dooms_it(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        await start(connection)
        await failure(execute_many(connection, "INSERT INTO items VALUES ($1, 'x')", [(1,), (1,)]))
        assert isinstance(await failure(commit(connection)), TransactionError)
        assert await rows(connection, "SELECT count(*) FROM items") == [(0,)]


async def test_execute_many_counts_and_shares_one_statement_among_rows_with_null(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        data = [(number, None if number % 3 else "x") for number in range(3000)]
        assert await execute_many(connection, "INSERT INTO items VALUES ($1, $2)", data) == 3000
        assert await rows(connection, "SELECT count(*), count(name) FROM items") == [(3000, 1000)]
        assert len(connection.prepared) <= 3
        assert await execute_many(connection, "INSERT INTO items VALUES ($1, $2)", []) == 0


async def test_a_parameter_that_cannot_be_sent_leaves_nothing_of_its_batch(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await make_items(connection)
        await hooks.reset(connection)
        await make_items(connection)
        await failure(execute_many(connection, "INSERT INTO items VALUES ($1, $2)", [(1, "a"), (2, "\ud800")]))
        assert await rows(connection, "SELECT count(*) FROM items") == [(0,)]


async def test_a_batch_gives_each_its_result(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        results = await batch(
            connection, [("SELECT 1 AS a", ()), ("SELECT $1::text AS b", ("x",)), ("SELECT 2 AS a", ())]
        )
        assert [(result.columns, list(result.rows)) for result in results] == [
            (("a",), [(1,)]),
            (("b",), [("x",)]),
            (("a",), [(2,)]),
        ]
        assert await batch(connection, []) == []


async def test_a_script_is_all_or_nothing(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        error = await failure(
            script(connection, "INSERT INTO items VALUES (1, 'a'); INSERT INTO items VALUES (1, 'b')")
        )
        assert isinstance(error, ConstraintError)
        assert await rows(connection, "SELECT count(*) FROM items") == [(0,)]
        await script(connection, "INSERT INTO items VALUES (1, 'a'); -- end\n")
        assert await rows(connection, "SELECT count(*) FROM items") == [(1,)]


async def test_a_script_joins_the_transaction_it_is_in(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        await make_items(connection)
        await start(connection)
        await script(connection, "INSERT INTO items VALUES (1, 'a'); INSERT INTO items VALUES (2, 'b')")
        await rollback(connection)
        assert await rows(connection, "SELECT count(*) FROM items") == [(0,)]


def test_a_text_that_changes_the_session_is_not_remembered() -> None:
    prepared = Prepared(10)
    for sql in ("SET a = 1", "SELECT set_config('a', 'b', false)", "CREATE TEMP TABLE x ()", "DO $$ BEGIN END $$"):
        assert prepared.add((sql, ())).changes_session
    assert not prepared.add(("UPDATE a SET temp_ = 'SET'", ())).changes_session
    assert not prepared.add(("SELECT 'set_config', \"temp\" -- temp", ())).changes_session
    assert len(prepared) == 2


@pytest.mark.parametrize("as_script", [False, True], ids=["as a statement", "in a script"])
async def test_a_column_of_another_type_gets_what_was_given_and_not_what_the_old_type_made_of_it(
    postgres_url: str, as_script: bool
) -> None:
    async with connected(postgres_url) as (_, connection):
        await script(connection, "CREATE TEMP TABLE codes (v numeric)")
        for _ in range(3):
            await query(connection, "INSERT INTO codes VALUES ($1)", ["7"])
        change = "ALTER TABLE codes ALTER v TYPE text"
        await (script(connection, change) if as_script else query(connection, change, ()))
        for value in ("007", "abc"):
            await query(connection, "INSERT INTO codes VALUES ($1)", [value])
        assert await rows(connection, "SELECT v FROM codes OFFSET 3") == [("007",), ("abc",)]


async def test_a_constraint_that_is_looked_at_in_the_end_refuses_whatever_was_sent(postgres_url: str) -> None:
    async with connected(postgres_url) as (hooks, connection):
        await script(connection, "CREATE TEMP TABLE later (a int CONSTRAINT once UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        sql = "INSERT INTO later VALUES ($1), ($1)"
        works: list[Callable[[], Awaitable[object]]] = [
            *[lambda: query(connection, sql, (1,))] * 3,  # new, then made ready, then ready
            lambda: batch(connection, [(sql, (1,)), ("SELECT 1", ())]),
            lambda: execute_many(connection, sql, [(1,), (2,)]),
        ]
        for work in works:
            error = await failure(work())
            assert isinstance(error, ConstraintError)
            assert error.constraint == "once"
            assert hooks.is_clean(connection) or connection.marks == SESSION | NAMES
        assert await rows(connection, "SELECT count(*) FROM later") == [(0,)]


@contextlib.asynccontextmanager
async def zips(postgres_url: str) -> AsyncGenerator[tuple[Hooks[Connection], Connection], None]:
    """A table of texts, and one of the same name in another schema with ints."""
    async with connected(postgres_url) as (hooks, connection):
        await script(connection, "CREATE TABLE zip (code text); CREATE SCHEMA other; CREATE TABLE other.zip (code int)")
        try:
            yield hooks, connection
        finally:
            await rollback(connection)
            await query(connection, "ROLLBACK", ())
            await script(connection, "RESET search_path; DROP SCHEMA other CASCADE; DROP TABLE public.zip")


@pytest.mark.parametrize("what", OTHERS)
async def test_what_a_name_means_is_found_anew_when_that_has_changed(postgres_url: str, what: str) -> None:
    """A parameter would go on to be read by the type of the column that was meant before."""
    change, back = OTHERS[what]
    async with zips(postgres_url) as (_, connection):
        for text in change.split("; "):
            await query(connection, text, ())
        for _ in range(3):
            await query(connection, ZIP, ("01067",))
        await query(connection, back, ())
        await query(connection, ZIP, ("01067",))
        assert await rows(connection, "SELECT code FROM public.zip") == [("01067",)]


@pytest.mark.parametrize("change", ["SET search_path = other", "CREATE TEMP TABLE zip (code int)"])
async def test_the_next_holder_has_its_own_names(postgres_url: str, change: str) -> None:
    async with zips(postgres_url) as (hooks, connection):
        await query(connection, change, ())
        for _ in range(3):
            await query(connection, ZIP, ("01067",))
        await hooks.reset(connection)
        await query(connection, ZIP, ("01067",))
        assert await rows(connection, "SELECT code FROM public.zip") == [("01067",)]


@pytest.mark.parametrize("end", [commit, rollback])
async def test_what_a_transaction_of_ours_has_set_for_itself_ends_with_it(postgres_url: str, end: Any) -> None:
    async with zips(postgres_url) as (_, connection):
        await start(connection)
        await query(connection, "SET LOCAL search_path = other", ())
        for _ in range(3):
            await query(connection, ZIP, ("01067",))
        await end(connection)
        await query(connection, ZIP, ("01067",))
        assert await rows(connection, "SELECT code FROM public.zip") == [("01067",)]


async def test_a_change_of_what_names_mean_keeps_nothing_from_being_prepared_afterwards(postgres_url: str) -> None:
    async with zips(postgres_url) as (_, connection):
        await start(connection)
        await query(connection, "ALTER TABLE zip ALTER COLUMN code TYPE varchar", ())
        await commit(connection)
        for _ in range(3):
            await start(connection)
            await query(connection, ZIP, ("01067",))
            await commit(connection)
        assert await prepared(connection, "INTO zip") == 1


@pytest.mark.parametrize(
    "text", ["SET DateStyle = 'SQL, DMY'", "RESET ALL", "SELECT set_config('datestyle', 'SQL', true)"]
)
async def test_the_style_of_dates_is_not_set_beside_what_it_would_be_read_by(postgres_url: str, text: str) -> None:
    async with connected(postgres_url) as (_, connection):
        error = await failure(batch(connection, [("SELECT '2024-02-01'::date", ()), (text, ())]))
        assert isinstance(error, QueryError)
        assert "by a statement of their own" in str(error)
        assert len(await batch(connection, [(text, ())])) == 1


async def test_a_setting_that_names_nothing_keeps_what_is_prepared(postgres_url: str) -> None:
    texts = ["SELECT set_config('app.tenant', $1, true)", "SET LOCAL work_mem = '8MB'", "RESET work_mem"]
    async with connected(postgres_url) as (_, connection):
        for text in ["SELECT 1", "SELECT 2", *texts]:
            await start(connection)
            await query(connection, text, ("one",) if "$1" in text else ())
            await rows(connection, "SELECT 'kept'")
            await commit(connection)
        asked = "SELECT name FROM pg_prepared_statements WHERE statement = $1"
        assert await rows(connection, asked, "SELECT 'kept'") == [("_db1",)]


async def test_what_was_prepared_in_a_trip_that_failed_is_found_anew(postgres_url: str) -> None:
    look = "SELECT code FROM zip WHERE code = $1"
    async with zips(postgres_url) as (_, connection):
        await query(connection, look, ("1",))
        alter = "ALTER TABLE zip ALTER COLUMN code TYPE int USING code::int"
        await failure(batch(connection, [(alter, ()), (look, ("5",)), ("SELECT 1/0", ())]))
        for _ in range(3):
            assert await rows(connection, look, "01067") == []
