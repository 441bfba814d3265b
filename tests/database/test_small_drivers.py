"""Drivers that can do little, pools that are not ours, and failures that no real database makes on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

import dbcore as db
from dbcore.events import CheckoutFailed, Event
from dbcore.testing import (
    FakeConnection,
    Script,
    ScriptedSettings,
    fails,
    hangs,
    passes,
    scripted_driver,
    settled,
    virtual,
)

AnyDriver = db.Driver[ScriptedSettings, FakeConnection]


def bare(script: Script, **changes: Any) -> AnyDriver:
    """A driver with nothing but what every driver has to have."""
    driver = scripted_driver(script, {"one": [(1,)], "write": 1, "two": db.QueryError("refused")})
    return replace(
        driver,
        begin=None,
        commit=None,
        rollback=None,
        transaction_status=None,
        script=None,
        stream=None,
        touch=None,
        server_info=None,
        **changes,
    )


def texts(script: Script) -> list[str]:
    return [sql for _, sql, _ in script.statements]


@virtual
async def test_without_savepoints_a_nested_transaction_is_refused_and_the_outer_one_goes_on() -> None:
    script = Script()
    driver = bare(script, savepoints=None)
    async with db.open("scripted://", driver=driver) as database, database.transaction() as tx:
        with pytest.raises(db.UnsupportedError, match="savepoints"):
            async with tx.transaction():
                pass
        await tx.execute("write")
    assert texts(script) == ["BEGIN", "write", "COMMIT"]


@virtual
async def test_savepoints_are_written_as_the_driver_says() -> None:
    script = Script()
    words = db.Savepoints(begin="SAVE {name}", rollback="BACK {name}", release=None)
    async with (
        db.open("scripted://", driver=bare(script, savepoints=words)) as database,
        database.transaction() as tx,
    ):
        async with tx.transaction():
            pass
        async with tx.transaction() as inner:
            await inner.rollback()
    assert texts(script) == ["BEGIN", "SAVE dbcore_1", "SAVE dbcore_1", "BACK dbcore_1", "COMMIT"]


# -- what is missing is made up for, or named --------------------------------------------------------------------------


@virtual
async def test_transactions_are_made_of_text() -> None:
    script = Script()
    async with db.open("scripted://", driver=bare(script)) as database:
        async with database.transaction() as tx:
            assert tx.in_transaction
            await tx.execute("write")
            async with tx.transaction():
                pass
        with pytest.raises(ZeroDivisionError):
            async with database.transaction():
                raise ZeroDivisionError
    assert texts(script) == [
        *("BEGIN", "write", "SAVEPOINT dbcore_1", "RELEASE SAVEPOINT dbcore_1", "COMMIT"),
        *("BEGIN", "ROLLBACK"),
    ]


@virtual
async def test_a_row_without_columns_has_no_value() -> None:
    driver = scripted_driver(Script(), {"SELECT": db.Result((), [()], 1)})
    async with db.open("scripted://", driver=driver) as database:
        assert await database.fetch_one("SELECT") == ()
        with pytest.raises(db.QueryError, match="without columns") as caught:
            await database.fetch_value("SELECT")
        assert caught.value.sql == "SELECT"


@virtual
async def test_several_statements_run_one_after_the_other_in_a_transaction() -> None:
    script = Script()
    async with db.open("scripted://", driver=bare(script)) as database:
        assert await database.execute_many("write", [(), ()]) == 2
        assert [result.count for result in await database.batch([("write", ()), ("one", ())])] == [1, 1]
        async with database.connection() as connection:
            assert await connection.execute_many("write", [()]) == 1
    assert texts(script) == [
        *("BEGIN", "write", "write", "COMMIT"),
        *("BEGIN", "write", "one", "COMMIT"),
        *("BEGIN", "write", "COMMIT"),
    ]


@virtual
async def test_several_statements_join_the_transaction_that_is_open_and_doom_it() -> None:
    script = Script()
    async with db.open("scripted://", driver=bare(script)) as database:
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                await tx.execute_many("write", [()])
                with pytest.raises(db.QueryError, match="refused"):
                    await tx.batch([("write", ()), ("two", ()), ("write", ())])
    assert texts(script) == ["BEGIN", "write", "write", "two", "ROLLBACK"]


@virtual
async def test_one_of_several_statements_is_named_as_it_was_written() -> None:
    driver = scripted_driver(Script(), {"write": 1, "two $1": db.QueryError("refused")})
    async with db.open("scripted://", driver=driver) as database:
        with pytest.raises(db.QueryError, match="refused") as caught:
            await database.batch([("write", ()), ("two :n", {"n": 1}), ("write", ())])
        assert caught.value.sql == "two :n"


@virtual
async def test_insert_many_is_an_insert_for_each_row() -> None:
    async def rows() -> AsyncIterator[tuple[int, str]]:
        yield 1, "a"
        yield 2, "b"

    script = Script()
    async with db.open("scripted://", driver=bare(script)) as database:
        await database.insert_many(("audit", 'l"og'), ["id", "name"], rows())
    insert = 'INSERT INTO "audit"."l""og" ("id", "name") VALUES ($1, $2)'
    assert script.statements[1:3] == [(1, insert, (1, "a")), (1, insert, (2, "b"))]


BEYOND: dict[str, Callable[[db.Database], Awaitable[Any]]] = {
    "run scripts": lambda database: database.execute_script("one"),
    "tell about its server": lambda database: database.server_info(),
    "set the isolation": lambda database: database.transaction("serializable").__aenter__(),
    "make it read-only": lambda database: database.transaction(read_only=True).__aenter__(),
}


@virtual
async def test_what_cannot_be_made_up_for_is_unsupported() -> None:
    async with db.open("scripted://", driver=bare(Script())) as database:
        for what, use in BEYOND.items():
            with pytest.raises(db.UnsupportedError, match=f"'scripted'.*{what}") as caught:
                await use(database)
            assert caught.value.driver == "scripted"
            assert database.stats().in_use == 0


@virtual
async def test_a_driver_without_streams_says_so() -> None:
    async with db.open("scripted://", driver=bare(Script())) as database:
        with pytest.raises(db.UnsupportedError, match="stream"):
            database.stream("one")


@virtual
async def test_an_error_that_is_not_the_librarys_goes_through_as_it_is() -> None:
    error = ZeroDivisionError("a bug in the driver")

    async def query(connection: FakeConnection, sql: str, params: Any) -> db.Result:
        raise error

    async with db.open("scripted://", driver=bare(Script(), query=query)) as database:
        with pytest.raises(ZeroDivisionError) as caught:
            await database.execute("one")
        assert caught.value is error


# -- pools that are not ours -------------------------------------------------------------------------------------------


class Foreign:
    """The least that a pool can be, with a gate for writers if it is asked for."""

    def __init__(self, script: Script, *, refuses: db.DbError | None = None) -> None:
        self.script = script
        self.refuses = refuses
        self.shut: BaseException | None = None
        """What the gate says to everybody, after a while."""
        self.released = 0
        self.inside = 0

    async def checkout(self, timeout: float | None = None) -> tuple[FakeConnection, db.Release]:
        if self.refuses is not None:
            raise self.refuses
        return await self.script.hooks().connect(), self._release

    def _release(self) -> None:
        self.released += 1

    async def stop(self) -> None:
        pass

    async def admit(self, timeout: float | None) -> db.Release:
        if self.shut is not None:
            await asyncio.sleep(0.25)
            raise self.shut
        self.inside += 1
        return self._let_out

    def _let_out(self) -> None:
        self.inside -= 1

    def driver(self, *, gated: bool = False) -> AnyDriver:
        async def start_pool(config: db.Config[ScriptedSettings]) -> db.Pool[FakeConnection]:
            return db.PoolOps(checkout=self.checkout, stop=self.stop, admit=self.admit) if gated else self

        return replace(scripted_driver(self.script, {"one": [(1,)]}), start_pool=start_pool)


@virtual
async def test_a_foreign_pool_serves_statements_and_transactions() -> None:
    pool = Foreign(Script())
    async with db.open("scripted://", driver=pool.driver()) as database:
        assert await database.fetch_value("one") == 1
        async with database.transaction() as tx:
            assert await tx.fetch_value("one") == 1
    assert pool.released == 2


def test_a_foreign_pool_is_guarded_against_another_event_loop() -> None:
    database = db.open("scripted://", driver=Foreign(Script()).driver())
    asyncio.run(database.start())

    async def use() -> None:
        with pytest.raises(db.UsageError, match="another event loop"):
            await database.fetch_value("one")
        await database.stop()

    asyncio.run(use())


@virtual
async def test_writers_pass_the_gate_before_their_checkout_and_readers_do_not() -> None:
    pool = Foreign(Script())
    async with db.open("scripted://", driver=pool.driver(gated=True)) as database:
        async with database.transaction():
            assert pool.inside == 1
        assert pool.inside == 0
        async with database.transaction(read_only=True):
            assert pool.inside == 0


@virtual
async def test_observers_hear_of_a_writer_that_the_gate_does_not_let_in() -> None:
    pool, events = Foreign(Script()), list[Event]()
    async with db.open("scripted://", driver=pool.driver(gated=True), observe=events.append) as database:
        pool.shut = db.PoolTimeout("other writers were in front", reason="writers")
        with pytest.raises(db.PoolTimeout) as caught:
            async with database.transaction():
                pass
        assert events == [CheckoutFailed(pool="main", waited=0.25, error=caught.value)]
        assert caught.value.driver is not None
        pool.shut = asyncio.CancelledError()
        with pytest.raises(asyncio.CancelledError):
            async with database.transaction():
                pass
        assert events[1:] == [CheckoutFailed(pool="main", waited=0.25, error=None)]


@virtual
async def test_a_writer_leaves_the_gate_when_its_checkout_or_its_begin_fails() -> None:
    refused = Foreign(Script(), refuses=db.PoolTimeout("no connection"))
    async with db.open("scripted://", driver=refused.driver(gated=True)) as database:
        with pytest.raises(db.PoolTimeout):
            async with database.transaction():
                pass
    assert refused.inside == 0

    pool = Foreign(Script())
    pool.script.query.then(fails(db.QueryError("no transaction today")))
    async with db.open("scripted://", driver=pool.driver(gated=True)) as database:
        with pytest.raises(db.QueryError, match="today"):
            async with database.transaction():
                pass
    assert (pool.inside, pool.released) == (0, 1)


# -- failures to order -------------------------------------------------------------------------------------------------


@virtual
async def test_a_begin_that_fails_leaves_no_transaction_and_returns_the_connection() -> None:
    script = Script()
    script.query.then(fails(db.QueryError("no transaction today")))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.QueryError, match="today") as caught:
            async with database.transaction():
                pass
        assert caught.value.sql == "BEGIN"
        assert (database.stats().in_use, database.stats().idle) == (0, 1)
        async with database.connection() as connection:
            assert not connection.in_transaction


@virtual
async def test_a_begin_that_is_cancelled_returns_the_connection() -> None:
    script = Script()
    script.query.then(hangs())
    async with db.open("scripted://", driver=scripted_driver(script)) as database:

        async def work() -> None:
            async with database.transaction():
                pass

        task = asyncio.create_task(work())
        await settled()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await settled()
        assert (database.stats().in_use, database.stats().idle) == (0, 1)


@virtual
async def test_a_commit_of_unknown_outcome_says_so_and_is_sent_once() -> None:
    script = Script()
    lost = db.DbConnectionError("lost while committing", retryable=True, outcome_unknown=True)
    script.query.then(passes(), passes(), fails(lost))

    async def work(tx: db.Connection[Any]) -> None:
        await tx.execute("write")

    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.DbConnectionError) as caught:
            await database.run_transaction(work)
    assert caught.value.outcome_unknown
    assert texts(script).count("COMMIT") == 1
    assert texts(script).count("write") == 1


@virtual
@pytest.mark.parametrize(
    "way", ["connection", "run", "transaction", "run_transaction", "statement", "batch", "script", "stream", "info"]
)
async def test_reports_name_the_place_outside_of_dbcore_that_asked(way: str) -> None:
    script = Script()
    script.query.always(hangs())
    driver = replace(scripted_driver(script), server_info=_hanging_info)
    async with db.open("scripted://", driver=driver) as database:
        asking = asyncio.create_task(_ask_in(way, database))
        await settled()
        (holder,) = database.holders()
        asking.cancel()
        await asyncio.wait([asking])
    assert holder.site.endswith(" in _ask_in")


async def _ask_in(way: str, database: db.Database) -> None:
    match way:
        case "connection":
            async with database.connection() as connection:
                await connection.execute("one")
        case "run":
            await database.run(_hang)
        case "transaction":
            async with database.transaction():
                pass
        case "run_transaction":
            await database.run_transaction(_hang)
        case "statement":
            await database.execute("one")
        case "batch":
            await database.batch([("one", ())])
        case "script":
            await database.execute_script("one")
        case "stream":
            async with database.stream("one") as rows:
                await anext(rows)
        case _:
            await database.server_info()


async def _hang(connection: db.Connection[Any]) -> None:
    await connection.execute("one")


async def _hanging_info(_connection: FakeConnection) -> db.ServerInfo:
    await asyncio.sleep(1000)
    return db.ServerInfo(version="none")
