"""What happens to a connection that comes back unclean."""

from __future__ import annotations

import asyncio

import pytest

from dbcore.errors import DbConnectionError, PoolTimeout
from dbcore.testing import Gate, Script, fails, hangs, says_no, scripted_pool, settled, slow, virtual, waits


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("failed", [False, True])
@virtual
async def test_an_open_transaction_is_rolled_back_and_the_connection_used_again(failed: bool) -> None:
    """Laws: H1, H2, H5."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.in_transaction, connection.failed = True, failed
        release()
        again, release = await pool.checkout()
        assert again is connection
        assert not again.in_transaction
        assert len(script.of("reset")) == 1
        assert pool.stats().resets == 1
        release()


@virtual
async def test_a_reset_takes_place_in_the_background_and_nobody_gets_the_connection_before_its_end() -> None:
    """Laws: H11."""
    script, gate = Script(), Gate()
    script.reset.then(waits(gate))
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        assert pool.gauges == (0, 0, 0, 1, 0, 0)
        waiter = asyncio.ensure_future(pool.checkout())
        await asyncio.sleep(1)
        assert not waiter.done()
        gate.open()
        taken, release = await waiter
        assert taken is connection
        release()


@virtual
async def test_a_connection_that_did_nothing_is_not_reset() -> None:
    """Laws: H8."""
    script = Script()
    async with scripted_pool(script) as pool:
        for _ in range(5):
            (await pool.checkout())[1]()
        assert not script.of("reset")
        assert pool.stats().resets == 0


@virtual
async def test_a_reset_runs_once_per_release_and_never_before_the_first_use() -> None:
    """Laws: H5."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        for number in range(4):
            connection, release = await pool.checkout()
            assert len(script.of("reset")) == number
            connection.dirty = True
            release()
            await settled()


@virtual
async def test_a_connection_whose_reset_fails_is_dropped_and_replaced() -> None:
    """Laws: H4, H6, F1."""
    script = Script()
    script.reset.then(fails(DbConnectionError("lost")))
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        waiter = asyncio.ensure_future(pool.checkout(5))
        await settled()
        release()
        other, release = await waiter
        assert other is not connection
        assert connection.state == "aborted"
        assert now() == 0
        release()


@virtual
async def test_a_connection_that_is_not_clean_after_its_reset_is_dropped() -> None:
    """Laws: H6, O8."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        script.is_clean.then(says_no(), says_no())
        release()
        other, release = await pool.checkout(5)
        assert other is not connection
        assert connection.gone
        release()


@virtual
async def test_a_reset_that_hangs_is_cut_by_its_limit_and_the_slot_is_free() -> None:
    """Laws: E12, G10."""
    script = Script()
    script.reset.then(hangs())
    async with scripted_pool(script, max_size=1, reset_timeout=3) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        other, release = await pool.checkout(10)
        assert now() == 3
        assert other is not connection
        assert connection.state == "aborted"
        release()


@virtual
async def test_a_reset_that_takes_its_time_over_a_cancellation_is_waited_for_and_no_longer() -> None:
    """Laws: E12."""
    script = Script()
    script.reset.then(hangs(after_cancel=1))
    async with scripted_pool(script, max_size=1, reset_timeout=3) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        _, release = await pool.checkout(10)
        assert now() == 4
        release()


@virtual
async def test_waiters_are_served_in_order_through_resets() -> None:
    """Laws: C1, H11."""
    script = Script()
    script.reset.always(slow(1))
    served: list[int] = []

    async def use(number: int) -> None:
        connection, release = await pool.checkout()
        served.append(number)
        connection.dirty = True
        release()

    async with scripted_pool(script, max_size=2) as pool:
        await asyncio.gather(*(use(number) for number in range(10)))
        assert served == list(range(10))


@virtual
async def test_a_reset_counts_against_max_size() -> None:
    """Laws: B1, B11."""
    script = Script()
    script.reset.always(slow(2))
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        with pytest.raises(PoolTimeout):
            await pool.checkout(1)
        assert script.open == 1


@virtual
async def test_a_reset_and_not_the_holder_decides_about_idle_time() -> None:
    """A connection that was just reset is as good as pinged.

    Laws: I5, G6.
    """
    script = Script()
    script.reset.always(slow(3))
    async with scripted_pool(script, max_size=1, ping_after=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        await asyncio.sleep(3.5)
        (await pool.checkout())[1]()
        assert not script.of("ping")


@virtual
async def test_a_statement_left_running_is_ended_by_the_reset_before_anybody_else_gets_the_connection() -> None:
    """Laws: H3, E7."""
    script = Script()
    script.query.then(hangs())
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        left = asyncio.ensure_future(script.run_query(connection))
        await settled()
        release()
        again, release = await pool.checkout(1)
        assert again is connection
        with pytest.raises(DbConnectionError, match="interrupted"):
            await left
        assert len(script.of("reset")) == 1
        release()


@virtual
async def test_a_fatal_exception_of_a_reset_frees_the_slot() -> None:
    """Laws: G12, F13."""

    class Fatal(BaseException):
        pass

    script = Script()
    script.reset.then(fails(Fatal()))
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        other, release = await pool.checkout(1)
        assert other is not connection
        release()


@virtual
async def test_what_connect_leaves_behind_is_reset_before_the_first_use() -> None:
    """Laws: A12."""
    script = Script()
    script.is_clean.then(says_no())
    async with scripted_pool(script, max_size=1) as pool:
        _, release = await pool.checkout()
        assert [call.outcome for call in script.of("reset")] == ["ok"]
        release()
