"""Many tasks on a small pool, cancelled and timed out at random: the books balance, every connection stays whole."""

from __future__ import annotations

import asyncio
import contextlib
import random
from typing import Any

import pytest
from databases import Place, until

import dbcore as db
from dbcore.events import ConnectionClosed, ConnectionOpened, Event

SEED = 20_240_229
TASKS, ROUNDS, SIZE = 400, 80, 5
CHECKOUTS = 20_000

PART = 4
"""A pool that is not ours gets the fourth part of the storm: it is slower, and has to prove that it fits. So does one
whose statements share trips, and with them checkouts."""
ACTIONS = ("plain", "block", "transaction", "writing", "impatient", "slow", "cancelled")
WEIGHTS = (60, 10, 6, 3, 6, 1, 14)


class Storm:
    """What happened, and the tasks that make it happen."""

    def __init__(self, database: db.Database, place: Place, rounds: int) -> None:
        self.database = database
        self.endless = place.endless
        self.rounds = rounds
        self.wrong: list[str] = []
        self.committed = 0

    async def task(self, number: int) -> None:
        chance = random.Random(SEED + number)
        for turn in range(self.rounds):
            value = number * ROUNDS + turn
            match chance.choices(ACTIONS, WEIGHTS)[0]:
                case "plain":
                    self._same(await self.database.fetch_value("SELECT $1", [value]), value)
                case "block":
                    await self._block(value)
                case "transaction":
                    await self._transaction(value, fails=chance.random() < 0.5)
                case "writing":
                    await self._write(fails=chance.random() < 0.3)
                case "impatient":
                    with contextlib.suppress(db.PoolTimeout):
                        async with self.database.connection(chance.choice((0, 0.0001, 0.001))) as connection:
                            self._same(await connection.fetch_value("SELECT $1", [value]), value)
                case "slow":
                    with pytest.raises(db.QueryTimeout):
                        await self.database.execute(self.endless, timeout=chance.uniform(0, 0.004))
                case _:
                    await self._cancelled(value, chance)

    async def _block(self, value: int) -> None:
        async with self.database.connection() as connection:
            self._same(await connection.fetch_value("SELECT $1", [value]), value)
            await asyncio.sleep(0)
            self._same(await connection.fetch_value("SELECT $1", [-value]), -value)

    async def _transaction(self, value: int, *, fails: bool) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with self.database.transaction(read_only=True) as tx:
                self._same(await tx.fetch_value("SELECT $1", [value]), value)
                if fails:
                    raise ZeroDivisionError

    async def _write(self, *, fails: bool) -> None:
        with contextlib.suppress(ZeroDivisionError):
            async with self.database.transaction() as tx:
                await tx.execute("UPDATE counter SET n = n + 1")
                if fails:
                    raise ZeroDivisionError
            self.committed += 1

    async def _cancelled(self, value: int, chance: random.Random) -> None:
        work = asyncio.ensure_future(
            self._block(value) if chance.random() < 0.5 else self._transaction(value, fails=chance.random() < 0.5)
        )
        for _ in range(chance.choice((0, 1, 2, 3, 5, 8, 40, 200))):
            await asyncio.sleep(0)
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled() and (error := work.exception()) is not None:
            raise error

    def _same(self, got: Any, wanted: int) -> None:
        if got != wanted:
            self.wrong.append(f"asked for {wanted}, got {got}")


@pytest.mark.parametrize("share_trips", [False, True])
async def test_a_pool_of_five_survives_a_storm_of_400_tasks(place: Place, share_trips: bool) -> None:
    """Laws: C10."""
    part = PART if share_trips or place.driver == "asyncpg" else 1
    events: list[Event] = []
    pool = {"min_size": 1, "max_size": SIZE, "checkout_timeout": 60}
    database = place.open(observe=events.append, share_trips=share_trips, pool=pool)
    most_seen = 0
    async with database:
        await database.execute_script("CREATE TABLE counter (n INTEGER); INSERT INTO counter VALUES (0)")
        storm = Storm(database, place, ROUNDS // part)

        async def watch() -> None:
            nonlocal most_seen
            while True:
                stats = database.stats()
                parts = (stats.idle, stats.in_use, stats.connecting, stats.resetting, stats.closing)
                if stats.size != sum(parts) or stats.size > SIZE or min(*parts, stats.waiting) < 0:
                    storm.wrong.append(f"the books are wrong: {stats}")
                most_seen = max(most_seen, place.seen())
                await asyncio.sleep(0.01)

        watching = asyncio.create_task(watch())
        async with asyncio.TaskGroup() as group:
            for number in range(TASKS):
                group.create_task(storm.task(number))
        watching.cancel()

        await until(lambda: database.stats().idle == database.stats().size)
        stats = database.stats()
        assert storm.wrong == []
        assert most_seen <= SIZE
        assert storm.committed > 0
        assert await database.fetch_value("SELECT n FROM counter") == storm.committed
        assert share_trips or stats.checkouts >= CHECKOUTS // part
        assert (stats.in_use, stats.waiting, stats.connecting, stats.resetting, stats.closing) == (0, 0, 0, 0, 0)
        assert stats.timeouts > 0
        assert stats.cancelled > 0
        opened, closed = (
            sum(isinstance(event, kind) for event in events) for kind in (ConnectionOpened, ConnectionClosed)
        )
        assert opened - closed == stats.size
        await every_connection_is_usable(database, stats.size)
    await until(lambda: place.seen() == 0)


async def every_connection_is_usable(database: db.Database, size: int) -> None:
    async with contextlib.AsyncExitStack() as stack:
        held = [await stack.enter_async_context(database.connection()) for _ in range(size)]
        assert len({id(connection.native) for connection in held}) == size
        for number, connection in enumerate(held):
            assert not connection.in_transaction
            assert await connection.fetch_value("SELECT $1", [number]) == number
