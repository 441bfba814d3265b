"""Statements that end before they are done: by timeout, by cancellation. And what `observe` hears of statements."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest
from databases import Place, until

import dbcore as db
from dbcore.driver import CancelledTooLate
from dbcore.events import Event, StatementFinished
from dbcore.testing import NativeError, Script, hangs, scripted_driver, virtual


async def test_a_timeout_leaves_no_work_at_the_database(place: Place) -> None:
    """A write that is cut short has let go of its locks when the error is raised."""
    slow_write = f"INSERT INTO items SELECT 1, 'x' FROM ({place.endless}) AS never"
    async with place.items() as database, database.connection() as connection:
        with pytest.raises(db.QueryTimeout):
            await connection.execute(slow_write, timeout=0.05)
        with place.outside() as ask:
            ask("INSERT INTO items VALUES (2, 'y')")
        assert await connection.fetch_all("SELECT id FROM items") == [(2,)]


async def test_a_statement_cancelled_twice_does_not_reach_the_next_holder(place: Place) -> None:
    async def holder(database: db.Database) -> None:
        async with database.connection() as connection:
            await connection.execute(place.endless)

    async with place.open(pool={"max_size": 1}) as database:
        for pause in range(6):
            task = asyncio.create_task(holder(database))
            await until(lambda: database.stats().in_use)
            for _ in range(pause):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await database.fetch_value("SELECT 1") == 1
        assert database.stats().size == 1


@virtual
async def test_a_timeout_error_of_the_library_is_not_taken_for_the_statements_timeout() -> None:
    script = Script()
    driver = scripted_driver(script, {"slow": db.QueryTimeout("the server's own timeout")})
    async with db.open("scripted://", driver=driver) as database:
        with pytest.raises(db.QueryTimeout, match="the server's own") as caught:
            await database.execute("slow", timeout=5)
        assert isinstance(caught.value.__cause__, NativeError)


@virtual
@pytest.mark.parametrize("too_late", [False, True])
async def test_a_timeout_that_came_too_late_leaves_the_outcome_unknown(*, too_late: bool) -> None:
    async def query(*_: object) -> db.Result:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            if too_late:
                raise error from CancelledTooLate
            raise
        raise AssertionError

    async with db.open("scripted://", driver=replace(scripted_driver(Script()), query=query)) as database:
        with pytest.raises(db.QueryTimeout) as caught:
            await database.execute("write", timeout=5)
        assert caught.value.outcome_unknown == too_late
        assert ("may have been done" in str(caught.value)) == too_late


@virtual
async def test_a_statement_has_no_timeout_unless_it_is_given_one() -> None:
    script = Script()
    script.query.then(hangs())
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(86_400):
                await database.execute("long")


# -- observe -----------------------------------------------------------------------------------------------------------


async def test_observe_hears_of_each_statement(place: Place) -> None:
    heard: list[Event] = []
    async with place.items(observe=heard.append) as database:
        heard.clear()
        await database.execute("INSERT INTO items VALUES ($1, $2)", [1, "secret value"])
        await database.fetch_all("SELECT * FROM items")
        with contextlib.suppress(db.QueryError):
            await database.execute("INSERT INTO nowhere VALUES (1)")
        await database.execute_many("INSERT INTO items VALUES ($1, $2)", [(2, "b"), (3, "c")])
    finished = [event for event in heard if isinstance(event, StatementFinished)]
    assert [(event.sql, event.count, type(event.error)) for event in finished] == [
        ("INSERT INTO items VALUES ($1, $2)", 1, type(None)),
        ("SELECT * FROM items", 1, type(None)),
        ("INSERT INTO nowhere VALUES (1)", 0, type(finished[2].error)),
        ("INSERT INTO items VALUES ($1, $2)", 2, type(None)),
    ]
    assert finished[2].error is not None
    assert all(event.pool == "main" and event.seconds >= 0 for event in finished)
    assert "secret value" not in repr(finished)


async def test_what_observe_raises_harms_nothing(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    """Laws: L8."""

    def raising(event: Event) -> None:
        raise ZeroDivisionError

    async with place.open(observe=raising) as database, database.transaction() as tx:
        assert await tx.fetch_value("SELECT 1") == 1
    assert "observe raised" in caplog.text


@virtual
async def test_observe_hears_how_long_a_cancelled_statement_ran() -> None:
    heard: list[Event] = []
    script = Script()
    script.query.then(hangs())
    database = db.open("scripted://", driver=scripted_driver(script), observe=heard.append)
    async with database:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await database.execute("long")
    (event,) = [event for event in heard if isinstance(event, StatementFinished)]
    assert (event.sql, event.seconds) == ("long", 7)
    assert isinstance(event.error, asyncio.CancelledError)
