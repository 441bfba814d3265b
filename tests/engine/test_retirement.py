"""When a connection is taken out for good: age, idleness, drain; and how the pool makes up for it."""

from __future__ import annotations

import asyncio

import pytest

from dbcore.errors import DbConnectionError, PoolClosed
from dbcore.testing import FakeConnection, Script, fails, hangs, scripted_pool, settled, slow, virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def closed_at(script: Script, connection: FakeConnection) -> float:
    return next(call.began for call in script.of("close") if call.connection == connection.id)


@virtual
async def test_an_idle_connection_is_replaced_when_its_time_has_come() -> None:
    """Laws: G5, I1, I12."""
    script = Script()
    async with scripted_pool(script, max_lifetime=100) as pool:
        await asyncio.sleep(101)
        assert script.connections[0].state == "closed"
        assert 90 <= closed_at(script, script.connections[0]) <= 101
        assert pool.gauges == (1, 0, 0, 0, 0, 0)
        assert pool.stats().expired == 1


@virtual
async def test_a_connection_in_use_is_not_taken_from_its_holder_and_is_replaced_on_release() -> None:
    """Laws: I1, I2."""
    script = Script()
    async with scripted_pool(script, max_lifetime=100) as pool:
        connection, release = await pool.checkout()
        await asyncio.sleep(1000)
        assert not connection.gone
        release()
        await settled()
        assert connection.state == "closed"
        other, release = await pool.checkout()
        assert other is not connection
        release()


@virtual
async def test_an_unclean_connection_past_its_time_is_closed_too() -> None:
    """Laws: I2."""
    script = Script()
    async with scripted_pool(script, max_size=1, max_lifetime=100) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        await asyncio.sleep(1000)
        release()
        await settled()
        assert connection.gone


@virtual
async def test_a_connection_released_before_its_time_is_retired_when_it_has_come() -> None:
    """Nothing but the lifetime sets the keeper's timer here. Laws: I1."""
    script = Script()
    async with scripted_pool(script, max_lifetime=100, max_idle=None, keepalive=None, leak_warning=None) as pool:
        _, release = await pool.checkout()
        await asyncio.sleep(91)
        release()
        await asyncio.sleep(10)
        assert closed_at(script, script.connections[0]) <= 101


@virtual
async def test_lifetimes_are_drawn_once_for_each_connection_within_their_bounds() -> None:
    """Laws: I3, I4."""
    script = Script()
    async with scripted_pool(script, min_size=100, max_size=200, max_lifetime=100, max_idle=None):
        await asyncio.sleep(101)
        ends = [closed_at(script, connection) for connection in script.connections[:100]]
        assert all(90 <= end <= 100.001 for end in ends)
        assert len(set(ends)) > 50
        assert max(ends) - min(ends) > 5


@virtual
async def test_without_a_lifetime_connections_stay() -> None:
    """Laws: I1."""
    script = Script()
    async with scripted_pool(script, max_lifetime=None):
        await asyncio.sleep(90_000)
        assert script.connections[0].state == "open"


@virtual
async def test_idle_connections_above_min_size_are_closed_and_no_others() -> None:
    """Laws: I8, I9."""
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=5, max_idle=60) as pool:
        for _, release in [await pool.checkout() for _ in range(5)]:
            release()
        await asyncio.sleep(59)
        assert pool.stats().idle == 5
        await asyncio.sleep(2)
        assert pool.stats().idle == 2
        assert pool.stats().shrunk == 3
        await asyncio.sleep(1000)
        assert pool.stats().idle == 2


@virtual
async def test_idle_time_counts_from_the_release() -> None:
    """Laws: I5, I6."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_idle=60) as pool:
        connection, release = await pool.checkout()
        await asyncio.sleep(500)
        release()
        await asyncio.sleep(59)
        assert not connection.gone
        await asyncio.sleep(2)
        assert connection.state == "closed"


@virtual
async def test_a_connection_that_nobody_ever_used_obeys_the_idle_limit() -> None:
    """Laws: I7."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_idle=60) as pool:
        script.connect.then(slow(5))
        with pytest.raises(TimeoutError):
            await pool.checkout(1)
        await asyncio.sleep(5)
        assert pool.stats().idle == 1
        await asyncio.sleep(60)
        assert pool.stats().size == 0


@virtual
async def test_one_that_is_used_now_and_then_stays_while_those_behind_it_go() -> None:
    """Laws: I8, C11."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_size=3, max_idle=60) as pool:
        for _, release in [await pool.checkout() for _ in range(3)]:
            release()
        for _ in range(20):
            await asyncio.sleep(10)
            (await pool.checkout())[1]()
        assert pool.stats().idle == 1
        assert pool.stats().shrunk == 2


@virtual
async def test_below_min_size_the_pool_refills_by_itself() -> None:
    """Laws: I10."""
    script = Script()
    async with scripted_pool(script, min_size=3) as pool:
        taken = [await pool.checkout() for _ in range(3)]
        for connection, release in taken:
            connection.broken = connection.noticed = True
            release()
        await settled()
        assert pool.gauges == (3, 0, 0, 0, 0, 0)


@virtual
async def test_a_refill_that_fails_is_tried_again_until_it_succeeds() -> None:
    """Laws: I10, I17, N5."""
    script = Script()
    async with scripted_pool(script, min_size=2) as pool:
        script.outage = DbConnectionError("down", retryable=True)
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        await asyncio.sleep(300)
        script.outage = None
        await asyncio.sleep(30)
        assert pool.gauges == (2, 0, 0, 0, 0, 0)


@virtual
async def test_closing_an_idle_connection_does_not_hold_up_a_checkout() -> None:
    """Laws: I13, C17."""
    script = Script()
    script.close.always(hangs())
    async with scripted_pool(script, min_size=1, max_size=3, max_idle=60, ping_after=None) as pool:
        for _, release in [await pool.checkout() for _ in range(2)]:
            release()
        await asyncio.sleep(61)
        assert pool.gauges == (1, 0, 0, 0, 1, 0)
        before = now()
        _, release = await pool.checkout()
        assert now() == before
        release()


@virtual
async def test_a_connection_being_closed_counts_against_max_size_until_it_is() -> None:
    """Laws: B11, B12."""
    script = Script()
    async with scripted_pool(script, max_size=1, max_lifetime=10) as pool:
        script.close.then(slow(3))
        _, release = await pool.checkout()
        await asyncio.sleep(20)
        release()
        began = now()
        assert pool.gauges == (0, 0, 0, 0, 1, 0)
        _, release = await pool.checkout()
        assert now() - began == 3
        assert script.most_open == 1
        release()


@virtual
async def test_drain_replaces_what_is_idle_now_and_what_is_in_use_when_it_comes_back() -> None:
    """Laws: J12."""
    script = Script()
    async with scripted_pool(script, min_size=3, max_size=3) as pool:
        held, release = await pool.checkout()
        old = list(script.connections)
        await pool.drain()
        assert not held.gone
        assert [connection.state for connection in old if connection is not held] == ["closed", "closed"]
        release()
        await settled()
        assert held.state == "closed"
        for _ in range(3):
            connection, release = await pool.checkout()
            assert connection not in old
            release()
        assert pool.stats().drained == 3
        assert pool.stats().idle == 3


@virtual
async def test_drain_catches_a_connection_that_is_being_made_or_reset() -> None:
    """Laws: J12."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_size=2) as pool:
        script.reset.then(slow(2))
        first, release = await pool.checkout()
        first.dirty = True
        release()
        script.connect.then(slow(2))
        waiter = asyncio.ensure_future(pool.checkout(60))
        await settled()
        await pool.drain()
        connection, release = await waiter
        assert first.state == "closed"
        release()
        await settled()
        assert pool.balance().size <= 1 or not connection.gone


@virtual
async def test_the_pool_stays_open_while_and_after_it_drains() -> None:
    """Laws: J12."""
    script = Script()
    async with scripted_pool(script, min_size=1, max_size=2) as pool:
        script.close.always(slow(2))
        draining = asyncio.ensure_future(pool.drain())
        await settled()
        (await pool.checkout(1))[1]()
        await draining
        (await pool.checkout(1))[1]()


@virtual
async def test_a_stopped_pool_cannot_be_drained() -> None:
    """Laws: J1."""
    async with scripted_pool() as pool:
        await pool.stop()
        with pytest.raises(PoolClosed):
            await pool.drain()


@virtual
async def test_one_failure_of_the_keeper_does_not_end_it() -> None:
    """Laws: I17."""
    script = Script()
    async with scripted_pool(script, min_size=1, keepalive=10, max_lifetime=None) as pool:
        script.ping.then(fails(ValueError("bug in the driver")))
        await asyncio.sleep(15)
        assert len(script.of("ping")) == 1
        await asyncio.sleep(100)
        assert len(script.of("ping")) >= 8
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_a_connection_retired_while_others_wait_is_replaced_for_them() -> None:
    """Laws: C12, C15, I1."""
    script = Script()
    async with scripted_pool(script, max_size=2, max_lifetime=10) as pool:
        taken = [await pool.checkout() for _ in range(2)]
        waiting = [asyncio.ensure_future(pool.checkout()) for _ in range(4)]
        await asyncio.sleep(20)
        for _, release in taken:
            release()
        for task in waiting:
            connection, release = await task
            assert connection.id > 2
            release()
