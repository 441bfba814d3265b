"""Doubt about idle connections: pings, local state, and suspicion after one was found dead."""

from __future__ import annotations

import asyncio
import itertools
import logging

import pytest

from dbcore.config import PoolSettings
from dbcore.engine import start_pool
from dbcore.errors import DbConnectionError, PoolTimeout
from dbcore.events import ConnectionPinged, Event
from dbcore.testing import Script, fails, hangs, says_no, scripted_pool, settled, slow, virtual


def now() -> float:
    return asyncio.get_running_loop().time()


def gone() -> DbConnectionError:
    return DbConnectionError("connection lost", retryable=True)


@virtual
async def test_a_connection_idle_for_longer_than_ping_after_is_pinged_before_it_is_handed_out() -> None:
    """Laws: G1, G6."""
    script = Script()
    async with scripted_pool(script, ping_after=1) as pool:
        await asyncio.sleep(2)
        script.ping.then(slow(0.5))
        _, release = await pool.checkout()
        assert now() == 2.5
        assert [call.outcome for call in script.of("ping")] == ["ok"]
        release()


@virtual
async def test_a_connection_used_just_now_is_not_pinged() -> None:
    """Laws: G6."""
    script = Script()
    async with scripted_pool(script, ping_after=1) as pool:
        for _ in range(10):
            _, release = await pool.checkout()
            release()
            await asyncio.sleep(0.9)
        assert not script.of("ping")


@virtual
async def test_with_ping_after_none_nothing_is_pinged_on_checkout() -> None:
    """Laws: G6."""
    script = Script()
    async with scripted_pool(script, ping_after=None) as pool:
        await asyncio.sleep(500)
        _, release = await pool.checkout()
        release()
        assert not script.of("ping")


@virtual
async def test_a_failing_ping_ends_in_another_connection_and_not_in_an_error() -> None:
    """Laws: G1, G2, F4."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(5)
        script.restart()
        connection, release = await pool.checkout()
        assert connection.id == 2
        assert script.connections[0].state == "aborted"
        assert pool.stats().lost == 1
        release()


@virtual
async def test_a_ping_that_hangs_costs_its_own_limit_and_then_another_connection_is_tried() -> None:
    """Laws: G9, G2."""
    script = Script()
    async with scripted_pool(script, max_size=1, reset_timeout=3, checkout_timeout=60) as pool:
        await asyncio.sleep(5)
        script.ping.then(hangs())
        connection, release = await pool.checkout()
        assert now() == 8
        assert connection.id == 2
        release()


@pytest.mark.parametrize("error", [ValueError("bug"), TimeoutError(), gone(), asyncio.InvalidStateError()])
@virtual
async def test_a_ping_that_raises_anything_at_all_frees_the_slot(error: Exception) -> None:
    """Laws: F13."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(5)
        script.ping.then(fails(error))
        connection, release = await pool.checkout(1)
        assert connection.id == 2
        release()
        await settled()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_of_a_failing_ping_and_the_clean_up_after_it_the_ping_is_told_first(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Laws: D7."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(5)
        script.ping.then(fails(gone()))
        script.abort.then(fails(OSError("no abort either")))
        with caplog.at_level(logging.INFO, "dbcore.pool"):
            (await pool.checkout())[1]()
        told = [record.getMessage() for record in caplog.records]
        assert "connection lost" in told[0]
        assert "abort" in told[1]


@virtual
async def test_a_fatal_exception_of_a_ping_is_not_kept_quiet_and_frees_the_slot() -> None:
    """Laws: G12."""

    class Fatal(BaseException):
        pass

    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(5)
        script.ping.then(fails(Fatal()))
        connection, release = await pool.checkout(1)
        assert connection.id == 2
        release()


@virtual
async def test_a_ping_that_leaves_a_transaction_open_is_followed_by_a_reset() -> None:
    """Laws: G4."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(5)
        script.is_clean.then(says_no())
        connection, release = await pool.checkout()
        assert connection.id == 1
        assert [call.hook for call in script.of("ping", "reset")] == ["ping", "reset"]
        release()


@virtual
async def test_a_connection_whose_local_state_gives_doubt_is_pinged_at_once() -> None:
    """Laws: G1."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(0.5)
        script.is_usable.then(says_no())
        connection, release = await pool.checkout()
        assert connection.id == 1
        assert len(script.of("ping")) == 1
        release()


@virtual
async def test_a_connection_that_was_in_use_a_moment_ago_is_not_looked_at_again() -> None:
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        for seconds, looks in ((0.0005, 0), (0.0005, 0), (0.002, 1), (0.0005, 1)):
            await asyncio.sleep(seconds)
            (await pool.checkout())[1]()
            assert len(script.of("is_usable")) == looks


@virtual
async def test_a_look_that_raises_loses_no_connection_and_is_a_doubt() -> None:
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        await asyncio.sleep(0.5)
        script.is_usable.then(fails(RuntimeError("no telling")))
        for _ in range(2):
            _, release = await pool.checkout(1)
            release()
        assert len(script.of("ping")) == 1
        pool.balance()


@virtual
async def test_without_a_ping_local_state_decides() -> None:
    """Laws: G1, F1."""
    script = Script()
    made = await start_pool(script.hooks(ping=False), PoolSettings(max_size=2), name="test")
    pool = script.watch(made)
    await asyncio.sleep(0.5)
    script.connections[0].noticed = True
    connection, release = await pool.checkout(1)
    assert connection.id == 2
    assert script.connections[0].gone
    release()
    await asyncio.sleep(50)
    connection, release = await pool.checkout(1)
    assert connection.id == 2
    release()
    await pool.stop()
    script.check(open=0, max_size=2)


@virtual
async def test_without_a_ping_a_dead_connection_costs_its_user_one_error_and_the_next_gets_a_good_one() -> None:
    """Laws: F3."""
    script = Script()
    made = await start_pool(script.hooks(ping=False), PoolSettings(max_size=1), name="test")
    pool = script.watch(made)
    script.restart()
    connection, release = await pool.checkout(1)
    with pytest.raises(DbConnectionError):
        await script.run_query(connection)
    release()
    connection, release = await pool.checkout(1)
    assert connection.id == 2
    await script.run_query(connection)
    release()
    await pool.stop()
    script.check(open=0, max_size=1)


@virtual
async def test_one_dead_connection_puts_every_idle_one_under_suspicion() -> None:
    """They were used just now and would have been handed out without a ping.

    Laws: F9.
    """
    script = Script()
    async with scripted_pool(script, min_size=4, max_size=4, ping_after=60) as pool:
        connection, release = await pool.checkout()
        script.restart()
        connection.noticed = True
        release()
        await settled()
        for _ in range(4):
            taken, release = await pool.checkout(1)
            assert not taken.broken
            release()
        assert pool.stats().lost == 4


@virtual
async def test_a_connection_that_is_of_no_more_use_after_its_holder_puts_the_others_under_suspicion() -> None:
    """As one whose server has become read-only, where the pool wants one that writes: its reset fails.

    Laws: F9, F10.
    """
    script = Script()
    async with scripted_pool(script, min_size=3, max_size=3, ping_after=None) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        script.reset.then(fails(gone()))
        release()
        await settled()
        assert connection.gone
        assert {call.connection for call in script.of("ping")} == {one.id for one in script.connections[:3]} - {
            connection.id
        }


@virtual
async def test_a_suspect_that_answers_is_trusted_again_without_being_asked_for() -> None:
    """Laws: F9."""
    script = Script()
    async with scripted_pool(script, min_size=4, max_size=4, ping_after=60) as pool:
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        await settled()
        assert len(script.of("ping")) == 3
        for _ in range(4):
            _, release = await pool.checkout()
            release()
        assert len(script.of("ping")) == 3


@virtual
async def test_a_connection_in_use_when_another_died_is_proven_when_it_comes_back() -> None:
    """Laws: F9."""
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=2, ping_after=60) as pool:
        first, release_first = await pool.checkout()
        _, release_second = await pool.checkout()
        first.broken = first.noticed = True
        release_first()
        await settled()
        pings = len(script.of("ping"))
        release_second()
        await settled()
        assert len(script.of("ping")) == pings + 1
        assert pool.gauges[0] == 2


@virtual
async def test_a_connection_made_after_the_death_is_not_suspected() -> None:
    """Laws: F9."""
    script = Script()
    async with scripted_pool(script, max_size=1, ping_after=60) as pool:
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        _, release = await pool.checkout(1)
        release()
        (await pool.checkout())[1]()
        assert not script.of("ping")


@virtual
async def test_many_dead_idle_connections_cost_one_connect_time() -> None:
    """Ten dead ones whose pings take a second each to fail; a new connect takes two.

    Laws: F5, F6, G3.
    """
    script = Script()
    async with scripted_pool(script, min_size=10, max_size=10) as pool:
        await asyncio.sleep(5)
        script.restart()
        script.ping.always(slow(1))
        script.connect.always(slow(2))
        began = now()
        connection, release = await pool.checkout(60)
        assert now() - began <= 1 + 2
        assert connection.id > 10
        release()


@virtual
async def test_after_a_restart_the_pool_is_whole_again_without_help_and_without_a_stampede() -> None:
    """Laws: F6, N9."""
    script = Script()
    async with scripted_pool(script, min_size=10, max_size=10) as pool:
        await asyncio.sleep(5)
        script.restart()
        script.connect.always(slow(1))
        _, release = await pool.checkout(60)
        release()
        await asyncio.sleep(60)
        assert pool.gauges == (10, 0, 0, 0, 0, 0)
        assert pool.stats().lost == 10
        assert not any(connection.broken for connection in script.alive)


@virtual
async def test_idle_connections_are_pinged_to_keep_them_alive() -> None:
    """The server cuts what is silent for a minute; every half a minute somebody speaks.

    Laws: G7.
    """
    script = Script()
    async with scripted_pool(script, min_size=3, keepalive=30, max_lifetime=None) as pool:
        await asyncio.sleep(300)
        pings = script.of("ping")
        for number in (1, 2, 3):
            times = [0.0, *(call.began for call in pings if call.connection == number)]
            assert all(later - earlier <= 31 for earlier, later in itertools.pairwise(times))
            assert times[-1] >= 269
        assert len(script.connections) == 3
        assert pool.gauges == (3, 0, 0, 0, 0, 0)


@virtual
async def test_a_dead_connection_found_by_the_keep_alive_is_replaced() -> None:
    """Laws: G5, G7, I10."""
    script = Script()
    async with scripted_pool(script, min_size=3, keepalive=30) as pool:
        await asyncio.sleep(1)
        script.restart()
        await asyncio.sleep(35)
        assert not any(connection.broken for connection in script.alive)
        assert pool.gauges == (3, 0, 0, 0, 0, 0)


@virtual
async def test_a_ping_of_the_keep_alive_does_not_hold_up_a_checkout_that_can_be_served_otherwise() -> None:
    """Laws: G9, I13."""
    script = Script()
    async with scripted_pool(script, min_size=1, max_size=2, keepalive=30, ping_after=None) as pool:
        script.ping.always(slow(4))
        await asyncio.sleep(31)
        assert pool.gauges[3] == 1
        began = now()
        _, release = await pool.checkout()
        assert now() - began <= 4
        release()


@virtual
async def test_a_connection_in_use_is_not_pinged() -> None:
    """Laws: G7, I6."""
    script = Script()
    async with scripted_pool(script, keepalive=30) as pool:
        _, release = await pool.checkout()
        await asyncio.sleep(300)
        assert not script.of("ping")
        release()


@virtual
async def test_an_is_usable_that_raises_costs_no_slot_without_a_ping_either(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: F13."""
    script = Script()
    made = await start_pool(script.hooks(ping=False), PoolSettings(max_size=1), name="test")
    pool = script.watch(made)
    await asyncio.sleep(0.5)
    script.is_usable.always(fails(RuntimeError("no telling")))
    for number in (2, 3):
        connection, release = await pool.checkout(1)
        assert connection.id == number
        release()
        await asyncio.sleep(0.5)
    await pool.stop()
    script.check(open=0, max_size=1)
    assert "is_usable raised" in caplog.text


@virtual
async def test_a_ping_is_announced_with_its_outcome() -> None:
    """Laws: L2, L10."""
    events: list[Event] = []
    script = Script()
    async with scripted_pool(script, observe=events.append, min_size=2, max_size=2, ping_after=1) as pool:
        await asyncio.sleep(5)
        script.ping.then(fails(ConnectionError("gone")))
        (await pool.checkout())[1]()
        await settled()
    pings = [event for event in events if isinstance(event, ConnectionPinged)]
    assert [type(event.error) for event in pings[:2]] == [ConnectionError, type(None)]
    assert len(pings) == pool.stats().pings


@virtual
async def test_an_is_clean_that_raises_after_a_reset_or_a_ping_costs_no_slot(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: F13, O8."""
    script = Script()
    async with scripted_pool(script, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        script.is_clean.then(says_no(), fails(RuntimeError("no telling")))
        release()
        (await pool.checkout(5))[1]()
        await asyncio.sleep(5)
        script.is_clean.then(fails(RuntimeError("no telling")))
        (await pool.checkout(5))[1]()
        assert [call.connection for call in script.of("close")] == [1]  # no reset helped, and it said goodbye
        assert len(script.of("connect")) == 2
    assert "is_clean raised" in caplog.text


@virtual
async def test_an_is_clean_that_raises_after_a_connect_has_the_connection_reset() -> None:
    """Laws: F13, E6."""
    script = Script()
    script.is_clean.then(fails(RuntimeError("no telling")))
    async with scripted_pool(script, max_size=1, startup="lazy") as pool:
        (await pool.checkout(5))[1]()
        assert [call.hook for call in script.of("connect", "reset")] == ["connect", "reset"]


@virtual
async def test_an_in_transaction_that_raises_keeps_nobody_waiting_and_no_stop_from_ending() -> None:
    """Laws: D1, F13, J4."""
    script = Script()
    script.in_transaction.always(fails(RuntimeError("no telling")))
    async with scripted_pool(script, max_size=1, stop_timeout=1, leak_warning=1) as pool:
        _, release = await pool.scoped_checkout()
        waiter = asyncio.ensure_future(pool.checkout(5))
        with pytest.raises(PoolTimeout):
            await waiter
        assert [holder.in_transaction for holder in pool.holders()] == [False]
        await pool.stop()
        release()


@virtual
async def test_a_slow_reset_keeps_nobody_from_the_idle_connections_beside_it() -> None:
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=2, ping_after=1) as pool:
        await asyncio.sleep(2)
        connection, release = await pool.checkout()
        await asyncio.sleep(2)
        connection.dirty = True
        script.reset.then(slow(4))
        release()
        began = now()
        (await pool.checkout())[1]()
        assert now() == began
