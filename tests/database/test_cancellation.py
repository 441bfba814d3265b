"""Transactions whose task is cancelled: rolled back before the block is left, once; left at once, the second time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from databases import Place, until

import dbcore as db
from dbcore.driver import CancelledTooLate
from dbcore.testing import Gate, Script, fails, hangs, passes, scripted_driver, settled, virtual, waits

INSERT = "INSERT INTO items VALUES ($1, $2)"
COUNT = "SELECT count(*) FROM items"


class Writer:
    """A task that has written inside of a transaction and waits there, or runs an endless statement."""

    def __init__(self, database: db.Database, place: Place, *, busy: bool) -> None:
        self.inside = asyncio.Event()
        self._place = place
        self.task = asyncio.create_task(self._work(database, busy=busy))

    async def _work(self, database: db.Database, *, busy: bool) -> None:
        async with database.transaction() as tx:
            await tx.execute(INSERT, [1, "cancelled"])
            self.inside.set()
            if busy:
                await tx.execute(self._place.endless)
            await asyncio.Event().wait()


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in a statement"])
async def test_a_cancelled_transaction_is_rolled_back_before_its_block_is_left(place: Place, *, busy: bool) -> None:
    async with place.items() as database:
        writer = Writer(database, place, busy=busy)
        await writer.inside.wait()
        writer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer.task
        with place.outside() as ask:  # at once: no lock is left
            for sql in place.lock:
                ask(sql)
            assert ask(COUNT) == [(0,)]
            ask("ROLLBACK")
        assert await database.execute(INSERT, [1, "kept"]) == 1


@pytest.mark.parametrize("busy", [False, True], ids=["waiting", "in a statement"])
@pytest.mark.parametrize("turns", range(5))
async def test_cancelled_twice_it_leaves_and_nobody_gets_the_connection_dirty(
    place: Place, turns: int, *, busy: bool
) -> None:
    """Laws: E9."""
    async with place.items(pool={"max_size": 1}) as database:
        writer = Writer(database, place, busy=busy)
        await writer.inside.wait()
        writer.task.cancel()
        for _ in range(turns):
            await asyncio.sleep(0)
        writer.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writer.task
        assert database.stats().in_use == 0
        async with database.connection() as connection:
            assert not connection.in_transaction
            assert await connection.fetch_value(COUNT) == 0
            assert await connection.execute(INSERT, [1, "kept"]) == 1
        await until(lambda: database.stats().idle == 1)
        assert database.stats().size == 1
        if not busy:
            assert database.stats().connects == 1, "it was reset, not dropped"


# -- to the step, with a driver that does what it is told --------------------------------------------------------------


@virtual
async def test_a_second_cancellation_leaves_while_the_rollback_goes_on() -> None:
    """Laws: E9."""
    gate = Gate()
    script = Script()
    script.query.then(passes(), passes(), waits(gate))  # BEGIN, the statement, ROLLBACK
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        async with database.connection() as connection:

            async def work() -> None:
                async with connection.transaction():
                    await connection.execute("write")
                    await asyncio.Event().wait()

            task = asyncio.create_task(work())
            await settled()
            task.cancel()
            await settled()
            assert not task.done()
            task.cancel()
            await settled()
            assert task.cancelled()
            with pytest.raises(db.UsageError, match="cancelled twice"):
                await connection.execute("read")
        gate.open()
        await settled()
        assert database.stats().idle == 1
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "write", "ROLLBACK"]


@virtual
async def test_a_rollback_that_hangs_is_bounded_and_the_connection_is_dropped() -> None:
    script = Script()
    script.query.then(passes(), passes(), hangs())
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError) as caught:
            async with database.transaction() as tx:
                await tx.execute("write")
                raise error
        assert caught.value is error
        assert asyncio.get_running_loop().time() == database.config.pool.reset_timeout
        assert "rollback failed too" in error.__notes__[0]


@virtual
async def test_after_a_rollback_that_failed_the_connection_takes_no_statement() -> None:
    script = Script()
    script.query.then(passes(), fails(db.DbError("no")))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        async with database.connection() as connection:
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    raise ZeroDivisionError
            with pytest.raises(db.UsageError, match="the rollback of its transaction failed"):
                await connection.execute("write")
            with pytest.raises(db.UsageError, match="the rollback of its transaction failed"):
                async with connection.transaction():
                    pass
        assert await database.execute("read") == 0
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "ROLLBACK", "read"]


@virtual
async def test_a_savepoint_whose_rollback_failed_keeps_the_transaction_from_its_commit() -> None:
    script = Script()
    script.query.then(passes(), passes(), passes(), fails(db.DbError("no")))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.TransactionError, match="nothing was committed"):
            async with database.transaction() as tx:
                with contextlib.suppress(ZeroDivisionError):
                    async with tx.transaction():
                        await tx.execute("write")
                        raise ZeroDivisionError
    sent = [sql.partition(" TO")[0] for _, sql, _ in script.statements]
    assert sent == ["BEGIN", "SAVEPOINT dbcore_1", "write", "ROLLBACK", "ROLLBACK"]  # to the savepoint, then all of it


@virtual
async def test_a_rollback_to_a_savepoint_that_nobody_waits_for_ends_the_whole_transaction() -> None:
    script, gate = Script(), Gate()
    script.query.then(passes(), passes(), waits(gate))
    async with db.open("scripted://", driver=scripted_driver(script)) as database, database.connection() as connection:

        async def work() -> None:
            async with connection.transaction(), connection.transaction():
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await settled()
        for _ in range(2):
            task.cancel()
            await settled()
        assert task.cancelled()
        gate.open()
        await settled()
        sent = [sql.split()[0] for _, sql, _ in script.statements]
        assert sent == ["BEGIN", "SAVEPOINT", "ROLLBACK", "RELEASE", "ROLLBACK"]  # to the savepoint, then all of it
        with pytest.raises(db.UsageError, match="cancelled twice"):
            await connection.execute("write")


@virtual
async def test_a_release_of_a_savepoint_that_was_done_before_the_cancellation_is_not_rolled_back_to() -> None:
    script = Script()
    late = asyncio.CancelledError()
    late.__cause__ = CancelledTooLate()
    script.query.then(passes(), passes(), passes(), fails(late))
    async with db.open("scripted://", driver=scripted_driver(script)) as database, database.connection() as connection:
        with pytest.raises(db.TransactionError, match="nothing was committed"):
            async with connection.transaction():
                with contextlib.suppress(asyncio.CancelledError):
                    async with connection.transaction():
                        await connection.execute("write")
        assert not connection.in_transaction
        assert await connection.execute("more") == 0
    sent = [sql for _, sql, _ in script.statements]
    assert sent == ["BEGIN", "SAVEPOINT dbcore_1", "write", "RELEASE SAVEPOINT dbcore_1", "ROLLBACK", "more"]


@virtual
async def test_a_connection_lost_as_a_savepoint_is_rolled_back_is_what_later_statements_say() -> None:
    script = Script()
    lost = db.DbConnectionError("lost", retryable=True)
    script.query.then(passes(), passes(), passes(), fails(lost))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        with pytest.raises(db.DbConnectionError, match="lost") as caught:
            async with database.transaction() as tx:
                with contextlib.suppress(ZeroDivisionError):
                    async with tx.transaction():
                        await tx.execute("write")
                        raise ZeroDivisionError
                with pytest.raises(db.DbConnectionError, match="lost"):
                    await tx.execute("write")
        assert caught.value.retryable


@virtual
async def test_a_connection_error_of_something_else_is_not_taken_for_the_end_of_this_connection() -> None:
    script, gate = Script(), Gate()
    script.query.then(passes(), passes(), waits(gate))
    elsewhere = db.DbConnectionError("another database is away", retryable=True)
    others: list[asyncio.Task[int]] = []
    async with db.open("scripted://", driver=scripted_driver(script)) as database, database.connection() as connection:
        with pytest.raises(db.TransactionError, match="nothing was committed"):
            async with connection.transaction():
                with contextlib.suppress(db.DbConnectionError):
                    async with connection.transaction():
                        others.append(asyncio.create_task(connection.execute("slow")))
                        await settled()
                        raise elsewhere
                gate.open()
                assert await asyncio.gather(*others) == [0]
                with pytest.raises(db.UsageError, match="another task was at work in it"):
                    await connection.execute("write")


@virtual
async def test_a_rollback_that_takes_too_long_is_one_of_our_errors() -> None:
    script = Script()
    script.query.then(passes(), hangs())
    keys = {"url": "scripted://", "pool": {"reset_timeout": 5}}
    async with db.open(keys, driver=scripted_driver(script)) as database, database.connection() as connection:
        with pytest.raises(db.DbConnectionError, match=r"longer than .*reset_timeout = 5 s"):
            async with connection.transaction():
                await connection.rollback()


@virtual
async def test_while_a_rollback_is_under_way_no_other_task_gets_a_statement_in_behind_it() -> None:
    """Laws: O9."""
    script, gate = Script(), Gate()
    script.query.then(passes(), waits(gate))
    async with db.open("scripted://", driver=scripted_driver(script)) as database, database.connection() as connection:

        async def work() -> None:
            async with connection.transaction():
                raise ZeroDivisionError

        task = asyncio.create_task(work())
        await settled()
        with pytest.raises(db.UsageError, match="is being rolled back"):
            await connection.execute("write")
        gate.open()
        await asyncio.wait([task])
        assert isinstance(task.exception(), ZeroDivisionError)
        assert await connection.execute("write") == 0
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "ROLLBACK", "write"]


@virtual
async def test_of_two_tasks_that_roll_back_at_once_one_does_and_the_connection_is_left_to_its_reset() -> None:
    """Laws: O9."""
    script, gate = Script(), Gate()
    script.query.then(passes(), waits(gate))
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        async with database.connection() as connection:
            inside = asyncio.Event()

            async def work() -> None:
                async with connection.transaction():
                    inside.set()
                    await asyncio.sleep(1)
                    raise ZeroDivisionError

            task = asyncio.create_task(work())
            await inside.wait()
            other = asyncio.create_task(connection.rollback())
            await asyncio.wait([task])
            gate.open()
            await other
            with pytest.raises(db.UsageError, match="left while another task was at work in it"):
                await connection.execute("write")
        assert isinstance(task.exception(), ZeroDivisionError)
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "ROLLBACK"]


@virtual
async def test_a_transaction_that_is_left_while_another_task_is_in_it_is_ended_by_the_reset() -> None:
    """Laws: O9."""
    script, gate = Script(), Gate()
    script.query.then(passes(), waits(gate))
    others: list[asyncio.Task[int]] = []
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        async with database.connection() as connection:
            with pytest.raises(ZeroDivisionError):
                async with connection.transaction():
                    others.append(asyncio.create_task(connection.execute("slow")))
                    await settled()
                    raise ZeroDivisionError
            gate.open()
            assert await asyncio.gather(*others) == [0]
            with pytest.raises(db.UsageError, match="left while another task was at work in it"):
                await connection.execute("write")
        await settled()
        assert len(script.of("reset")) == 1
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "slow"]


@virtual
async def test_a_cancelled_commit_ends_in_a_rollback() -> None:
    script = Script()
    script.query.then(passes(), passes(), hangs())
    async with db.open("scripted://", driver=scripted_driver(script)) as database:

        async def work() -> None:
            async with database.transaction() as tx:
                await tx.execute("write")

        task = asyncio.create_task(work())
        await settled()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    assert [sql for _, sql, _ in script.statements] == ["BEGIN", "write", "COMMIT", "ROLLBACK"]
