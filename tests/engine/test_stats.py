"""What the pool tells about itself: gauges, counters, holders, leaks, events."""

from __future__ import annotations

import asyncio
import logging
import pickle

import pytest

from dbcore.errors import DbConnectionError, PoolExhausted, PoolTimeout
from dbcore.events import (
    BackgroundError,
    CheckoutFailed,
    CheckoutServed,
    ConnectFailed,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionReset,
    Event,
    LeakSuspected,
    PoolStopped,
)
from dbcore.testing import Script, fails, hangs, passes, scripted_pool, settled, slow, virtual


@virtual
async def test_the_gauges_are_exact_in_every_state() -> None:
    """Laws: L1, L12."""
    script = Script()
    async with scripted_pool(script, min_size=2, max_size=6, stop_timeout=0, reset_timeout=100) as pool:
        assert pool.gauges == (2, 0, 0, 0, 0, 0)
        taken = [await pool.checkout() for _ in range(4)]
        assert pool.gauges == (0, 4, 0, 0, 0, 0)
        taken.pop()[1]()
        assert pool.gauges == (1, 3, 0, 0, 0, 0)
        script.reset.then(hangs())
        connection, release = taken.pop()
        connection.dirty = True
        release()
        assert pool.gauges == (1, 2, 0, 1, 0, 0)
        script.close.then(hangs())
        draining = asyncio.ensure_future(pool.drain())
        await settled()
        assert pool.gauges == (0, 2, 0, 1, 1, 0)
        script.connect.always(hangs())
        waiting = [asyncio.ensure_future(pool.checkout()) for _ in range(3)]
        await settled()
        assert pool.gauges[5] == 3
        stats = pool.balance()
        assert (stats.min_size, stats.max_size) == (2, 6)
        assert stats.connecting >= 1
        for task in (draining, *waiting):
            task.cancel()
        await asyncio.gather(draining, *waiting, return_exceptions=True)


@virtual
async def test_stats_are_plain_frozen_values_that_say_what_is() -> None:
    """Laws: L1."""
    async with scripted_pool() as pool:
        _, release = await pool.checkout()
        stats = pool.stats()
        release()
        assert stats.in_use == 1
        assert pickle.loads(pickle.dumps(stats)) == stats
        text = "1 in use, 0 idle, 0 connecting, 0 resetting, 0 closing: 1 of 10; 0 waiting"
        assert str(stats) == text


@virtual
async def test_checkouts_are_counted_with_the_time_they_waited() -> None:
    """Laws: L2, L6."""
    async with scripted_pool(max_size=1) as pool:
        for _ in range(3):
            (await pool.checkout())[1]()
        _, release = await pool.checkout()
        asyncio.get_running_loop().call_later(5, release)
        (await pool.checkout())[1]()
        stats = pool.stats()
        assert (stats.checkouts, stats.waited, stats.wait_seconds) == (5, 1, 5.0)


@virtual
async def test_connects_are_counted_with_their_time() -> None:
    """Laws: L3."""
    script = Script()
    script.connect.then(slow(2), slow(1, fails(DbConnectionError("down", retryable=True))), slow(3))
    async with scripted_pool(script, min_size=1) as pool:
        taken = await asyncio.gather(pool.checkout(), pool.checkout())
        stats = pool.stats()
        assert (stats.connects, stats.connect_failures, stats.connect_seconds) == (2, 1, 5.0)
        for _, release in taken:
            release()


@virtual
async def test_lost_connections_resets_and_pings_are_counted() -> None:
    """Laws: L2, L3, L7."""
    script = Script()
    async with scripted_pool(script, min_size=1, max_size=1) as pool:
        connection, release = await pool.checkout()
        connection.dirty = True
        release()
        await asyncio.sleep(5)
        (await pool.checkout())[1]()
        await asyncio.sleep(5)
        script.restart()
        (await pool.checkout())[1]()
        stats = pool.stats()
        assert (stats.resets, stats.pings, stats.lost) == (1, 2, 1)


@virtual
async def test_checkouts_that_fail_are_counted_by_what_became_of_them() -> None:
    """Laws: L5, D8."""
    script = Script()
    async with scripted_pool(script, max_size=1, max_waiting=1) as pool:
        _, release = await pool.checkout()
        with pytest.raises(PoolTimeout):
            await pool.checkout(1)
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        with pytest.raises(PoolExhausted):
            await pool.checkout()
        task.cancel()
        await settled()
        stats = pool.stats()
        assert (stats.timeouts, stats.refused, stats.cancelled) == (1, 1, 1)
        release()


@virtual
async def test_a_cancellation_is_counted_while_connecting_and_checking_too() -> None:
    """Laws: L5."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_size=1, connect_timeout=50, reset_timeout=50) as pool:
        for plan in (script.connect, script.ping):
            plan.then(slow(10))
            task = asyncio.ensure_future(pool.checkout())
            await settled()
            task.cancel()
            await asyncio.sleep(20)
        assert pool.stats().cancelled == 2


@virtual
async def test_closures_are_counted_by_reason() -> None:
    """Laws: L7."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_size=4, max_lifetime=1000, max_idle=50) as pool:
        for _, release in [await pool.checkout() for _ in range(2)]:
            release()
        await asyncio.sleep(60)
        assert pool.stats().shrunk == 2
        connection, release = await pool.checkout()
        await asyncio.sleep(1001)
        release()
        await settled()
        assert pool.stats().expired == 1
        (await pool.checkout())[1]()
        await pool.drain()
        assert pool.stats().drained == 1
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        await settled()
        assert pool.stats().lost == 1


@virtual
async def test_holders_are_named_with_task_place_and_age_longest_first() -> None:
    """Laws: L9."""
    async with scripted_pool(max_size=3) as pool:

        async def hold(seconds: float, *, in_transaction: bool) -> None:
            await asyncio.sleep(seconds)
            connection, release = await pool.checkout()
            connection.in_transaction = in_transaction
            await asyncio.sleep(100)
            release()

        tasks = [
            asyncio.create_task(hold(5, in_transaction=False), name="young"),
            asyncio.create_task(hold(1, in_transaction=True), name="old"),
        ]
        await asyncio.sleep(10)
        old, young = pool.holders()
        assert (old.task, old.held_for, old.in_transaction) == ("old", 9.0, True)
        assert (young.task, young.held_for, young.in_transaction) == ("young", 5.0, False)
        assert "test_stats.py" in old.site
        assert old.site.endswith("hold")
        assert "task old for 9.0 s, in a transaction, since " in str(old)
        assert pickle.loads(pickle.dumps(old)) == old
        await asyncio.gather(*tasks)
        assert pool.holders() == ()


@virtual
async def test_a_call_that_is_a_task_by_itself_is_named_for_no_line_of_anybody_made_it() -> None:
    async with scripted_pool(max_size=1) as pool:
        _, release = await asyncio.ensure_future(pool.checkout())
        (holder,) = pool.holders()
        assert holder.site in ("a call of checkout that is a task by itself", "(a task that has ended)")
        release()


@virtual
async def test_a_connection_held_for_too_long_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: L9, F12."""
    events: list[Event] = []
    async with scripted_pool(name="main", leak_warning=30, observe=events.append) as pool:

        async def stuck_here() -> None:
            await asyncio.sleep(1000)

        async def leak() -> None:
            _, release = await pool.checkout()
            await stuck_here()
            release()

        task = asyncio.create_task(leak(), name="leaky")
        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            await asyncio.sleep(29)
            assert not caplog.records
            await asyncio.sleep(900)
        assert len(caplog.records) == 1
        for word in ("pool main", "leak_warning = 30 s", "task leaky", "in leak"):
            assert word in caplog.text
        leaks = [event for event in events if isinstance(event, LeakSuspected)]
        assert [leak.holder.task for leak in leaks] == ["leaky"]
        await task


@virtual
async def test_the_report_of_a_leak_shows_where_the_holder_is_now(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: L9."""
    async with scripted_pool(leak_warning=30) as pool:

        async def stuck_here() -> None:
            await asyncio.sleep(100)

        async def leak() -> None:
            _, release = await pool.checkout()
            await stuck_here()
            release()

        task = asyncio.create_task(leak())
        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            await asyncio.sleep(40)
        assert "in stuck_here" in caplog.text.replace(".<locals>.", "in ")
        await task


@virtual
async def test_the_next_holder_of_a_leaked_connection_is_reported_anew(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: L9."""
    async with scripted_pool(max_size=1, leak_warning=30) as pool:
        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            for number in range(1, 4):
                _, release = await pool.checkout()
                await asyncio.sleep(100)
                release()
                assert len(caplog.records) == number


@virtual
async def test_a_leak_is_reported_at_a_moment_that_floats_cannot_hold(caplog: pytest.LogCaptureFixture) -> None:
    """The sum of the checkout's time and the limit, less the former, may be less than the latter."""
    loop = asyncio.get_running_loop()
    async with scripted_pool(max_size=1, leak_warning=1) as pool:
        while loop.time() + 1 - loop.time() >= 1:
            await asyncio.sleep(0.0137)
        _, release = await pool.checkout()
        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            await asyncio.sleep(2)
        assert len(caplog.records) == 1
        release()


@virtual
async def test_a_connection_that_comes_back_in_time_is_not_reported(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: L9."""
    async with scripted_pool(leak_warning=30) as pool:
        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            for _ in range(10):
                _, release = await pool.checkout()
                await asyncio.sleep(29)
                release()
                await asyncio.sleep(10)
        assert not caplog.records


@virtual
async def test_every_connection_is_announced_when_it_opens_and_when_it_ends() -> None:
    """Laws: L10, L7."""
    script, events = Script(), list[Event]()
    async with scripted_pool(script, min_size=3, max_size=3, stop_timeout=1, observe=events.append) as pool:
        connection, release = await pool.checkout()
        connection.broken = connection.noticed = True
        release()
        await settled()
        await pool.drain()
        await settled()
        _, kept = await pool.checkout()
        await pool.stop()
        kept()
        opened = [event for event in events if isinstance(event, ConnectionOpened)]
        closed = [event for event in events if isinstance(event, ConnectionClosed)]
        assert len(opened) == len(closed) == len(script.connections)
        assert sorted({event.reason for event in closed}) == ["cut off", "drained", "lost", "stopped"]
        assert isinstance(events[-1], PoolStopped)
        assert {event.pool for event in events} == {"test"}


@virtual
async def test_checkouts_resets_and_connects_are_announced_with_their_times() -> None:
    """Laws: D8, L2, L10."""
    script, events = Script(), list[Event]()
    script.connect.then(fails(DbConnectionError("down", retryable=True)), slow(2))
    async with scripted_pool(script, min_size=0, max_size=1, observe=events.append) as pool:
        connection, release = await pool.checkout()
        with pytest.raises(PoolTimeout):
            await pool.checkout(3)
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        task.cancel()
        await settled()
        script.reset.then(slow(1))
        connection.dirty = True
        release()
        await asyncio.sleep(1)
        (await pool.checkout())[1]()
    failed = [event for event in events if isinstance(event, ConnectFailed)]
    assert [(event.permanent, str(event.error)) for event in failed] == [(False, "down")]
    assert 0.05 <= failed[0].retry_in <= 0.1
    served = [event.waited for event in events if isinstance(event, CheckoutServed)]
    assert served == [pytest.approx(2 + failed[0].retry_in), 0]
    refused = [event for event in events if isinstance(event, CheckoutFailed)]
    assert [event.waited for event in refused] == [pytest.approx(3), 0]
    assert [type(event.error) for event in refused] == [PoolTimeout, type(None)]
    assert [event.seconds for event in events if isinstance(event, ConnectionReset)] == [pytest.approx(1)]
    assert [event.seconds for event in events if isinstance(event, ConnectionOpened)] == [pytest.approx(2)]


@virtual
async def test_an_error_that_nobody_waited_for_is_announced() -> None:
    """Laws: L10, F11."""
    script, events = Script(), list[Event]()
    script.close.always(fails(OSError("no goodbye")))
    async with scripted_pool(script, observe=events.append) as pool:
        await pool.drain()
        errors = [event for event in events if isinstance(event, BackgroundError)]
        assert [(event.during, str(event.error)) for event in errors] == [("close", "no goodbye")]


@pytest.mark.parametrize("error", [ValueError("bug in the observer"), asyncio.CancelledError("bug in the observer")])
@virtual
async def test_an_observer_that_raises_does_not_break_the_pool(
    caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Laws: L8."""

    def observe(event: Event) -> None:
        raise error

    script = Script()
    async with scripted_pool(script, max_size=1, observe=observe) as pool:
        connection, release = await pool.checkout()
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        connection.dirty = True
        release()
        (await waiter)[1]()
        await pool.drain()
        (await pool.checkout())[1]()
        pool.balance()
    assert "bug in the observer" in caplog.text


@virtual
async def test_a_log_handler_may_use_the_pool_that_logs() -> None:
    """Nothing is locked and nothing half decided while the pool logs, at whatever level.

    Laws: L11.
    """
    script, seen = Script(), list[str]()

    class Curious(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            taken = pool.try_checkout()
            seen.append(f"{record.getMessage()} {pool.stats()} {pool.holders()}")
            if taken is not None:
                taken[1]()

    down = DbConnectionError("down", retryable=True)
    log, curious = logging.getLogger("dbcore.pool"), Curious()
    async with scripted_pool(script, max_size=2, leak_warning=1) as pool:
        before = log.level
        log.addHandler(curious)
        log.setLevel(logging.DEBUG)
        try:
            script.connect.then(fails(down), fails(down))
            script.reset.then(fails(OSError("no reset either")))
            script.close.then(fails(down))
            script.abort.then(passes(), fails(OSError("no abort either")))
            connection, release = await pool.checkout()
            connection.dirty = True
            waiters = [asyncio.ensure_future(pool.checkout()) for _ in range(3)]
            await asyncio.sleep(5)
            release()
            for waiter in waiters:
                (await waiter)[1]()
            await pool.drain()
            (await pool.checkout())[1]()
        finally:
            log.removeHandler(curious)
            log.setLevel(before)
        pool.balance()
    for what in ("connect failed", "leak_warning", "no reset either", "close failed", "abort"):
        assert any(what in line for line in seen), what


@virtual
async def test_no_message_holds_what_an_error_of_the_database_says_of_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The engine has no secret: what it is given to log is what the driver wrote into its `DbError`.

    Laws: P2.
    """
    script = Script()
    script.connect.then(fails(DbConnectionError("cannot connect", retryable=True)))
    async with scripted_pool(script, min_size=0) as pool:
        with caplog.at_level(logging.DEBUG, "dbcore.pool"):
            (await pool.checkout())[1]()
    assert "cannot connect" in caplog.text
    assert "Traceback" not in caplog.text
