"""Giving a connection back: at once, once, and whatever state it is in."""

from __future__ import annotations

import asyncio

import pytest

from dbcore.config import PoolSettings
from dbcore.engine import start_pool
from dbcore.pool import Release
from dbcore.testing import FakeConnection, Script, fails, hangs, run, scripted_pool, settled, virtual


@virtual
async def test_a_clean_connection_is_idle_as_soon_as_it_is_released() -> None:
    """Laws: H8."""
    script = Script()
    async with scripted_pool(script) as pool:
        _, release = await pool.checkout()
        release()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        assert not script.of("reset")


@virtual
async def test_a_second_release_does_nothing() -> None:
    """Laws: K3."""
    async with scripted_pool(max_size=2) as pool:
        _, release = await pool.checkout()
        release()
        release()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_a_stale_release_does_not_touch_the_next_holder() -> None:
    """Laws: K3, K5."""
    async with scripted_pool(max_size=1, watched=False) as pool:
        first, stale = await pool.checkout()
        stale()
        second, release = await pool.checkout()
        assert second is first
        stale()
        assert pool.gauges == (0, 1, 0, 0, 0, 0)
        assert pool.try_checkout() is None
        release()


@virtual
async def test_two_tasks_that_release_at_once_release_once() -> None:
    """Laws: K6."""
    async with scripted_pool(max_size=2) as pool:
        _, release = await pool.checkout()

        async def give_back() -> None:
            release()

        await asyncio.gather(give_back(), give_back())
        pool.balance()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_any_task_may_release() -> None:
    """Laws: K6."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()

        async def give_back() -> None:
            release()

        await asyncio.create_task(give_back())
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_a_release_shows_that_it_is_done() -> None:
    """Laws: K7."""
    async with scripted_pool(name="main", watched=False) as pool:
        _, release = await pool.checkout()
        assert repr(release) == "<Release of pool 'main'>"
        release()
        assert repr(release) == "<Release of pool 'main' (done)>"


@virtual
async def test_release_never_raises() -> None:
    """Laws: J5, F11."""
    script = Script()
    async with scripted_pool(script) as pool:
        script.is_clean.then(fails(ValueError("bug in the driver")))
        _, release = await pool.checkout()
        release()
        await settled()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        _, release = await pool.checkout()
        await pool.stop()
        release()


def test_a_release_after_the_loop_was_closed_does_not_raise() -> None:
    """Laws: M4."""
    script = Script()

    async def main() -> None:
        async with scripted_pool(script, stop_timeout=1) as pool:
            kept.append((await pool.checkout())[1])

    kept: list[Release] = []
    run(main)
    kept[0]()
    script.check(open=0)


def test_a_release_of_what_needs_a_reset_drops_it_when_the_loop_was_closed() -> None:
    """Laws: M4."""
    script = Script()

    async def main() -> tuple[FakeConnection, Release]:
        pool = await start_pool(script.hooks(), PoolSettings(), name="test")
        return await pool.checkout()

    connection, release = asyncio.run(main())
    connection.dirty = True
    release()
    assert connection.state == "aborted"


@virtual
async def test_a_connection_that_its_holder_found_broken_is_dropped_and_its_slot_is_free() -> None:
    """Laws: B3, B4, F1, F2."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        other, release = await pool.checkout(0.1)
        assert other.id == 2
        assert connection.gone
        assert pool.stats().lost == 1
        release()


@virtual
async def test_a_broken_connection_is_replaced_below_min_size() -> None:
    """Laws: F1, I10."""
    script = Script()
    async with scripted_pool(script, min_size=2) as pool:
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        await settled()
        assert pool.stats().idle == 2
        assert len(script.of("connect")) == 3


@virtual
async def test_a_connection_with_an_ordinary_error_behind_it_stays() -> None:
    """Laws: F2."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.in_transaction = connection.failed = True
        release()
        await settled()
        again, release = await pool.checkout()
        assert again is connection
        release()


@virtual
async def test_a_waiter_gets_a_new_connection_when_a_broken_one_comes_back() -> None:
    """Laws: C12, B14."""
    async with scripted_pool(max_size=1) as pool:
        connection, release = await pool.checkout()
        waiter = asyncio.ensure_future(pool.checkout(5))
        await settled()
        connection.broken = connection.noticed = True
        release()
        other, release = await waiter
        assert other is not connection
        release()


@virtual
async def test_an_error_of_close_is_swallowed_and_the_connection_is_aborted() -> None:
    """Laws: F11, J19."""
    script = Script()
    script.close.always(fails(OSError("cannot say goodbye")))
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        release()
        await pool.drain()
        await settled()
        assert connection.state == "aborted"
        _, release = await pool.checkout(1)
        release()


@virtual
async def test_a_close_that_hangs_is_cut_short_and_its_slot_is_counted_until_then() -> None:
    """Laws: B11, F11."""
    script = Script()
    script.close.always(hangs())
    async with scripted_pool(script, max_size=1, reset_timeout=5) as pool:
        _, release = await pool.checkout()
        release()
        drained = asyncio.ensure_future(pool.drain())
        await asyncio.sleep(4)
        assert pool.gauges[4] == 1
        assert pool.balance().size == 1
        with pytest.raises(TimeoutError):
            await pool.checkout(0.5)
        await drained
        assert asyncio.get_running_loop().time() == 5
        (await pool.checkout(1))[1]()


@virtual
async def test_a_release_goes_through_while_a_connect_and_a_close_take_for_ever() -> None:
    """Laws: C17."""
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=4, stop_timeout=1) as pool:
        first, second = await pool.checkout(), await pool.checkout()
        script.connect.always(hangs())
        script.close.then(hangs())
        second[1]()
        draining = asyncio.ensure_future(pool.drain())
        await settled()
        waiter = asyncio.ensure_future(pool.checkout(5))
        other = asyncio.ensure_future(pool.checkout(1))
        await settled()
        third = await asyncio.gather(other, return_exceptions=True)
        assert isinstance(third[0], TimeoutError)
        before = asyncio.get_running_loop().time()
        first[1]()
        assert asyncio.get_running_loop().time() == before
        draining.cancel()
        waiter.cancel()
        await asyncio.gather(draining, waiter, return_exceptions=True)
