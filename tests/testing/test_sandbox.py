"""The sandbox: a real database, with everything undone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from databases import Place

import dbcore as db
from dbcore.driver import Isolation
from dbcore.registry import find_driver
from dbcore.testing import Script, sandbox, scripted_driver

INSERT = "INSERT INTO items (id, name) VALUES ($1, $2)"
COUNT = "SELECT count(*) FROM items"
ISOLATIONS: tuple[Isolation, ...] = ("read committed", "repeatable read", "serializable")


@contextlib.asynccontextmanager
async def items(place: Place, **options: Any) -> AsyncGenerator[db.Database, None]:
    """A sandbox over the table `items`, which is there before it, as a schema is."""
    async with place.items():
        pass
    async with sandbox(place.url, **options) as database:
        yield database


def kept(place: Place) -> int:
    with place.outside() as ask:
        return int(ask(COUNT)[0][0])


# -- what it is --------------------------------------------------------------------------------------------------------


async def test_nothing_that_was_done_is_left(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        async with database.transaction() as tx:
            await tx.execute(INSERT, [2, "two"])
        async with database.connection() as connection:
            await connection.execute(INSERT, [3, "three"])
        assert await database.fetch_value(COUNT) == 3
    assert kept(place) == 0


async def test_it_is_a_database_with_the_identity_of_the_real_one(place: Place) -> None:
    async with items(place) as database:
        assert isinstance(database, db.Database)
        assert database.driver == place.driver
        assert database.config.pool.max_size == place.open().config.pool.max_size
        async with database.connection() as connection:
            assert type(connection.native).__module__.startswith(place.package)


async def test_it_is_undone_when_the_test_fails(place: Place) -> None:
    with pytest.raises(KeyError):
        async with items(place) as database:
            await database.execute(INSERT, [1, "one"])
            raise KeyError
    assert kept(place) == 0


async def test_it_leaves_no_connection_behind(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        assert place.seen() == 1
    async with asyncio.timeout(10):
        while place.seen():
            await asyncio.sleep(0.005)


async def test_a_table_made_inside_is_gone_too_or_was_refused(place: Place) -> None:
    async with sandbox(place.url) as database:
        with contextlib.suppress(db.UsageError):  # where a CREATE commits
            await database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
            await database.execute(INSERT, [1, "one"])
    async with place.items() as database:
        assert await database.fetch_value(COUNT) == 0


async def test_every_method_works_as_the_application_knows_it(place: Place) -> None:
    async with items(place) as database:
        assert await database.execute(INSERT, [1, "one"]) == 1
        assert await database.execute_many(INSERT, [[2, "two"], [3, "three"]]) == 2
        assert await database.insert_many("items", ["id", "name"], [(4, "four"), (5, "five")]) == 2
        changed, left = await database.batch([("DELETE FROM items WHERE id = $1", [5]), (COUNT, [])])
        assert (changed.count, left.rows[0][0]) == (1, 4)
        await database.execute_script("DELETE FROM items WHERE id = 4; DELETE FROM items WHERE id = 3;")
        async with database.stream("SELECT id FROM items ORDER BY id", into=int, batch_size=1) as rows:
            assert [row async for row in rows] == [1, 2]
        assert await database.run_transaction(lambda tx: tx.fetch_value(COUNT)) == 2
        assert await database.run(lambda connection: connection.fetch_value(COUNT)) == 2
        assert (await database.fetch_one("SELECT name FROM items WHERE id = :id", {"id": 2})).name == "two"
        assert (await database.server_info()).version
        await database.drain()
    assert kept(place) == 0


async def test_a_database_that_runs_lends_it_a_connection_and_goes_on(place: Place) -> None:
    async with place.items() as outer:
        for _ in range(2):
            async with sandbox(outer) as database:
                await database.execute(INSERT, [1, "one"])
                assert outer.stats().in_use == 1
        assert await outer.fetch_value(COUNT) == 0


async def test_a_database_that_was_not_started_is_started_and_stopped(place: Place) -> None:
    outer = place.open()
    async with sandbox(outer) as database:
        await database.fetch_value("SELECT 1")
    with pytest.raises(db.PoolClosed):
        await outer.fetch_value("SELECT 1")


async def test_the_driver_may_be_a_value(place: Place) -> None:
    own = replace(find_driver(place.driver), name="mine", schemes=frozenset({"mine"}))
    keys = {"url": place.url.replace(place.url.partition(":")[0], "mine", 1)}
    with contextlib.suppress(db.ConfigError):  # a driver that insists on its own scheme
        async with sandbox(keys, driver=own) as database:
            assert database.driver == "mine"


# -- transactions ------------------------------------------------------------------------------------------------------


async def test_a_transaction_that_fails_takes_back_its_own_work_alone(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        with pytest.raises(KeyError):
            async with database.transaction() as tx:
                await tx.execute(INSERT, [2, "two"])
                raise KeyError
        async with database.transaction() as tx:
            await tx.execute(INSERT, [3, "three"])
            await tx.rollback()
        assert await database.fetch_all("SELECT id FROM items", into=int) == [1]


async def test_an_error_dooms_the_transaction_of_the_application_and_not_the_sandbox(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        doomed = pytest.raises(db.TransactionError) if place.errors_doom else contextlib.nullcontext()
        with doomed:
            async with database.transaction() as tx:
                with pytest.raises(db.ConstraintError):
                    await tx.execute(INSERT, [1, "again"])
        assert await database.fetch_value(COUNT) == 1
        async with database.transaction() as tx:
            await tx.execute(INSERT, [2, "two"])
        assert await database.fetch_value(COUNT) == 2


async def test_a_statement_alone_that_fails_harms_nothing(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        with pytest.raises(db.ConstraintError) as caught:
            await database.execute(INSERT, [1, "again"])
        assert caught.value.kind == "unique"
        with pytest.raises(db.ConstraintError):
            await database.execute_many(INSERT, [[2, "two"], [1, "again"]])
        with pytest.raises(db.ConstraintError):
            await database.insert_many("items", ["id", "name"], [(2, "two"), (1, "again")])
        with pytest.raises(db.ConstraintError):
            await database.batch([(INSERT, [2, "two"]), (INSERT, [1, "again"])])
        with pytest.raises(db.QueryError):
            await database.execute_script("DELETE FROM items; DELETE FROM nowhere;")
        with pytest.raises(db.QueryError):
            async with database.stream("SELECT id FROM nowhere") as rows:
                [row async for row in rows]
        assert await database.fetch_all("SELECT id FROM items", into=int) == [1]


async def test_savepoints_of_the_application_nest(place: Place) -> None:
    async with items(place) as database, database.transaction() as tx:
        await tx.execute(INSERT, [1, "one"])
        with pytest.raises(db.ConstraintError):
            async with tx.transaction():
                await tx.execute(INSERT, [2, "two"])
                await tx.execute(INSERT, [1, "again"])
        async with tx.transaction():
            await tx.execute(INSERT, [3, "three"])
        assert tx.in_transaction
        assert await tx.fetch_all("SELECT id FROM items ORDER BY id", into=int) == [1, 3]


async def test_a_failed_batch_inside_of_a_transaction_is_rolled_back_with_it(place: Place) -> None:
    async with items(place) as database:
        with pytest.raises(db.TransactionError):
            async with database.transaction() as tx:
                with pytest.raises(db.ConstraintError):
                    await tx.execute_many(INSERT, [[1, "one"], [1, "again"]])
        assert await database.fetch_value(COUNT) == 0


async def test_a_connection_outside_of_a_transaction_says_so(place: Place) -> None:
    async with items(place) as database, database.connection() as connection:
        assert not connection.in_transaction
        async with connection.transaction():
            assert connection.in_transaction
        assert not connection.in_transaction


async def test_a_transaction_is_tried_again_as_ever(place: Place) -> None:
    tries = 0

    async def work(tx: db.Connection[Any]) -> None:
        nonlocal tries
        tries += 1
        await tx.execute(INSERT, [tries, "one"])
        if tries < 3:
            raise db.ConflictError(retryable=True)

    async with items(place) as database:
        await database.run_transaction(work)
        assert await database.fetch_all("SELECT id FROM items", into=int) == [3]


async def test_an_isolation_is_refused_as_the_driver_refuses_it(place: Place) -> None:
    async with items(place) as database:
        for isolation in ISOLATIONS:
            refused = pytest.raises(db.UnsupportedError, match=isolation)
            with contextlib.nullcontext() if isolation in place.isolations else refused:
                async with database.transaction(isolation) as tx:
                    assert await tx.fetch_value(COUNT) == 0


async def test_a_read_only_transaction_refuses_what_writes(place: Place) -> None:
    async with items(place) as database:
        async with database.transaction(read_only=True) as tx:
            assert await tx.fetch_value(COUNT) == 0
            with pytest.raises(db.QueryError, match="read_only"):
                await tx.execute(INSERT, [1, "one"])
        with pytest.raises(db.QueryError, match="read_only"):
            async with database.transaction(read_only=True) as tx:
                await tx.insert_many("items", ["id", "name"], [(1, "one")])
        await database.execute(INSERT, [1, "one"])


@pytest.mark.parametrize("text", ["BEGIN", "COMMIT", "ROLLBACK", "START TRANSACTION", "-- so?\nEND"])
async def test_a_text_that_would_end_the_sandbox_is_refused(place: Place, text: str) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        with pytest.raises(db.UsageError, match=r"transaction\(\)"):
            await database.execute(text)
        with pytest.raises(db.UsageError, match=r"transaction\(\)"):
            await database.execute_script(f"DELETE FROM items; {text};")
        with pytest.raises(db.QueryError, match=r"transaction\(\)"):
            await database.batch([(COUNT, []), (text, [])])
        assert await database.fetch_value(COUNT) == 1
    assert kept(place) == 0


async def test_when_the_database_ends_the_transaction_the_sandbox_is_over(place: Place) -> None:
    with contextlib.suppress(db.DbError):
        async with items(place) as database:
            async with database.connection() as connection:
                await connection.fetch_value(COUNT)
                native: Any = connection.native
                await (native.execute("COMMIT") if hasattr(native, "execute") else native.commit())
            with pytest.raises(db.TransactionError, match="sandbox is over"):
                await database.execute(INSERT, [1, "one"])
            with pytest.raises(db.TransactionError, match="sandbox is over"):
                async with database.transaction():
                    pass
    assert kept(place) == 0


# -- cancellation and time ---------------------------------------------------------------------------------------------


async def test_a_statement_that_takes_too_long_ends_and_the_sandbox_goes_on(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        with pytest.raises(db.QueryTimeout):
            await database.fetch_all(place.endless, timeout=0.05)
        with pytest.raises(db.QueryTimeout):
            async with database.transaction() as tx:
                await tx.execute(INSERT, [2, "two"])
                await tx.fetch_all(place.endless, timeout=0.05)
        assert await database.fetch_all("SELECT id FROM items", into=int) == [1]


async def test_a_task_that_is_cancelled_leaves_the_sandbox_in_order(place: Place) -> None:
    async def work(database: db.Database) -> None:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [2, "two"])
            await tx.fetch_all(place.endless)

    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])
        task = asyncio.create_task(work(database))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(10):
            assert await database.fetch_all("SELECT id FROM items", into=int) == [1]


# -- one task, several connections -------------------------------------------------------------------------------------


async def test_a_task_may_check_out_a_second_connection_inside_of_the_first(place: Place) -> None:
    async with items(place) as database, database.connection() as connection:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "one"])
            assert await connection.fetch_value(COUNT) == 1
            with pytest.raises(db.ConstraintError):
                await database.execute(INSERT, [1, "again"])
        assert await database.fetch_value(COUNT) == 1
        assert database.stats().in_use == 1
        assert len(database.holders()) == 1


async def test_statements_run_while_a_stream_is_read(place: Place) -> None:
    async with items(place) as database:
        await database.execute_many(INSERT, [[n, "name"] for n in range(5)])
        async with database.stream("SELECT id FROM items", into=int, batch_size=2) as ids:
            async for number in ids:
                await database.execute("UPDATE items SET name = $1 WHERE id = $2", [f"name {number}", number])
        assert await database.fetch_value("SELECT name FROM items WHERE id = 4") == "name 4"


async def test_rows_may_come_from_the_database_that_they_are_loaded_into(place: Place) -> None:
    async with items(place) as database:
        await database.execute(INSERT, [1, "one"])

        async def copies() -> AsyncIterator[tuple[int, str]]:
            async with database.stream("SELECT id, name FROM items") as rows:
                async for number, name in rows:
                    yield number + 1, name

        assert await database.insert_many("items", ["id", "name"], copies()) == 1


async def test_transactions_that_do_not_nest_are_refused(place: Place) -> None:
    async with items(place) as database:
        first, second = database.transaction(), database.transaction()
        await (await first.__aenter__()).execute(INSERT, [1, "one"])
        await (await second.__aenter__()).execute(INSERT, [2, "two"])
        await first.__aexit__(KeyError, KeyError(), None)
        with pytest.raises(db.UsageError, match="last in, first out"):
            await database.fetch_value(COUNT)
        with contextlib.suppress(db.DbError):
            await second.__aexit__(None, None, None)


# -- several tasks -----------------------------------------------------------------------------------------------------


async def test_two_tasks_at_once_are_told_apart_by_name_and_cured(place: Place) -> None:
    async with items(place) as database:

        async def other() -> None:
            await database.fetch_value(COUNT)

        async with database.connection():
            with pytest.raises(db.UsageError) as caught:
                await asyncio.create_task(other(), name="the other")
        told = str(caught.value)
        assert "the other" in told
        assert str(asyncio.current_task().get_name()) in told  # type: ignore[union-attr]  # pyright: ignore[reportOptionalMemberAccess]
        assert "share=True" in told
        assert "test_sandbox.py" in told
        await asyncio.create_task(other())


async def test_a_task_that_has_ended_is_no_rival(place: Place) -> None:
    """A fixture enters a connection in one task, and its test runs in another."""
    async with items(place) as database:
        holding = database.connection()
        connection = await asyncio.create_task(holding.__aenter__())
        await connection.execute(INSERT, [1, "one"])
        assert await database.fetch_value(COUNT) == 1
        await asyncio.create_task(holding.__aexit__(None, None, None))
        assert database.stats().in_use == 0


async def test_tasks_that_share_take_turns_in_the_order_of_their_coming(place: Place) -> None:
    turns: list[int] = []

    async def work(database: db.Database, number: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [number, "name"])
            turns.append(number)
            await asyncio.sleep(0)
            await tx.fetch_value(COUNT)
            turns.append(number)

    async with items(place, share=True) as database:
        async with asyncio.TaskGroup() as group:
            for number in range(5):
                group.create_task(work(database, number))
        assert turns == [number for number in range(5) for _ in range(2)]
        assert await database.fetch_value(COUNT) == 5
        assert database.stats().waited == 4


async def test_a_waiting_task_that_is_cancelled_keeps_nothing(place: Place) -> None:
    async with items(place, share=True) as database:

        async def other() -> Any:
            return await database.fetch_value(COUNT)

        async with database.connection():
            gone, stays = asyncio.create_task(other()), asyncio.create_task(other())
            await asyncio.sleep(0)
            assert database.stats().waiting == 2
        gone.cancel()  # in the same turn in which it was given the connection
        assert await stays == 0
        assert gone.cancelled()
        assert database.stats().in_use == 0


async def test_a_task_that_waits_in_vain_is_told_who_holds_the_connection(place: Place) -> None:
    async with items(place, share=True) as database:

        async def other() -> None:
            async with database.connection(timeout=0.02):
                raise AssertionError("it is held")

        async with database.connection():
            with pytest.raises(db.PoolTimeout, match=r"test_sandbox\.py") as caught:
                await asyncio.create_task(other())
            assert len(caught.value.holders) == 1
            assert caught.value.reason == "exhausted"


async def test_the_end_refuses_those_who_wait_and_tells_who_is_still_at_work(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    async with place.items():
        pass
    entered = asyncio.Event()

    async def holds(database: db.Database) -> None:
        async with database.connection() as connection:
            await connection.execute(INSERT, [1, "one"])
            entered.set()
            await asyncio.sleep(10)

    async def waits(database: db.Database) -> None:
        await database.fetch_value(COUNT)

    with caplog.at_level(logging.WARNING, "dbcore.testing"):
        async with sandbox({"url": place.url, "pool.stop_timeout": 0.02}, share=True) as database:
            holder = asyncio.create_task(holds(database), name="the holder")
            await entered.wait()
            waiter = asyncio.create_task(waits(database))
            await asyncio.sleep(0)
    with pytest.raises(db.PoolClosed):
        await waiter
    holder.cancel()
    with pytest.raises(asyncio.CancelledError):
        await holder
    assert "the holder" in caplog.text
    assert kept(place) == 0


async def test_a_connection_that_is_lost_is_told_as_such() -> None:
    script = Script()
    async with sandbox("scripted://", driver=scripted_driver(script)) as database:
        await database.execute("UPDATE t SET n = 1")
        script.restart()
        for _ in range(2):
            with pytest.raises(db.DbConnectionError):
                await database.execute("UPDATE t SET n = 2")


# -- a small driver ----------------------------------------------------------------------------------------------------


async def test_a_driver_that_can_do_little_is_offered_for_no_more() -> None:
    script = Script()
    small = replace(
        scripted_driver(script, {"SELECT 1": [(1,)]}),
        begin=None,
        commit=None,
        rollback=None,
        transaction_status=None,
        stream=None,
        script=None,
    )
    async with sandbox("scripted://", driver=small) as database:
        assert await database.fetch_value("SELECT 1") == 1
        with pytest.raises(db.UnsupportedError):
            database.stream("SELECT 1")
        with pytest.raises(db.UnsupportedError):
            async with database.transaction("serializable"):
                pass
        async with database.transaction():
            pass
    assert [text for _, text, _ in script.statements] == [
        "BEGIN",
        "SAVEPOINT dbcore_sandbox_statement",
        "SELECT 1",
        "RELEASE SAVEPOINT dbcore_sandbox_statement",
        "ROLLBACK",
    ]
