"""The end of a pool: final, idempotent, bounded, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest

from dbcore.config import PoolSettings
from dbcore.engine import start_pool
from dbcore.errors import DbConnectionError, PoolClosed
from dbcore.events import Event, PoolStopped
from dbcore.testing import Gate, Script, fails, hangs, run, scripted_pool, settled, slow, virtual, waits


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_after_stop_a_checkout_fails_at_once_and_says_why() -> None:
    """Laws: J1."""
    async with scripted_pool(name="main") as pool:
        await pool.stop()
        for attempt in (pool.checkout, pool.scoped_checkout):
            with pytest.raises(PoolClosed, match="'main' was stopped"):
                await attempt()
        with pytest.raises(PoolClosed):
            pool.try_checkout()
        assert now() == 0


@virtual
async def test_stop_fails_all_who_wait_at_once() -> None:
    """Laws: J2."""
    async with scripted_pool(max_size=1, stop_timeout=10) as pool:
        _, release = await pool.checkout()
        waiting = [asyncio.ensure_future(pool.checkout()) for _ in range(5)]
        await settled()
        stopping = asyncio.ensure_future(pool.stop())
        await settled()
        assert all(isinstance(task.exception(), PoolClosed) for task in waiting)
        assert now() == 0
        release()
        await stopping


@virtual
async def test_stop_closes_what_is_idle() -> None:
    """Laws: J3."""
    script = Script()
    async with scripted_pool(script, min_size=4) as pool:
        await pool.stop()
        assert {connection.state for connection in script.connections} == {"closed"}
        assert now() == 0


@virtual
async def test_stop_waits_for_those_who_hold_a_connection() -> None:
    """Laws: J4, J5."""
    script = Script()
    async with scripted_pool(script, stop_timeout=10) as pool:
        connection, release = await pool.checkout()
        asyncio.get_running_loop().call_later(4, release)
        await pool.stop()
        assert now() == 4
        assert connection.state == "closed"


@virtual
async def test_stop_cuts_off_who_does_not_let_go_and_says_whom(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: J4, J15, J5."""
    script = Script()
    events: list[Event] = []
    async with scripted_pool(script, name="main", stop_timeout=10, observe=events.append) as pool:

        async def hold() -> str:
            connection, release = await pool.checkout()
            try:
                script.query.then(hangs())
                await script.run_query(connection)
            except DbConnectionError as error:
                return str(error)
            finally:
                release()
            return "not cut off"

        task = asyncio.create_task(hold(), name="greedy")
        await settled()
        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            await pool.stop()
        assert now() == 10
        assert await task == "the connection was aborted"
        assert script.connections[0].state == "aborted"
        assert "greedy" in caplog.text
        assert "test_stop.py" in caplog.text
        stopped = events[-1]
        assert isinstance(stopped, PoolStopped)
        assert [holder.task for holder in stopped.cut_off] == ["greedy"]


@virtual
async def test_a_stop_timeout_of_nothing_cuts_off_at_once() -> None:
    """Laws: J4."""
    async with scripted_pool(stop_timeout=0) as pool:
        _, release = await pool.checkout()
        await pool.stop()
        assert now() == 0
        release()


@virtual
async def test_stop_may_be_called_again_and_by_many_at_once() -> None:
    """Laws: J6, E13."""
    async with scripted_pool() as pool:
        _, release = await pool.checkout()
        asyncio.get_running_loop().call_later(2, release)
        await asyncio.gather(*(pool.stop() for _ in range(5)))
        assert now() == 2
        await pool.stop()


@virtual
async def test_a_connect_under_way_is_not_waited_for_and_leaves_nothing_behind() -> None:
    """Laws: J7."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        script.connect.then(hangs())
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        await pool.stop()
        assert now() == 0
        assert isinstance((await asyncio.gather(waiter, return_exceptions=True))[0], PoolClosed)
        script.check(open=0)


@virtual
async def test_a_connect_that_does_not_heed_its_cancellation_is_closed_when_it_arrives() -> None:
    """Laws: J7."""
    script = Script()
    async with scripted_pool(script, min_size=0, stop_timeout=10) as pool:
        script.connect.then(hangs(after_cancel=2))
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        await pool.stop()
        assert now() == 2
        await asyncio.gather(waiter, return_exceptions=True)
        script.check(open=0)


@virtual
async def test_a_connect_that_never_ends_does_not_keep_stop_from_ending() -> None:
    """Laws: J7, J15."""
    script = Script()
    async with scripted_pool(script, min_size=0, stop_timeout=1, reset_timeout=1, connect_timeout=5) as pool:
        script.connect.then(hangs(after_cancel=100))
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        await pool.stop()
        assert now() <= 5
        await asyncio.gather(waiter, return_exceptions=True)
        await asyncio.sleep(200)


@virtual
async def test_a_stop_in_the_very_turn_of_a_checkout_leaves_nothing() -> None:
    """Laws: J7."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        waiter = asyncio.ensure_future(pool.checkout())
        await asyncio.sleep(0)
        await pool.stop()
        assert now() == 0
        assert isinstance((await asyncio.gather(waiter, return_exceptions=True))[0], PoolClosed)
        assert pool.stats().size == 0


@virtual
async def test_after_stop_no_task_and_no_timer_is_left() -> None:
    """Laws: J8, I18."""
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=4, keepalive=10, max_idle=10, leak_warning=5) as pool:
        for _, release in [await pool.checkout() for _ in range(4)]:
            release()
        await asyncio.sleep(33)
        await pool.stop()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        calls = len(script.calls)
        await asyncio.sleep(1000)
        assert len(script.calls) == calls


@virtual
async def test_a_stopped_pool_stays_stopped() -> None:
    """Laws: J9, J1."""
    async with scripted_pool() as pool:
        await pool.stop()
        await asyncio.sleep(100)
        with pytest.raises(PoolClosed, match="anew"):
            await pool.checkout()


@virtual
async def test_a_pool_that_never_connected_can_be_stopped() -> None:
    """Laws: J16."""
    script = Script()
    async with scripted_pool(script, startup="lazy") as pool:
        await pool.stop()
    script.outage = DbConnectionError("down", retryable=True)
    async with scripted_pool(script, startup="try") as pool:
        await asyncio.sleep(5)
        began = now()
        await pool.stop()
        assert now() == began


@virtual
async def test_after_stop_the_gauges_are_zero_and_the_counters_stay() -> None:
    """Laws: J17."""
    async with scripted_pool() as pool:
        (await pool.checkout())[1]()
        await pool.stop()
        stats = pool.stats()
        assert (stats.size, stats.idle, stats.in_use, stats.waiting) == (0, 0, 0, 0)
        assert (stats.checkouts, stats.connects) == (1, 1)
        assert pool.holders() == ()


@pytest.mark.filterwarnings("error")
def test_a_stopped_pool_is_collected_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: J18."""

    @virtual
    async def main() -> None:
        async with scripted_pool(watched=False) as pool:
            (await pool.checkout())[1]()

    with caplog.at_level(logging.WARNING):
        main()
        gc.collect()
    assert not caplog.records


@virtual
async def test_a_close_that_hangs_does_not_hold_up_stop_beyond_its_limit() -> None:
    """Laws: J19, F11."""
    script = Script()
    script.close.always(hangs())
    async with scripted_pool(script, min_size=5, stop_timeout=10, reset_timeout=3) as pool:
        await pool.stop()
        assert now() == 3
        assert {connection.state for connection in script.connections} == {"aborted"}


@virtual
async def test_a_close_that_does_not_heed_its_cancellation_does_not_hold_up_stop_for_ever() -> None:
    """Laws: J19."""
    script = Script()
    script.close.always(hangs(after_cancel=1000))
    async with scripted_pool(script, min_size=2, stop_timeout=10, reset_timeout=3) as pool:
        await pool.stop()
        assert now() <= 10 + 3 + 3
        assert {connection.state for connection in script.connections} == {"aborted"}
        await asyncio.sleep(2000)


@virtual
async def test_a_reset_under_way_ends_before_its_connection_is_closed() -> None:
    """Laws: J5, H11."""
    script, gate = Script(), Gate()
    async with scripted_pool(script, stop_timeout=10) as pool:
        script.reset.then(waits(gate))
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        stopping = asyncio.ensure_future(pool.stop())
        await asyncio.sleep(2)
        gate.open()
        await stopping
        assert now() == 2
        assert connection.gone


@virtual
async def test_an_unclean_connection_released_during_stop_is_closed_without_a_reset() -> None:
    """Laws: J5."""
    script = Script()
    async with scripted_pool(script) as pool:
        connection, release = await pool.checkout()
        connection.in_transaction = True
        stopping = asyncio.ensure_future(pool.stop())
        await settled()
        release()
        await stopping
        assert now() == 0
        assert connection.gone
        assert not script.of("reset")


@virtual
async def test_a_ping_under_way_does_not_hold_up_stop_beyond_its_limit() -> None:
    """Laws: J19, G9."""
    script = Script()
    async with scripted_pool(script, stop_timeout=10, reset_timeout=3) as pool:
        await asyncio.sleep(5)
        script.ping.always(hangs())
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        began = now()
        await pool.stop()
        assert now() - began <= 3
        await asyncio.gather(waiter, return_exceptions=True)


@virtual
async def test_stop_during_a_drain_ends_both() -> None:
    """Laws: J6, J12."""
    script = Script()
    script.close.always(slow(2))
    async with scripted_pool(script, min_size=3) as pool:
        draining = asyncio.ensure_future(pool.drain())
        await settled()
        await pool.stop()
        await draining
        assert now() <= 4


@virtual
async def test_an_error_of_every_close_does_not_fail_the_stop() -> None:
    """Laws: F11, J3."""
    script = Script()
    script.close.always(fails(ValueError("bug in the driver")))
    script.abort.always(fails(ValueError("another")))
    async with scripted_pool(script, min_size=3) as pool:
        await pool.stop()
        assert pool.stats().size == 0


@virtual
async def test_without_an_abort_holders_are_cut_off_by_a_close() -> None:
    """Laws: J4."""
    script = Script()
    made = await start_pool(script.hooks(abort=False), PoolSettings(stop_timeout=2), name="test")
    pool = script.watch(made)
    _, release = await pool.checkout()
    await pool.stop()
    assert now() == 2
    script.check(open=0)
    release()


def test_stop_is_prompt_however_long_the_keeper_sleeps() -> None:
    """Laws: I18."""

    async def main() -> float:
        async with scripted_pool(max_lifetime=90_000, max_idle=None):
            pass
        return now()

    assert run(main) == 0
