"""Trips that statements of many tasks share: each has its own result, error and end, and leaves the session clean."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from databases import until
from dbcore_sqlite import Connection, driver
from dbcore_sqlite.session import is_clean, is_usable
from dbcore_sqlite.sharing import interrupt, may, run, share
from sqlite_pools import SLOW, count, numbers, one_connection, sqlite_config, value
from sqlite_pools import run as run_alone

from dbcore.driver import Result
from dbcore.errors import ConflictError, DbConnectionError

Outcome = Result | BaseException | None


class Trip:
    """What is sent in one trip, and what has come of it so far."""

    def __init__(self, connection: Connection, *statements: tuple[str, Sequence[Any]]) -> None:
        self.connection = connection
        self.statements = statements
        self.outcomes: list[Outcome] = []

    def report(self, number: int, outcome: Outcome) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert number == len(self.outcomes)
        self.outcomes.append(outcome)

    async def run(self) -> list[Outcome]:
        await run(self.connection, self.statements, self.report)
        return self.outcomes

    @property
    def values(self) -> list[Any]:
        """The first value of each result, and what stands for everything else."""
        return [outcome.rows[0][0] if isinstance(outcome, Result) else outcome for outcome in self.outcomes]


def ask(value: object) -> tuple[str, Sequence[Any]]:
    return "SELECT ?", (value,)


ENDLESS = (SLOW, ())


async def test_each_statement_has_its_own_result_in_order(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        for _ in range(3):
            trip = Trip(connection, *map(ask, range(50)))
            await trip.run()
            assert trip.values == list(range(50))
            assert is_clean(connection)


async def test_a_trip_gives_what_query_gives(tmp_path: Path) -> None:
    texts: list[tuple[str, Sequence[Any]]] = [
        ("SELECT ? AS a, ? AS b, NULL AS c", (1, None)),
        ("SELECT ?, ?", ({"a": [1]}, b"\0")),
        ("WITH n(i) AS (VALUES (1), (2)) SELECT i, -i FROM n", ()),
        ("SELECT 1 WHERE 0", ()),
        ("", ()),
    ]
    async with one_connection(tmp_path) as connection:
        assert await Trip(connection, *texts).run() == [
            await run_alone(connection, sql, *params) for sql, params in texts
        ]


async def test_nothing_to_run_is_nothing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        assert await Trip(connection).run() == []
        assert is_clean(connection)


async def test_an_error_stays_with_its_statement(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        trip = Trip(
            connection,
            ask(1),
            ("SELECT abs(?)", (-(2**63),)),
            ("SELEC 1", ()),
            ("SELECT ?", ("half of a character: \ud800",)),
            ("SELECT ?", (2**70,)),
            ("SELECT ?", ({"a": object()},)),
            ("SELECT ?", (object(),)),
            ask(2),
        )
        outcomes = await trip.run()
        assert [trip.values[0], trip.values[-1]] == [1, 2]
        assert all(isinstance(outcome, Exception) for outcome in outcomes[1:-1])
        assert is_clean(connection)
        assert is_usable(connection)


async def test_all_statements_of_a_trip_see_the_database_as_it_was_when_it_set_out(tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()

    def wait() -> bool:
        begun.set()
        return gate.wait(10)

    counting: tuple[str, Sequence[Any]] = ("SELECT count(*) FROM notes", ())
    async with one_connection(tmp_path) as connection:
        await run_alone(connection, "CREATE TABLE notes (n INTEGER)")
        connection.native.create_function("wait", 0, wait)
        trip = Trip(connection, counting, ("SELECT wait()", ()), counting)
        task = asyncio.create_task(trip.run())
        await until(begun.is_set)
        with contextlib.closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as other:
            other.execute("INSERT INTO notes VALUES (1)")
        gate.set()
        await task
        assert trip.values == [0, 1, 0]
        later = Trip(connection, counting, counting)
        await later.run()
        assert later.values == [1, 1]


@pytest.mark.parametrize("hit", ["BEGIN", "COMMIT"])
async def test_an_interrupt_that_hits_what_is_around_the_statements_harms_none_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hit: str
) -> None:
    asked: list[str] = []

    def execute(text: str) -> sqlite3.Cursor:
        asked.append(text)
        if text == hit and asked.count(hit) == 1:
            raise sqlite3.OperationalError("interrupted")
        return sqlite3.Connection.execute(native, text)

    async with one_connection(tmp_path) as connection:
        native = connection.native
        monkeypatch.setattr(native, "execute", execute)
        trip = Trip(connection, ask(1), ask(2))
        await trip.run()
        assert trip.values == [1, 2]
        assert asked == {"BEGIN": ["BEGIN"], "COMMIT": ["BEGIN", "COMMIT", "COMMIT"]}[hit]
        assert is_clean(connection)


async def test_a_slow_statement_holds_back_nothing_that_has_ended(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        trip = Trip(connection, ask(1), ask(2), ENDLESS, ask(3))
        task = asyncio.create_task(trip.run())
        await until(lambda: len(trip.outcomes) == 2)
        assert trip.values == [1, 2]
        await interrupt(connection)
        await task
        assert trip.values == [1, 2, None, 3]


async def test_an_interrupt_hits_the_one_that_runs_and_the_others_go_on(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        for turn in range(50):
            trip = Trip(connection, ask(1), ENDLESS, ask(2), ENDLESS, ask(3))
            task = asyncio.create_task(trip.run())
            for place in (1, 3):
                await until(lambda trip=trip, place=place: len(trip.outcomes) == place)  # type: ignore[misc]  # mypy cannot infer defaults
                for _ in range(turn % 3):
                    await asyncio.sleep(0)
                await interrupt(connection)
            await task
            assert trip.values[:2] == [1, None]
            assert trip.values[3] is None
            assert all(value in (None, number) for number, value in ((2, trip.values[2]), (3, trip.values[4])))
            assert is_clean(connection)


async def test_an_interrupt_hits_a_statement_that_has_not_begun(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        trip = Trip(connection, ENDLESS, ask(1))
        task = asyncio.create_task(trip.run())
        await asyncio.sleep(0)
        await interrupt(connection)
        await task
        assert trip.values == [None, 1]


async def test_an_interrupt_that_comes_too_late_does_nothing(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await Trip(connection, ask(1)).run()
        await interrupt(connection)
        assert await value(connection, "SELECT 1") == 1


async def test_an_interrupt_spares_what_follows_one_that_has_ended_unnoticed(tmp_path: Path) -> None:
    begun, gate = threading.Event(), threading.Event()

    def wait() -> bool:
        begun.set()
        return gate.wait()

    async with one_connection(tmp_path) as connection:
        connection.native.create_function("wait", 0, wait)
        trip = Trip(connection, ask(1), ("SELECT wait()", ()))
        task = asyncio.create_task(trip.run())
        await asyncio.sleep(0)
        assert begun.wait(10)  # meanwhile the loop stands still
        assert trip.values == []
        await interrupt(connection)
        assert trip.values == [1]
        gate.set()
        await task
        assert trip.values == [1, 1]


async def test_interrupts_at_any_moment_hit_nobody_after_the_trip(tmp_path: Path) -> None:
    chance = random.Random(1)
    short = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT ? FROM n LIMIT 1 OFFSET 1000"
    turns = hit = 0
    async with one_connection(tmp_path) as connection:
        while turns < 100 or hit < 5:  # on a busy machine most come too late
            turns += 1
            trip = Trip(connection, *[(short, (number,)) for number in range(10)])
            task = asyncio.create_task(trip.run())
            for _ in range(chance.randrange(800)):
                await asyncio.sleep(0)
            stopping = asyncio.create_task(interrupt(connection))
            await task
            assert is_clean(connection)
            assert await value(connection, "SELECT 5") == 5
            await stopping
            assert all(value in (None, number) for number, value in enumerate(trip.values))
            hit += trip.values.count(None)


async def test_a_trip_that_is_cancelled_leaves_no_work_behind(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        for turn in range(50):
            trip = Trip(connection, ask(1), ENDLESS, ENDLESS, ask(2))
            task = asyncio.create_task(trip.run())
            for _ in range(turn % 7):
                await asyncio.sleep(0 if turn % 2 else 0.0005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert is_clean(connection)
            assert await value(connection, "SELECT ?", turn) == turn


async def test_a_connection_that_is_dropped_ends_the_trip(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        trip = Trip(connection, ask(1), ENDLESS, ask(2))
        task = asyncio.create_task(trip.run())
        await until(lambda: trip.outcomes)
        connection.abort()
        with pytest.raises(DbConnectionError):
            await task
        assert trip.values[0] == 1
        assert not is_clean(connection)


async def test_a_large_result_among_small_ones(tmp_path: Path) -> None:
    large = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT zeroblob(5000) FROM n"
    )
    async with one_connection(tmp_path) as connection:
        outcomes = await Trip(connection, ask(1), (large, ()), ask(2)).run()
        assert [outcome.count for outcome in outcomes if isinstance(outcome, Result)] == [1, 1000, 1]


async def test_2000_statements_in_one_trip(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        trip = Trip(connection, *map(ask, range(2000)))
        await trip.run()
        assert trip.values == list(range(2000))


async def test_columns_that_were_added_between_two_trips_are_seen(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        await numbers(connection)
        text = ("SELECT * FROM numbers", ())
        assert await Trip(connection, text, text).run() == [Result(("n",), [], 0)] * 2
        await run_alone(connection, "ALTER TABLE numbers ADD COLUMN m")
        assert await Trip(connection, text, text).run() == [Result(("n", "m"), [], 0)] * 2


@contextlib.contextmanager
def locked(path: Path) -> Any:
    """A file that another process, as it were, writes into without WAL: readers are kept out."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("CREATE TABLE numbers (n)")
        other.execute("BEGIN EXCLUSIVE")
        yield other


READ = ("SELECT count(*) FROM numbers", ())


async def test_a_lock_of_another_process_is_waited_for(tmp_path: Path) -> None:
    with locked(tmp_path / "app.db") as other:
        other.execute("ROLLBACK")
        async with one_connection(tmp_path, read_only=True) as connection:
            assert await count(connection) == 0
            other.execute("BEGIN EXCLUSIVE")
            trip = Trip(connection, ask(1), READ, ask(2))
            task = asyncio.create_task(trip.run())
            await until(lambda: trip.outcomes)
            other.execute("ROLLBACK")
            await task
            assert trip.values == [1, 0, 2]


async def test_a_lock_that_stays_is_an_error(tmp_path: Path) -> None:
    with locked(tmp_path / "app.db") as other:
        other.execute("ROLLBACK")
        async with one_connection(tmp_path, read_only=True, busy_timeout=0.02) as connection:
            other.execute("BEGIN EXCLUSIVE")
            outcomes = await Trip(connection, ask(1), READ, ask(2)).run()
            assert isinstance(outcomes[1], Exception)
            assert isinstance(driver.to_error(outcomes[1]), ConflictError)


@pytest.mark.parametrize("cancelled", [False, True])
async def test_who_waits_for_a_lock_can_be_stopped(tmp_path: Path, cancelled: bool) -> None:
    with locked(tmp_path / "app.db") as other:
        other.execute("ROLLBACK")
        async with one_connection(tmp_path, read_only=True, busy_timeout=600) as connection:
            other.execute("BEGIN EXCLUSIVE")
            trip = Trip(connection, ask(1), READ, ask(2))
            task = asyncio.create_task(trip.run())
            await until(lambda: trip.outcomes)
            if cancelled:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                await interrupt(connection)
                await task
                assert trip.values == [1, None, 2]
            assert is_clean(connection)


async def test_a_file_that_is_damaged_costs_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with contextlib.closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE numbers (n)")
    with path.open("r+b") as file:
        file.seek(4096)  # the second page: the table
        file.write(b"\xff" * 4096)
    async with one_connection(tmp_path) as connection:
        await Trip(connection, ask(1)).run()
        assert is_usable(connection)
        trip = Trip(connection, READ, ask(1))
        await trip.run()
        assert isinstance(trip.outcomes[0], sqlite3.DatabaseError)
        assert trip.values[1] == 1
        assert not is_usable(connection)


def test_trips_are_offered_where_readers_stand_in_nobodys_way(tmp_path: Path) -> None:
    assert share(sqlite_config(tmp_path)) is not None
    assert share(sqlite_config(tmp_path, read_only=True, journal_mode="delete")) is not None
    assert share(sqlite_config(tmp_path, journal_mode="delete")) is None
    assert share(sqlite_config(tmp_path, path=":memory:")) is None
    assert share(sqlite_config(tmp_path, {"reset": "full"})) is None


@pytest.mark.parametrize(
    "sql",
    ["SELECT 1", "VALUES (1)", "WITH a AS (SELECT 1) SELECT * FROM a", " -- INSERT\nselect 'DELETE' from t"],
)
def test_what_only_reads_may_share(sql: str) -> None:
    assert may(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "INSERT INTO t VALUES (1)",
        "WITH a AS (SELECT 1) DELETE FROM t",
        "SELECT last_insert_rowid()",
        "SELECT changes()",
        'SELECT "total_changes"()',
        "SELECT load_extension('a')",
        "PRAGMA foreign_keys",
        "PRAGMA foreign_keys = 0",
        "ATTACH 'a' AS b",
        "BEGIN",
        "SAVEPOINT a",
        "CREATE TABLE t (a)",
    ],
)
def test_what_does_more_than_read_may_not_share(sql: str) -> None:
    assert not may(sql)
