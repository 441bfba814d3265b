"""Transactions that are run again when they met a conflict."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from databases import Place

import dbcore as db
from dbcore.testing import Script, fails, passes, scripted_driver, virtual

INSERT = "INSERT INTO items VALUES ($1, $2)"
Tx = db.Connection[Any]


def conflict() -> db.ConflictError:
    return db.ConflictError("made for this test", retryable=True)


class Work:
    """A function for `run_transaction` that fails as planned and writes a row when it does not."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.calls = 0

    async def __call__(self, tx: Tx) -> str:
        self.calls += 1
        await tx.execute(INSERT, [self.calls, "from this call"])
        if self.failures:
            raise self.failures.pop(0)
        return "done"


async def ids(database: db.Database) -> list[int]:
    return [row.id for row in await database.fetch_all("SELECT id FROM items ORDER BY id")]


async def test_what_the_function_returns_is_returned_and_its_work_committed(place: Place) -> None:
    async with place.items() as database:
        assert await database.run_transaction(Work()) == "done"
        assert await ids(database) == [1]


async def test_a_conflict_runs_the_whole_again_and_keeps_only_the_last_try(place: Place) -> None:
    work = Work(conflict(), conflict(), conflict())
    async with place.items() as database:
        assert await database.run_transaction(work) == "done"
        assert work.calls == 4
        assert await ids(database) == [4]


async def test_a_real_conflict_is_overcome_when_the_other_lets_go(place: Place) -> None:
    calls: list[int] = []

    async with place.items(**place.impatient) as database:
        with place.outside() as ask:
            for sql in place.lock:
                ask(sql)

            async def work(tx: Tx) -> None:
                calls.append(len(calls))
                if len(calls) == 2:
                    ask("ROLLBACK")
                await tx.execute(INSERT, [1, "a"])

            await database.run_transaction(work)
        assert await ids(database) == [1]


async def test_a_transaction_is_tried_again_on_a_pool_of_one(place: Place) -> None:
    """Laws: C14."""
    work = Work(conflict(), conflict())
    async with place.items(pool={"max_size": 1}) as database:
        async with asyncio.timeout(20):
            assert await database.run_transaction(work) == "done"
        assert database.stats().size == 1


async def test_the_connection_is_free_between_two_tries(place: Place) -> None:
    """Laws: C14."""
    held: list[int] = []
    async with place.items(pool={"max_size": 1}) as database:
        work = Work(conflict())

        async def look() -> None:
            while work.calls < 1 or database.stats().in_use:
                await asyncio.sleep(0)
            held.append(database.stats().in_use)
            assert await database.fetch_value("SELECT 1") == 1

        looking = asyncio.create_task(look())
        await database.run_transaction(work)
        await looking
        assert held == [0]


async def test_other_errors_are_not_tried_again(place: Place) -> None:
    for error in (ZeroDivisionError(), db.QueryError("no"), db.ConflictError("not retryable")):
        work = Work(error)
        async with place.items() as database:
            with pytest.raises(type(error)) as caught:
                await database.run_transaction(work)
            assert caught.value is error
            assert work.calls == 1
            assert await ids(database) == []
            await database.execute("DROP TABLE items")


async def test_a_commit_of_unknown_outcome_is_never_tried_again(place: Place) -> None:
    error = db.DbConnectionError("lost", retryable=True, outcome_unknown=True)
    work = Work(error)
    async with place.items() as database:
        with pytest.raises(db.DbConnectionError):
            await database.run_transaction(work)
        assert work.calls == 1


async def test_a_wait_for_a_connection_is_not_repeated(place: Place) -> None:
    work = Work()

    async def hold(database: db.Database, started: asyncio.Event) -> None:
        async with database.connection():
            started.set()
            await asyncio.Event().wait()

    async with place.items(pool={"max_size": 1, "checkout_timeout": 0.05}) as database:
        started = asyncio.Event()
        holder = asyncio.create_task(hold(database, started))
        await started.wait()
        with pytest.raises(db.PoolTimeout) as caught:
            await database.run_transaction(work)
        assert caught.value.retryable
        assert not hasattr(caught.value, "__notes__")
        assert work.calls == 0
        holder.cancel()
        await asyncio.wait([holder])


@pytest.mark.parametrize("retries", [0, 1, 2])
async def test_the_last_error_says_how_often_it_was_tried(place: Place, retries: int) -> None:
    errors = [conflict() for _ in range(5)]
    async with place.items() as database:
        work = Work(*errors)
        with pytest.raises(db.ConflictError) as caught:
            await database.run_transaction(work, retries=retries)
        assert caught.value is errors[retries]
        assert work.calls == retries + 1
        assert caught.value.__notes__ == [f"The transaction was tried {retries + 1} times."]
        assert await ids(database) == []


async def test_negative_retries_are_refused_before_anything_runs(place: Place) -> None:
    work = Work()
    async with place.items() as database:
        with pytest.raises(ValueError, match="-1"):
            await database.run_transaction(work, retries=-1)
        assert work.calls == 0


async def test_isolation_and_read_only_reach_the_transaction(place: Place) -> None:
    async with place.items() as database:
        with pytest.raises(db.QueryError):
            await database.run_transaction(Work(), isolation="serializable", read_only=True)
        assert await database.run_transaction(Work(), isolation="serializable") == "done"


@virtual
async def test_a_conflict_of_the_commit_is_tried_again() -> None:
    script = Script()
    calls: list[Tx] = []

    async def work(tx: Tx) -> None:
        calls.append(tx)
        await tx.execute("write")

    script.query.then(passes(), passes(), fails(conflict()))  # BEGIN, the statement, COMMIT
    async with db.open("scripted://", driver=scripted_driver(script)) as database:
        await database.run_transaction(work)
    assert len(calls) == 2
    texts = [sql for _, sql, _ in script.statements]
    assert texts == ["BEGIN", "write", "COMMIT", "ROLLBACK", "BEGIN", "write", "COMMIT"]


@virtual
async def test_the_pause_between_tries_grows_and_is_drawn() -> None:
    loop = asyncio.get_running_loop()
    starts: list[float] = []

    async def work(tx: Tx) -> None:
        starts.append(loop.time())
        raise conflict()

    async with db.open("scripted://", driver=scripted_driver(Script())) as database:
        for _ in range(20):
            with pytest.raises(db.ConflictError):
                await database.run_transaction(work, retries=8)
    rounds = [starts[first : first + 9] for first in range(0, len(starts), 9)]
    pauses = [[later - earlier for earlier, later in itertools.pairwise(each)] for each in rounds]
    longest = [max(column) for column in zip(*pauses, strict=True)]
    assert all(top <= min(0.02 * 2**number, 1.0) for number, top in enumerate(longest))
    assert longest[7] > longest[2] > longest[0] > 0
    assert len({round(each[0], 6) for each in pauses}) > 10
