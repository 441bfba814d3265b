"""Taking a connection: from the idle line, or a new one, within capacity."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from dbcore.errors import PoolClosed, UsageError
from dbcore.testing import FakeConnection, Gate, Script, run, scripted_pool, settled, slow, virtual, waits


@virtual
async def test_an_idle_connection_is_used_again() -> None:
    """Laws: A4."""
    script = Script()
    async with scripted_pool(script) as pool:
        for _ in range(3):
            connection, release = await pool.checkout()
            assert connection.id == 1
            release()
        assert len(script.of("connect")) == 1


@virtual
async def test_the_first_checkout_of_an_empty_pool_makes_one_connection() -> None:
    """Laws: A3."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        assert script.open == 0
        _, release = await pool.checkout()
        release()
        await settled()
        assert len(script.of("connect")) == 1


@virtual
async def test_an_uncontended_checkout_does_not_suspend() -> None:
    """Laws: none of the peers'; design.md section 9."""
    async with scripted_pool() as pool:
        with pytest.raises(StopIteration) as done:
            pool.checkout().__await__().__next__()
        _, release = done.value.value
        release()


@virtual
async def test_a_checkout_is_served_when_the_connect_has_succeeded_and_not_before() -> None:
    """Laws: A11, A22."""
    script = Script()
    script.connect.always(slow(2))
    async with scripted_pool(script, min_size=0) as pool:
        task = asyncio.ensure_future(pool.checkout())
        await asyncio.sleep(1)
        assert not task.done()
        assert pool.gauges == (0, 0, 1, 0, 0, 1)
        _, release = await task
        assert asyncio.get_running_loop().time() == 2
        release()


@virtual
async def test_a_connection_made_for_a_checkout_is_not_pinged() -> None:
    """Laws: G11."""
    script = Script()
    script.connect.always(slow(5))
    async with scripted_pool(script, min_size=0, ping_after=0) as pool:
        _, release = await pool.checkout()
        assert not script.of("ping")
        release()


@virtual
async def test_connects_run_side_by_side() -> None:
    """Laws: C17."""
    script = Script()
    script.connect.always(slow(1))
    async with scripted_pool(script, min_size=0, max_size=5) as pool:
        taken = await asyncio.gather(*(pool.checkout() for _ in range(5)))
        assert asyncio.get_running_loop().time() == 1
        for _, release in taken:
            release()


@virtual
async def test_the_pool_never_has_more_connections_than_max_size() -> None:
    """A hundred tasks, a hundred checkouts each, connects and closes that take their time.

    Laws: B1, C10.
    """
    script = Script()
    chance = random.Random(1)
    script.connect.always(lambda: slow(chance.random()))
    script.close.always(lambda: slow(chance.random()))
    served = 0

    async def use() -> None:
        nonlocal served
        for _ in range(100):
            connection, release = await pool.checkout(10_000)
            await asyncio.sleep(chance.random() / 100)
            connection.broken = chance.random() < 0.05
            connection.dirty = connection.broken
            assert pool.stats().size <= 5
            served += 1
            release()

    async with scripted_pool(script, max_size=5) as pool:
        await asyncio.gather(*(use() for _ in range(100)))
        await asyncio.sleep(5)
        pool.balance()
    assert served == 10_000
    assert script.most_open == 5


@virtual
async def test_one_connection_serves_one_checkout_after_the_other() -> None:
    """Laws: B2."""
    async with scripted_pool(max_size=1) as pool:
        for _ in range(100):
            _, release = await pool.checkout(1)
            release()


@pytest.mark.parametrize(("order", "expected"), [("lifo", [3, 3, 3]), ("fifo", [1, 2, 3])])
def test_idle_connections_are_taken_in_the_order_of_the_setting(order: str, expected: list[int]) -> None:
    """Laws: C11."""

    async def main() -> list[int]:
        async with scripted_pool(min_size=3, max_size=3, order=order) as pool:
            for _, release in sorted([await pool.checkout() for _ in range(3)], key=lambda taken: taken[0].id):
                release()
            seen: list[int] = []
            for _ in range(3):
                connection, release = await pool.checkout()
                seen.append(connection.id)
                release()
            return seen

    assert run(main) == expected


@virtual
async def test_lifo_is_the_default() -> None:
    """Laws: C11."""
    async with scripted_pool() as pool:
        assert pool.settings.order == "lifo"


@virtual
async def test_try_checkout_takes_an_idle_connection_and_never_waits_nor_connects() -> None:
    """Laws: C7, C8."""
    script = Script()
    async with scripted_pool(script, max_size=5) as pool:
        taken = pool.try_checkout()
        assert taken is not None
        assert pool.try_checkout() is None
        await settled()
        assert len(script.of("connect")) == 1
        taken[1]()


@virtual
async def test_a_short_spike_is_served_by_connections_that_come_back() -> None:
    """Fifty requests of 2 ms each, connects of 150 ms: the one connection serves them long before ten are made.

    Laws: A15.
    """
    script = Script()
    async with scripted_pool(script, max_size=10) as pool:
        script.connect.always(slow(0.150))

        async def request() -> None:
            _, release = await pool.checkout()
            await asyncio.sleep(0.002)
            release()

        await asyncio.gather(*(request() for _ in range(50)))
        await asyncio.sleep(5)
        assert pool.stats().size <= 3


@virtual
async def test_growth_goes_on_while_somebody_waits_up_to_max_size() -> None:
    """Laws: A14, A16."""
    script = Script()
    async with scripted_pool(script, max_size=8) as pool:
        script.connect.always(slow(1))
        taken = await asyncio.gather(*(pool.checkout(100) for _ in range(8)))
        assert pool.gauges == (0, 8, 0, 0, 0, 0)
        for _, release in taken:
            release()


@virtual
async def test_growth_ends_when_nobody_waits() -> None:
    """Laws: A16."""
    script = Script()
    async with scripted_pool(script, max_size=8) as pool:
        script.connect.always(slow(1))
        taken = await asyncio.gather(*(pool.checkout(100) for _ in range(3)))
        await asyncio.sleep(10)
        assert pool.stats().size == 3
        for _, release in taken:
            release()


@virtual
async def test_an_error_comes_from_the_awaitable_and_not_from_the_call() -> None:
    """Laws: A21."""
    async with scripted_pool() as pool:
        await pool.stop()
        awaitable = pool.checkout()
        with pytest.raises(PoolClosed):
            await awaitable


@virtual
async def test_a_senseless_argument_leaves_the_pool_as_it_was() -> None:
    """Laws: E16."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        before = pool.gauges
        for senseless in ("soon", math.nan, True):
            with pytest.raises(UsageError, match="a number of seconds"):
                await pool.checkout(senseless)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert pool.gauges == before
        release()
        (await pool.checkout(1))[1]()


@virtual
async def test_a_connect_that_nobody_waits_for_any_more_serves_the_next() -> None:
    """Laws: A9, E4."""
    script, gate = Script(), Gate()
    script.connect.then(waits(gate))
    async with scripted_pool(script, min_size=0) as pool:
        with pytest.raises(TimeoutError):
            await pool.checkout(1)
        assert pool.gauges == (0, 0, 1, 0, 0, 0)
        gate.open()
        await settled()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        connection, release = await pool.checkout()
        assert connection.id == 1
        release()


@virtual
async def test_a_hundred_tasks_share_a_few_connections_and_each_is_served_each_time() -> None:
    """Laws: C10."""
    served: list[FakeConnection] = []

    async def use() -> None:
        for _ in range(10):
            connection, release = await pool.checkout()
            await asyncio.sleep(0)
            served.append(connection)
            release()

    async with scripted_pool(max_size=3) as pool:
        await asyncio.gather(*(use() for _ in range(100)))
        assert len(served) == 1000
        assert pool.stats().checkouts == 1000
