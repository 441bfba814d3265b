"""How long a checkout may take, and what its error tells."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from dbcore.errors import DbConnectionError, PoolError, PoolTimeout
from dbcore.testing import Gate, Script, fails, hangs, scripted_pool, settled, slow, virtual, waits


def now() -> float:
    return asyncio.get_running_loop().time()


def down() -> DbConnectionError:
    return DbConnectionError("server is down", retryable=True)


@virtual
async def test_a_checkout_fails_when_its_time_is_up_and_not_before() -> None:
    """Laws: D1."""
    async with scripted_pool(max_size=1, checkout_timeout=7) as pool:
        _, release = await pool.checkout()
        with pytest.raises(PoolTimeout):
            await pool.checkout()
        assert now() == 7
        assert pool.gauges == (0, 1, 0, 0, 0, 0)
        release()


@virtual
async def test_the_timeout_of_a_checkout_overrides_that_of_the_pool() -> None:
    """Laws: D2."""
    async with scripted_pool(max_size=1, checkout_timeout=7) as pool:
        _, release = await pool.checkout()
        with pytest.raises(PoolTimeout):
            await pool.checkout(70)
        assert now() == 70
        release()


@pytest.mark.parametrize("timeout", [0.0, -1.0])
@virtual
async def test_no_time_at_all_fails_without_waiting_and_without_connecting(timeout: float) -> None:
    """Laws: D3."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        with pytest.raises(PoolTimeout):
            await pool.checkout(timeout)
        assert now() == 0
        assert not script.of("connect")
        assert pool.stats().timeouts == 1


@virtual
async def test_no_time_at_all_is_enough_for_an_idle_connection() -> None:
    """Laws: D3."""
    async with scripted_pool() as pool:
        _, release = await pool.checkout(0)
        release()


@virtual
async def test_a_timeout_of_a_fraction_of_a_second_is_kept() -> None:
    """Laws: D9."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        with pytest.raises(PoolTimeout, match=r"within 0\.025 s"):
            await pool.checkout(0.025)
        assert now() == pytest.approx(0.025)
        release()


@virtual
async def test_the_time_covers_waiting_checking_and_connecting_together() -> None:
    """Three seconds in line, two of a ping that fails, the rest of a connect that hangs.

    Laws: D4, D5.
    """
    script = Script()
    async with scripted_pool(script, max_size=1, ping_after=1, reset_timeout=2, connect_timeout=100) as pool:
        await asyncio.sleep(10)
        _, release = await pool.checkout()
        script.ping.always(hangs())
        script.connect.always(hangs())
        asyncio.get_running_loop().call_later(3, release)
        script.is_clean.always(fails(RuntimeError("no telling")))
        script.reset.always(slow(2, fails(down())))
        began = now()
        with pytest.raises(PoolTimeout, match="within 8 s"):
            await pool.checkout(8)
        assert now() - began == 8
        assert script.of("connect")[-1].outcome == "running"


@virtual
async def test_the_error_names_pool_numbers_holders_and_a_cure() -> None:
    """Laws: D10, L9."""
    async with scripted_pool(name="orders", max_size=2) as pool:

        async def hold() -> None:
            connection, release = await pool.checkout()
            connection.in_transaction = True
            await asyncio.sleep(60)
            release()

        tasks = [asyncio.create_task(hold(), name=f"worker {number}") for number in range(2)]
        await asyncio.sleep(5)
        with pytest.raises(PoolTimeout) as caught:
            await pool.checkout(5)
        error = caught.value
        assert error.reason == "exhausted"
        assert error.stats is not None
        assert (error.stats.in_use, error.stats.max_size) == (2, 2)
        assert sorted(holder.task for holder in error.holders) == ["worker 0", "worker 1"]
        assert all(holder.held_for == 10 and holder.in_transaction for holder in error.holders)
        assert all("test_timeouts.py" in holder.site and "hold" in holder.site for holder in error.holders)
        for word in ("'orders'", "5 s", "2 in use", "worker 0", "test_timeouts.py", "pool.max_size"):
            assert word in str(error)
        await asyncio.gather(*tasks)


@virtual
async def test_the_error_is_one_of_the_pool_and_a_timeout_and_pickles() -> None:
    """Laws: D11."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        with pytest.raises(PoolTimeout) as caught:
            await pool.checkout(1)
        assert isinstance(caught.value, PoolError)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.retryable
        twin = pickle.loads(pickle.dumps(caught.value))
        assert (twin.reason, twin.stats, twin.holders, str(twin)) == (
            caught.value.reason,
            caught.value.stats,
            caught.value.holders,
            str(caught.value),
        )
        release()


@virtual
async def test_the_last_connect_error_is_the_cause() -> None:
    """Laws: D6, D7."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        script.outage = down()
        with pytest.raises(PoolTimeout, match="server is down") as caught:
            await pool.checkout(3)
        assert now() == 3
        assert caught.value.reason == "connect_failing"
        assert caught.value.__cause__ is script.outage


@virtual
async def test_a_connect_under_way_is_the_reason() -> None:
    """Laws: D6."""
    script = Script()
    script.connect.always(slow(60))
    async with scripted_pool(script, min_size=0, connect_timeout=100) as pool:
        with pytest.raises(PoolTimeout, match="under way") as caught:
            await pool.checkout(3)
        assert caught.value.reason == "connecting"


@virtual
async def test_a_connect_goes_on_when_the_caller_that_began_it_timed_out() -> None:
    """Laws: A9, A10."""
    script, gate = Script(), Gate()
    script.connect.then(waits(gate))
    async with scripted_pool(script, min_size=0, max_size=1) as pool:
        with pytest.raises(PoolTimeout):
            await pool.checkout(1)
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        gate.open()
        connection, release = await waiter
        assert connection.id == 1
        assert len(script.of("connect")) == 1
        release()


@virtual
async def test_the_connect_timeout_is_the_connects_own() -> None:
    """Laws: A10."""
    script = Script()
    script.connect.then(hangs())
    async with scripted_pool(script, min_size=0, connect_timeout=10) as pool:
        with pytest.raises(PoolTimeout):
            await pool.checkout(1)
        await asyncio.sleep(20)
        call = script.of("connect")[0]
        assert (call.began, call.ended, call.outcome) == (0, 10, "cancelled")


@virtual
async def test_timeouts_and_the_time_they_took_are_counted() -> None:
    """Laws: D8."""
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()
        for _ in range(3):
            with pytest.raises(PoolTimeout):
                await pool.checkout(2)
        task = asyncio.ensure_future(pool.checkout(2))
        await asyncio.sleep(1)
        task.cancel()
        await settled()
        stats = pool.stats()
        assert (stats.timeouts, stats.cancelled, stats.waited, stats.wait_seconds) == (3, 1, 4, 7.0)
        release()


@virtual
async def test_waiters_with_different_times_fail_each_at_its_own() -> None:
    """Laws: D1."""
    ends: list[tuple[int, float]] = []
    async with scripted_pool(max_size=1) as pool:
        _, release = await pool.checkout()

        async def wait(seconds: int) -> None:
            with pytest.raises(PoolTimeout):
                await pool.checkout(seconds)
            ends.append((seconds, now()))

        await asyncio.gather(*(wait(seconds) for seconds in (5, 1, 3)))
        assert ends == [(1, 1.0), (3, 3.0), (5, 5.0)]
        release()


@virtual
async def test_a_connection_that_comes_at_the_very_moment_of_the_timeout_is_not_lost() -> None:
    """Both timers are due in one turn of the loop; whoever comes first, the books balance.

    Laws: D1, C5.
    """
    async with scripted_pool(max_size=1) as pool:
        for release_first in (True, False):
            _, release = await pool.checkout()
            loop = asyncio.get_running_loop()
            if release_first:
                loop.call_at(now() + 1, release)
            waiter = asyncio.ensure_future(pool.checkout(1))
            await settled()
            if not release_first:
                loop.call_at(now() + 1, release)
            outcome = (await asyncio.gather(waiter, return_exceptions=True))[0]
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, PoolTimeout)
            else:
                outcome[1]()
            await settled()
            assert pool.gauges == (1, 0, 0, 0, 0, 0)
