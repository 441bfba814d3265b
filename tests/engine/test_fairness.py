"""Who is served when: first come, first served, straight from hand to hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from dbcore.errors import PoolDeadlock, PoolExhausted
from dbcore.testing import Script, ScriptedPool, says_no, scripted_pool, settled, slow, virtual


async def line_up(pool: ScriptedPool, count: int, served: list[int]) -> list[asyncio.Task[None]]:
    """Tasks that wait in the order of their numbers and write down when they are served."""

    async def wait(number: int) -> None:
        _, release = await pool.checkout()
        served.append(number)
        release()

    tasks: list[asyncio.Task[None]] = []
    for number in range(count):
        tasks.append(asyncio.create_task(wait(number), name=f"waiter {number}"))
        await settled()
    return tasks


@virtual
async def test_waiters_are_served_in_the_order_in_which_they_came() -> None:
    """Laws: C1."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        served: list[int] = []
        tasks = await line_up(pool, 20, served)
        release()
        await asyncio.gather(*tasks)
        assert served == list(range(20))


@virtual
async def test_waiters_are_served_in_order_by_connects_that_end_in_another_order() -> None:
    """Laws: C1."""
    script = Script()
    script.connect.then(slow(3), slow(2), slow(1))
    async with scripted_pool(script, min_size=0, max_size=3) as pool:
        served: list[int] = []

        async def wait(number: int) -> None:
            _, release = await pool.checkout()
            served.append(number)
            await asyncio.sleep(10)
            release()

        await asyncio.gather(*(wait(number) for number in range(3)))
        assert served == [0, 1, 2]


@virtual
async def test_a_newcomer_does_not_take_what_a_waiter_is_being_given() -> None:
    """The newcomer asks in the very turn of the release, before the waiter has run.

    Laws: C2, C16.
    """
    async with scripted_pool(max_size=1) as pool:
        connection, release = await pool.checkout()
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        release()
        assert pool.try_checkout() is None
        newcomer = asyncio.ensure_future(pool.checkout())
        taken, release = await waiter
        assert taken is connection
        assert not newcomer.done()
        release()
        (await newcomer)[1]()


@virtual
async def test_nobody_passes_a_line_even_if_something_is_idle() -> None:
    """The first waits for the ping of a doubtful connection; another one is idle and beyond doubt.

    Laws: C2.
    """
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=2, ping_after=60) as pool:
        script.is_usable.then(says_no())
        script.ping.then(slow(1))
        first = asyncio.ensure_future(pool.checkout())
        await settled()
        if not first.done():
            assert pool.try_checkout() is None
        second = asyncio.ensure_future(pool.checkout())
        await settled()
        assert first.done() or not second.done()
        for _, release in await asyncio.gather(first, second):
            release()


@virtual
async def test_a_released_connection_goes_straight_to_the_oldest_waiter() -> None:
    """Laws: C3, C5."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        release()
        assert pool.gauges == (0, 1, 0, 0, 0, 0)
        (await waiter)[1]()


@virtual
async def test_a_waiter_that_timed_out_or_was_cancelled_is_passed_over() -> None:
    """Laws: C4."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        late = asyncio.ensure_future(pool.checkout(1))
        gone = asyncio.ensure_future(pool.checkout())
        patient = asyncio.ensure_future(pool.checkout())
        await asyncio.sleep(2)
        gone.cancel()
        release()
        (await patient)[1]()
        with pytest.raises(TimeoutError):
            await late
        assert gone.cancelled() or await asyncio.wait([gone])
        pool.balance()


@virtual
async def test_one_more_than_max_waiting_is_turned_away_at_once() -> None:
    """Laws: C6."""
    async with scripted_pool(name="busy", max_size=1, max_waiting=2) as pool:
        _, release = await pool.checkout()
        served: list[int] = []
        tasks = await line_up(pool, 2, served)
        with pytest.raises(PoolExhausted, match=r"'busy'.*max_waiting = 2") as caught:
            await pool.checkout()
        assert asyncio.get_running_loop().time() == 0
        assert "raise pool.max_waiting" in str(caught.value)
        assert caught.value.retryable
        assert pool.stats().refused == 1
        release()
        await asyncio.gather(*tasks)
        assert served == [0, 1]


@virtual
async def test_no_waiting_at_all_still_uses_the_whole_capacity() -> None:
    """Those for whom a connection is made do not count as waiting.

    Laws: C6.
    """
    script = Script()
    script.connect.always(slow(1))
    async with scripted_pool(script, min_size=0, max_size=3, max_waiting=0) as pool:
        taken = await asyncio.gather(*(pool.checkout() for _ in range(3)))
        with pytest.raises(PoolExhausted):
            await pool.checkout()
        for _, release in taken:
            release()


@virtual
async def test_no_wake_up_is_missed_in_many_hand_overs() -> None:
    """Laws: C9."""
    async with scripted_pool(max_size=1) as pool:

        async def use() -> None:
            for _ in range(10_000):
                _, release = await pool.checkout()
                await asyncio.sleep(0)
                release()

        await asyncio.gather(use(), use())
        assert pool.stats().checkouts == 20_000


@virtual
async def test_each_of_many_waiters_is_served_once() -> None:
    """Laws: C10."""
    async with scripted_pool(max_size=10) as pool:
        served: list[int] = []

        async def use(number: int) -> None:
            _, release = await pool.checkout()
            await asyncio.sleep(0.01)
            served.append(number)
            release()

        await asyncio.gather(*(use(number) for number in range(100)))
        assert sorted(served) == list(range(100))


@virtual
async def test_a_connection_that_expires_as_it_is_handed_over_is_replaced() -> None:
    """Laws: C15, I1."""
    script = Script()
    async with scripted_pool(script, max_size=1, max_lifetime=10) as pool:
        connection, release = await pool.checkout()
        waiter = asyncio.ensure_future(pool.checkout())
        await asyncio.sleep(11)
        release()
        other, release = await waiter
        assert other is not connection
        assert connection.state == "closed"
        release()


@virtual
async def test_a_task_that_asks_again_while_it_holds_all_is_told_so_at_once() -> None:
    """Laws: C13."""
    async with scripted_pool(name="main", max_size=1) as pool:
        _, release = await pool.scoped_checkout()
        with pytest.raises(PoolDeadlock, match="'main'") as caught:
            await pool.checkout()
        assert asyncio.get_running_loop().time() == 0
        assert "test_fairness.py" in str(caught.value)
        assert pool.stats().refused == 1
        release()


@virtual
async def test_in_a_circle_of_tasks_the_newest_waiter_fails_and_the_others_go_on() -> None:
    """Laws: C13."""
    async with scripted_pool(max_size=3) as pool:
        ends: list[str] = []

        async def nest(number: int) -> None:
            _, outer = await pool.scoped_checkout()
            await asyncio.sleep(1 + number)
            if number == 2:
                with pytest.raises(PoolDeadlock, match="nest 2"):
                    await pool.scoped_checkout()
                ends.append("2 refused")
            else:
                _, inner = await pool.scoped_checkout()
                inner()
                ends.append(f"{number} served")
            outer()

        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(nest(number), name=f"nest {number}")
        assert ends == ["2 refused", "0 served", "1 served"]
        assert asyncio.get_running_loop().time() == 3


@virtual
async def test_holders_that_others_may_release_prove_no_deadlock() -> None:
    """Laws: C13."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        asyncio.get_running_loop().call_later(1, release)
        _, release = await pool.checkout()
        assert asyncio.get_running_loop().time() == 1
        release()


@virtual
async def test_a_holder_that_works_proves_no_deadlock() -> None:
    """Laws: C13."""
    async with scripted_pool(max_size=2) as pool:

        async def work() -> None:
            _, release = await pool.scoped_checkout()
            await asyncio.sleep(1)
            release()

        task = asyncio.create_task(work())
        await settled()
        _, outer = await pool.scoped_checkout()
        _, inner = await pool.scoped_checkout()
        assert asyncio.get_running_loop().time() == 1
        inner()
        outer()
        await task


@virtual
async def test_an_abandoned_generator_that_holds_a_connection_proves_no_deadlock() -> None:
    """The event loop closes it in a task of its own, so its connection comes back.

    Laws: C13, E15.
    """
    async with scripted_pool(max_size=1, watched=False) as pool:

        async def holding() -> AsyncGenerator[int, None]:
            _, release = await pool.scoped_checkout()
            try:
                yield 1
                yield 2
            finally:
                await asyncio.sleep(1)
                release()

        for _ in range(2):
            async for _ in holding():
                break
        (await pool.scoped_checkout(5))[1]()


@pytest.mark.parametrize("max_waiting", [0, 2])
@virtual
async def test_those_for_whom_there_is_an_idle_connection_do_not_count_as_waiting(max_waiting: int) -> None:
    """It needs a ping first, for which they wait. Laws: C6."""
    async with scripted_pool(min_size=8, max_size=8, max_waiting=max_waiting, ping_after=1) as pool:
        await asyncio.sleep(2)
        for _, release in await asyncio.gather(*(pool.checkout() for _ in range(8))):
            release()
        assert pool.stats().refused == 0
