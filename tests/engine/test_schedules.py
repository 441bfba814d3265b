"""Random workloads in shuffled orders: thousands of schedules of the real engine, each one again by its seed.

`DBCORE_STRESS=100000` runs that many in all; `DBCORE_SEED=1234` runs that one alone, with its log.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
from collections.abc import Generator
from typing import Any

import pytest

from dbcore.errors import DbConnectionError, DbError, PoolClosed, PoolError
from dbcore.testing import (
    Plan,
    Script,
    ScriptedPool,
    explore,
    fails,
    hangs,
    passes,
    run_schedule,
    scripted_pool,
    settled,
    slow,
)

SCHEDULES = -(-int(os.environ.get("DBCORE_STRESS", "4500")) // 3)
SEED = os.environ.get("DBCORE_SEED")

DELAYS = (0.0, 0.0, 0.0, 1.0, 1.0, 2.0, 5.0)
"""Few and round, so that much of it happens at the same moment."""


@pytest.fixture(autouse=True)
def quiet() -> Generator[None]:
    """Thousands of schedules would log millions of lines; one that is replayed tells what happens."""
    log = logging.getLogger("dbcore.pool")
    if not SEED:
        log.disabled = True
    yield
    log.disabled = False


def seeds(offset: int) -> range:
    return range(int(SEED), int(SEED) + 1) if SEED else range(offset, offset + SCHEDULES)


def settings(chance: random.Random) -> dict[str, Any]:
    max_size = chance.randint(1, 4)
    return {
        "max_size": max_size,
        "min_size": chance.randint(0, max_size),
        "startup": chance.choice(("try", "lazy")),
        "checkout_timeout": chance.choice((1.0, 3.0, 60.0)),
        "connect_timeout": 2.0,
        "reset_timeout": chance.choice((1.0, 2.0)),
        "stop_timeout": chance.choice((0.0, 2.0)),
        "max_waiting": chance.choice((None, None, 3)),
        "max_lifetime": chance.choice((None, 4.0, 20.0)),
        "max_idle": chance.choice((None, 2.0)),
        "keepalive": chance.choice((None, 3.0)),
        "ping_after": chance.choice((None, 0.0, 1.0)),
        "order": chance.choice(("lifo", "fifo")),
        "backoff_min": 0.5,
        "backoff_max": 2.0,
    }


def unreliable(plan: Plan, chance: random.Random, trouble: float) -> None:
    def step() -> Any:
        if chance.random() >= trouble:
            return chance.choice((passes(), passes(), slow(chance.choice(DELAYS))))
        error = DbConnectionError("by chance", retryable=chance.random() < 0.8)
        return chance.choice((fails(error), fails(error, after=1), hangs(), hangs(after_cancel=1)))

    plan.always(step)


class Workload:
    """Tasks that take connections, spoil them, are cancelled and give them back, until all of them are done."""

    def __init__(self, pool: ScriptedPool, script: Script, chance: random.Random) -> None:
        self.pool = pool
        self.script = script
        self.chance = chance
        self.served = 0

    async def use(self) -> None:
        chance = self.chance
        for _ in range(chance.randint(1, 4)):
            checkout = chance.choice((self.pool.checkout, self.pool.scoped_checkout))
            try:
                connection, release = await checkout(chance.choice((None, 1.0, 5.0)))
            except (PoolError, DbConnectionError):
                await asyncio.sleep(chance.choice(DELAYS))
                continue
            try:
                self.served += 1
                what = chance.random()
                if what < 0.2:
                    connection.dirty = True
                elif what < 0.3:
                    connection.broken = connection.noticed = True
                elif what < 0.4:
                    connection.broken = True
                if chance.random() < 0.7:
                    await asyncio.sleep(chance.choice(DELAYS))
            finally:
                release()
                if chance.random() < 0.2:
                    release()

    async def run(self) -> None:
        chance = self.chance
        tasks = [asyncio.create_task(self.use(), name=f"user {number}") for number in range(chance.randint(2, 10))]
        sent: set[asyncio.Task[None]] = set()
        for _ in range(chance.randint(0, 8)):
            await asyncio.sleep(chance.choice(DELAYS))
            what = chance.random()
            if what < 0.6:
                task = chance.choice(tasks)
                for _ in range(chance.choice((1, 1, 2, 5))):
                    if not task.done():
                        sent.add(task)
                        task.cancel()
                    await asyncio.sleep(0)
            elif what < 0.75:
                self.script.restart()
            else:
                with contextlib.suppress(PoolClosed):
                    if what < 0.85:
                        await self.pool.drain()
                    elif (taken := self.pool.try_checkout()) is not None:
                        taken[1]()
            stats = self.pool.stats()
            assert 0 <= stats.size <= stats.max_size
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for task, outcome in zip(tasks, outcomes, strict=True):
            if task in sent:
                assert isinstance(outcome, asyncio.CancelledError), (
                    f"{task.get_name()} ate its cancellation: {outcome!r}"
                )
            else:
                assert outcome is None, repr(outcome)


async def no_trouble(chance: random.Random) -> None:
    """A healthy database: the pool must end whole, and every checkout that was given enough time must be served."""
    script = Script()
    given = settings(chance)
    given |= {"checkout_timeout": 1000.0, "max_waiting": None, "startup": "require"}
    async with scripted_pool(script, **given) as pool:
        await Workload(pool, script, chance).run()
        await asyncio.sleep(30)
        await settled()
        now = pool.balance()
        assert (now.in_use, now.resetting, now.waiting) == (0, 0, 0)
        taken = [await pool.checkout(100) for _ in range(given["max_size"])]
        for _, release in taken:
            release()


async def trouble(chance: random.Random) -> None:
    """Hooks that fail, hang and take their time; once they are well again, the pool is too."""
    script = Script()
    how_much = chance.choice((0.1, 0.5, 0.9))
    for plan in (script.connect, script.ping, script.reset, script.close):
        unreliable(plan, chance, how_much)
    given = settings(chance)
    async with scripted_pool(script, **given) as pool:
        await Workload(pool, script, chance).run()
        for plan in (script.connect, script.ping, script.reset, script.close):
            plan.always(passes())
        await asyncio.sleep(60)
        await settled()
        now = pool.balance()
        assert (now.in_use, now.resetting, now.closing, now.waiting) == (0, 0, 0, 0)
        if given["startup"] == "try":
            assert now.size >= given["min_size"]
        taken = [await pool.checkout(60) for _ in range(given["max_size"])]
        for _, release in taken:
            release()


async def stopped_in_the_middle(chance: random.Random) -> None:
    """Whatever goes on, `stop` ends within its limits, and nothing is left."""
    script = Script()
    for plan in (script.connect, script.ping, script.reset, script.close):
        unreliable(plan, chance, chance.choice((0.0, 0.5)))
    given = settings(chance)
    loop = asyncio.get_running_loop()
    async with scripted_pool(script, **given) as pool:
        work = asyncio.create_task(Workload(pool, script, chance).run())
        await asyncio.sleep(chance.choice(DELAYS))
        for _ in range(chance.randint(0, 3)):
            await asyncio.sleep(0)
        began = loop.time()
        stops = [asyncio.ensure_future(pool.stop()) for _ in range(chance.randint(1, 3))]
        if chance.random() < 0.3:
            stops[0].cancel()
        for outcome in await asyncio.gather(*stops, return_exceptions=True):
            assert outcome is None or isinstance(outcome, asyncio.CancelledError)
        await pool.stop()
        # A hook that does not heed its cancellation for a second may cost that second more.
        assert loop.time() - began <= given["stop_timeout"] + 2 * given["reset_timeout"] + 1
        try:
            await work
        except DbError as error:
            raise AssertionError("the workload knows how to deal with that") from error
        await asyncio.sleep(10)
        assert pool.balance().size == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


def test_a_healthy_pool_serves_everybody_in_every_schedule() -> None:
    """Laws: B1, B2, C4, C5, C9, C10, E2, E3, E11, E17, E18, J12, L12."""
    explore(no_trouble, seeds(0), limit=5000)


def test_an_unreliable_database_costs_no_slot_in_any_schedule() -> None:
    """Laws: A7, A8, B1, C4, C12, E2, E3, E4, E5, E8, E9, E10, E11, F1, F11, F13, L12, N6."""
    explore(trouble, seeds(1_000_000), limit=5000)


def test_a_stop_in_the_middle_leaves_nothing_in_any_schedule() -> None:
    """Laws: J2, J3, J4, J5, J6, J7, J8, J17, J19, E13."""
    explore(stopped_in_the_middle, seeds(2_000_000), limit=5000)


def test_a_schedule_of_the_engine_comes_back_by_its_seed() -> None:
    """Laws: none of the peers'; a finding must be replayable."""

    def trace(seed: int) -> list[tuple[Any, ...]]:
        calls: list[tuple[Any, ...]] = []

        async def main(chance: random.Random) -> None:
            script = Script()
            async with scripted_pool(script, **settings(chance)) as pool:
                await Workload(pool, script, chance).run()
            calls.extend((call.hook, call.connection, call.began, call.outcome) for call in script.calls)

        run_schedule(main, seed)
        return calls

    for seed in range(20):
        assert trace(seed) == trace(seed)
