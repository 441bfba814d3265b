"""A caller that is cancelled, at any await and however often, keeps nothing and loses nothing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from typing import Any

import pytest

from dbcore.pool import Checkout
from dbcore.testing import Gate, Script, ScriptedPool, hangs, scripted_pool, settled, slow, virtual, waits


async def cancelled(task: asyncio.Future[Any]) -> bool:
    """Whether the task ended in the cancellation that it was sent."""
    await asyncio.wait([task])
    return task.cancelled()


@virtual
async def test_cancelled_before_its_first_step_it_begins_nothing() -> None:
    """Laws: E1."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        task = asyncio.ensure_future(pool.checkout())
        task.cancel()
        assert await cancelled(task)
        await settled()
        assert not script.of("connect")
        assert pool.gauges == (0, 0, 0, 0, 0, 0)


@virtual
async def test_cancelled_in_line_it_leaves_the_line() -> None:
    """Laws: E2."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        assert pool.stats().waiting == 1
        task.cancel()
        assert await cancelled(task)
        assert pool.stats().waiting == 0
        assert pool.stats().cancelled == 1
        release()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("others", [0, 2])
@virtual
async def test_cancelled_in_the_turn_in_which_it_was_served_it_passes_the_connection_on(others: int) -> None:
    """Laws: E3, E17, E18, C4."""
    async with scripted_pool(max_size=1) as pool:
        connection, release = await pool.checkout()
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        rest = [asyncio.ensure_future(pool.checkout()) for _ in range(others)]
        await settled()
        release()
        task.cancel()
        assert await cancelled(task)
        for waiter in rest:
            taken, release = await waiter
            assert taken is connection
            release()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_cancelled_just_before_it_would_have_been_served_it_is_passed_over() -> None:
    """Laws: E3, E17."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        task.cancel()
        release()
        assert pool.gauges[:2] == (1, 0)
        assert await cancelled(task)
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_cancelled_while_it_is_connected_for_the_connect_goes_on() -> None:
    """Laws: E4, A9."""
    script, gate = Script(), Gate()
    script.connect.then(waits(gate))
    async with scripted_pool(script, min_size=0) as pool:
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        task.cancel()
        assert await cancelled(task)
        assert pool.gauges == (0, 0, 1, 0, 0, 0)
        gate.open()
        await settled()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        assert script.of("connect")[0].outcome == "ok"


@virtual
async def test_cancelled_during_a_ping_it_goes_and_the_connection_stays() -> None:
    """Laws: E5."""
    script = Script()
    async with scripted_pool(script, max_size=1, ping_after=1) as pool:
        await asyncio.sleep(5)
        script.ping.then(slow(1))
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        assert pool.gauges == (0, 0, 0, 1, 0, 1)
        task.cancel()
        assert await cancelled(task)
        await asyncio.sleep(1)
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        assert script.of("ping")[0].outcome == "ok"


@virtual
async def test_cancelled_while_it_holds_a_dirty_connection_the_reset_is_done_all_the_same() -> None:
    """Laws: E8, E11."""
    script = Script()
    script.reset.always(slow(2))
    async with scripted_pool(script, max_size=1) as pool:

        async def work() -> None:
            connection, release = await pool.checkout()
            try:
                connection.in_transaction = True
                await asyncio.sleep(100)
            finally:
                release()

        task = asyncio.create_task(work())
        await settled()
        task.cancel()
        assert await cancelled(task)
        assert pool.gauges == (0, 0, 0, 1, 0, 0)
        for _ in range(5):
            task.cancel()
        await asyncio.sleep(2)
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        assert script.of("reset")[0].outcome == "ok"


@virtual
async def test_a_cancellation_during_a_reset_that_fails_costs_the_connection_and_not_the_slot() -> None:
    """Laws: E9, E12, E7."""
    script = Script()
    script.reset.always(hangs())
    async with scripted_pool(script, max_size=1, reset_timeout=3) as pool:

        async def work() -> None:
            connection, release = await pool.checkout()
            try:
                connection.in_transaction = True
                await asyncio.sleep(100)
            finally:
                release()

        task = asyncio.create_task(work())
        await settled()
        task.cancel()
        assert await cancelled(task)
        connection, release = await pool.checkout(10)
        assert asyncio.get_running_loop().time() == 3
        assert connection.id == 2
        release()


@virtual
async def test_cancelled_again_at_every_turn_it_still_loses_nothing() -> None:
    """As a cancel scope does that delivers its cancellation anew at each await.

    Laws: E11.
    """
    script = Script()
    script.connect.always(slow(1))
    script.reset.always(slow(1))
    async with scripted_pool(script, min_size=0, max_size=2) as pool:

        async def work() -> None:
            connection, release = await pool.checkout()
            try:
                connection.dirty = True
                await asyncio.sleep(1)
            finally:
                try:
                    await asyncio.sleep(0)
                finally:
                    release()

        for delay in (0.0, 0.5, 1.0, 1.5, 2.0):
            task = asyncio.create_task(work())
            await asyncio.sleep(delay)
            while not task.done():
                task.cancel()
                await asyncio.sleep(0)
            await asyncio.sleep(10)
            now = pool.balance()
            assert (now.in_use, now.connecting, now.resetting, now.waiting) == (0, 0, 0, 0)


@virtual
async def test_cancelling_one_who_waits_for_stop_does_not_cancel_the_stop() -> None:
    """Laws: E13."""
    async with scripted_pool(stop_timeout=5) as pool:
        _, release = await pool.checkout()
        first = asyncio.ensure_future(pool.stop())
        await asyncio.sleep(1)
        first.cancel()
        assert await cancelled(first)
        second = asyncio.ensure_future(pool.stop())
        await asyncio.sleep(1)
        assert not second.done()
        release()
        await second
        assert pool.stats().size == 0
        assert asyncio.get_running_loop().time() == 2


@virtual
async def test_a_start_that_is_cancelled_leaves_nothing_behind() -> None:
    """Laws: E4, J7."""
    script = Script()
    script.connect.always(slow(5))

    async def start() -> None:
        async with scripted_pool(script, min_size=2):
            raise AssertionError("it was cancelled before")

    task = asyncio.create_task(start())
    await asyncio.sleep(1)
    task.cancel()
    assert await cancelled(task)
    script.check(open=0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_a_timeout_around_a_checkout_is_a_timeout_and_not_a_cancellation() -> None:
    """Laws: E17."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await pool.checkout()
        release()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@pytest.mark.parametrize("turns", range(6))
@virtual
async def test_a_cancellation_comes_out_however_many_turns_after_the_release_it_is_sent(turns: int) -> None:
    """Laws: E3, E17, E18."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        went_on = False

        async def work() -> None:
            nonlocal went_on
            _, mine = await pool.checkout()
            try:
                went_on = True
                await asyncio.sleep(1)
            finally:
                mine()

        task = asyncio.create_task(work())
        await settled()
        release()
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        assert await cancelled(task)
        assert went_on == (turns > 0)
        await settled()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


class Touched(asyncio.Future[Any]):
    """A future that counts how often anybody looks at one of its kind: a walk along a line of them would show."""

    looks = 0

    def __eq__(self, other: object) -> bool:
        Touched.looks += 1
        return self is other

    def __hash__(self) -> int:
        Touched.looks += 1
        return id(self)

    def done(self) -> bool:
        Touched.looks += 1
        return super().done()


@contextlib.contextmanager
def touched() -> Generator[None]:
    """Every future that is made in here counts."""
    loop = asyncio.get_running_loop()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "create_future", lambda: Touched(loop=loop))
        yield


async def looks_of_ten_releases(pool: ScriptedPool) -> int:
    """How often futures are looked at while ten waiters, one after the other, are served by a release."""
    _, release = await pool.checkout()
    before = Touched.looks
    for _ in range(10):
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        release()
        _, release = await waiter
    looks = Touched.looks - before
    release()
    return looks


@pytest.mark.parametrize("step", [1, -1], ids=["in order", "in reverse"])
@virtual
async def test_ten_thousand_cancelled_waiters_leave_nothing_to_walk(step: int) -> None:
    """Each goes for the same few looks, whatever its place in the line, and no release afterwards looks at more.

    Laws: E2, C4. Bar 5 of the engine, in looks and not in seconds.
    """
    async with scripted_pool(max_size=1) as pool:
        with touched():
            fresh = await looks_of_ten_releases(pool)
            _, release = await pool.checkout()
            waiting = [asyncio.ensure_future(pool.checkout()) for _ in range(10_000)]
            await settled()
            assert pool.stats().waiting == 10_000
            costs: set[int] = set()
            for task in waiting[::step]:
                before = Touched.looks
                task.cancel()
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                costs.add(Touched.looks - before)
            assert max(costs) < 10
            assert pool.stats().waiting == 0
            release()
            assert await looks_of_ten_releases(pool) == fresh


@virtual
async def test_after_ten_thousand_cancelled_waiters_the_next_is_served_at_once() -> None:
    """Laws: C4."""
    async with scripted_pool(max_size=1) as pool:
        connection, release = await pool.checkout()
        crowd = [asyncio.ensure_future(pool.checkout()) for _ in range(10_000)]
        await settled()
        last = asyncio.ensure_future(pool.checkout())
        await settled()
        for task in crowd:
            task.cancel()
        release()
        taken, release = await last
        assert taken is connection
        release()


async def whole_life(checkout: Checkout[object]) -> None:
    _, release = await checkout()
    release()


@virtual
async def test_tasks_thrown_away_at_the_end_of_the_loop_do_not_harm_the_pool() -> None:
    """Their coroutines are closed with GeneratorExit and not with a cancellation.

    Laws: E2, M4.
    """
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        waiting = whole_life(pool.checkout)
        waiting.send(None)
        assert pool.stats().waiting == 1
        waiting.close()
        assert pool.stats().waiting == 0
        release()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
