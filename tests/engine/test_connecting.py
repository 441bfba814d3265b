"""Connects that fail: who hears of it, what is tried again, and when."""

from __future__ import annotations

import asyncio
import itertools
import sys

import pytest

from dbcore.errors import ConfigError, DbConnectionError, PoolTimeout
from dbcore.testing import (
    Gate,
    Script,
    Step,
    fails,
    hangs,
    passes,
    says_no,
    scripted_pool,
    settled,
    slow,
    virtual,
    waits,
)


def now() -> float:
    return asyncio.get_running_loop().time()


def down() -> DbConnectionError:
    return DbConnectionError("server is down", retryable=True)


def wrong_password() -> DbConnectionError:
    return DbConnectionError("password authentication failed", sqlstate="28P01")


@virtual
async def test_a_permanent_failure_reaches_the_one_who_asked_in_the_time_of_one_connect() -> None:
    """Laws: A5, A6."""
    script = Script()
    async with scripted_pool(script, min_size=0, checkout_timeout=30) as pool:
        script.connect.always(slow(0.2, fails(wrong_password())))
        with pytest.raises(DbConnectionError, match="password authentication failed") as caught:
            await pool.checkout()
        assert caught.value.sqlstate == "28P01"
        assert now() == pytest.approx(0.2)
        assert len(script.of("connect")) == 1
        assert pool.gauges == (0, 0, 0, 0, 0, 0)


@virtual
async def test_a_permanent_failure_reaches_all_who_wait() -> None:
    """Laws: A6, A7, A8."""
    script = Script()
    script.connect.always(slow(1, fails(wrong_password())))
    async with scripted_pool(script, min_size=0, max_size=3) as pool:
        outcomes = await asyncio.gather(*(pool.checkout() for _ in range(8)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {DbConnectionError}
        assert now() == 1
        await settled()
        assert pool.stats().size == 0


@virtual
async def test_each_waiter_gets_an_error_of_its_own() -> None:
    """One instance raised in several tasks would collect all their tracebacks.

    Laws: A5.
    """
    script = Script()
    script.connect.always(slow(1, fails(wrong_password())))
    async with scripted_pool(script, min_size=0, max_size=1) as pool:
        outcomes = await asyncio.gather(*(pool.checkout() for _ in range(3)), return_exceptions=True)
        assert len({id(outcome) for outcome in outcomes}) == 3


@virtual
async def test_while_a_permanent_failure_is_fresh_newcomers_are_told_at_once() -> None:
    """Laws: A6, N7."""
    script = Script()
    async with scripted_pool(script, min_size=0, backoff_min=5) as pool:
        script.connect.always(fails(wrong_password()))
        with pytest.raises(DbConnectionError):
            await pool.checkout()
        for _ in range(10):
            with pytest.raises(DbConnectionError, match="password"):
                await pool.checkout()
        assert now() == 0
        assert len(script.of("connect")) == 1


@virtual
async def test_after_a_permanent_failure_was_mended_the_pool_is_well_again() -> None:
    """Laws: N5."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        script.connect.then(fails(wrong_password()))
        with pytest.raises(DbConnectionError):
            await pool.checkout()
        await asyncio.sleep(1)
        (await pool.checkout())[1]()


@virtual
async def test_any_other_error_of_a_connect_is_permanent() -> None:
    """Laws: A5, A12, N7."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        script.connect.then(fails(ValueError("not a connection at all")))
        with pytest.raises(DbConnectionError, match="ValueError: not a connection at all"):
            await pool.checkout()
        await asyncio.sleep(1)
        script.connect.then(fails(ConfigError("no such file")))
        with pytest.raises(ConfigError, match="no such file"):
            await pool.checkout()


@virtual
async def test_a_transient_failure_is_tried_again_until_it_succeeds() -> None:
    """Laws: A6, N5."""
    script = Script()
    async with scripted_pool(script, min_size=0) as pool:
        script.connect.then(*(fails(down()) for _ in range(4)))
        connection, release = await pool.checkout()
        assert len(script.of("connect")) == 5
        assert connection.id == 1
        release()


@virtual
async def test_a_transient_failure_fails_each_waiter_at_its_own_time() -> None:
    """Laws: A6, A8, N4."""
    script = Script()
    script.outage = down()
    async with scripted_pool(script, min_size=0, startup="lazy", max_size=3) as pool:
        ends: list[float] = []

        async def wait(seconds: float) -> None:
            with pytest.raises(PoolTimeout) as caught:
                await pool.checkout(seconds)
            assert caught.value.reason == "connect_failing"
            assert isinstance(caught.value.__cause__, DbConnectionError)
            ends.append(now())

        await asyncio.gather(*(wait(seconds) for seconds in (1, 2, 3, 4, 5, 6, 7, 8)))
        assert ends == pytest.approx([1, 2, 3, 4, 5, 6, 7, 8])
        await settled()
        assert pool.gauges == (0, 0, 0, 0, 0, 0)


@virtual
async def test_a_waiter_behind_a_failed_connect_is_served_by_the_next() -> None:
    """Laws: A7, B15."""
    script = Script()
    script.connect.then(fails(down()))
    async with scripted_pool(script, min_size=0, max_size=1) as pool:
        taken = asyncio.ensure_future(pool.checkout())
        waiting = asyncio.ensure_future(pool.checkout())
        (await taken)[1]()
        (await waiting)[1]()
        pool.balance()


@virtual
async def test_pauses_double_up_to_the_limit_and_are_spread() -> None:
    """Laws: G3, N1, N2."""
    script = Script()
    script.outage = down()
    async with scripted_pool(script, startup="try", backoff_min=1, backoff_max=16) as pool:
        await asyncio.sleep(200)
        begun = [call.began for call in script.of("connect")]
        pauses = [later - earlier for earlier, later in itertools.pairwise(begun)]
        for pause, full in zip(pauses, (1, 2, 4, 8, 16, 16, 16, 16), strict=False):
            assert full / 2 <= pause <= full
        assert len(set(pauses)) == len(pauses)
        assert pool.stats().connect_failures == len(begun)


@virtual
async def test_a_success_resets_the_pause() -> None:
    """Laws: N3."""
    script = Script()
    async with scripted_pool(script, min_size=1, backoff_min=1, backoff_max=64) as pool:
        for _ in range(2):
            connection, release = await pool.checkout(1000)
            failures = len(script.of("connect"))
            script.connect.then(*(fails(down()) for _ in range(4)))
            connection.broken = connection.noticed = True
            release()
            await asyncio.sleep(100)
            begun = [call.began for call in script.of("connect")][failures:]
            assert len(begun) == 5
            assert 0.5 <= begun[1] - begun[0] <= 1


@virtual
async def test_a_waiter_with_little_time_is_not_slept_through() -> None:
    """The pause has grown to a minute; a checkout of ten seconds still sees several attempts.

    Laws: N8.
    """
    script = Script()
    script.outage = down()
    async with scripted_pool(script, startup="try", backoff_min=1, backoff_max=64) as pool:
        await asyncio.sleep(300)
        before = len(script.of("connect"))
        waiter = asyncio.ensure_future(pool.checkout(10))
        await asyncio.sleep(3)
        assert len(script.of("connect")) > before
        script.outage = None
        _, release = await waiter
        release()


@virtual
async def test_after_an_outage_one_probe_goes_first_and_its_success_lets_the_others_connect() -> None:
    """Laws: N9, A14."""
    script = Script()
    script.connect.then(*(slow(1, fails(down())) for _ in range(5)))
    async with scripted_pool(script, min_size=0, max_size=5, checkout_timeout=1000, connect_timeout=1000) as pool:
        waiting = [asyncio.ensure_future(pool.checkout()) for _ in range(5)]
        await asyncio.sleep(1)
        assert len(script.of("connect")) == 5
        gate = Gate()
        script.connect.always(waits(gate))
        await asyncio.sleep(50)
        assert len(script.of("connect")) == 6
        gate.open()
        for _, release in await asyncio.gather(*waiting):
            release()
        assert pool.stats().size <= 5


@virtual
async def test_a_probe_that_hangs_is_cut_by_the_connect_timeout_and_followed_by_another() -> None:
    """Laws: N9, F6."""
    script = Script()
    script.connect.then(hangs(), hangs())
    async with scripted_pool(script, min_size=0, max_size=1, connect_timeout=2, checkout_timeout=100) as pool:
        _, release = await pool.checkout()
        assert 4 <= now() <= 5
        assert pool.stats().connect_failures == 2
        release()


@virtual
async def test_a_timeout_of_a_connect_is_named_in_the_error() -> None:
    """Laws: D6."""
    script = Script()
    script.connect.always(hangs())
    async with scripted_pool(script, min_size=0, connect_timeout=2) as pool:
        with pytest.raises(PoolTimeout, match="connect_timeout = 2 s") as caught:
            await pool.checkout(5)
        assert isinstance(caught.value.__cause__, DbConnectionError)


@virtual
async def test_a_restart_of_the_server_is_over_one_connect_time_after_it_is_back() -> None:
    """Laws: F6, N5."""
    script = Script()
    async with scripted_pool(script, min_size=5, max_size=5, ping_after=0) as pool:
        script.restart()
        script.outage = down()
        waiter = asyncio.ensure_future(pool.checkout(60))
        await asyncio.sleep(20)
        script.outage = None
        script.connect.always(slow(1))
        back = now()
        _, release = await waiter
        assert now() - back <= 12 + 1  # a fifth of the sixty seconds at most, and one connect
        release()
        await asyncio.sleep(30)
        assert pool.stats().idle == 5


@virtual
async def test_a_required_start_raises_what_the_connect_failed_with() -> None:
    """Laws: A24."""
    script = Script()
    script.outage = down()
    with pytest.raises(DbConnectionError, match="server is down"):
        async with scripted_pool(script, startup="require"):
            raise AssertionError("it cannot have started")
    script.check(open=0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@virtual
async def test_a_required_start_waits_for_all_of_min_size() -> None:
    """Laws: A24, A25."""
    script = Script()
    script.connect.then(slow(1), slow(5), slow(3))
    async with scripted_pool(script, min_size=3) as pool:
        assert now() == 5
        assert pool.gauges == (3, 0, 0, 0, 0, 0)


@virtual
async def test_a_start_that_only_tries_goes_on_trying() -> None:
    """Laws: A23."""
    script = Script()
    script.outage = down()
    async with scripted_pool(script, startup="try", min_size=2) as pool:
        assert pool.stats().size == 0
        await asyncio.sleep(100)
        script.outage = None
        await asyncio.sleep(10)
        assert pool.gauges == (2, 0, 0, 0, 0, 0)


@virtual
async def test_a_lazy_start_connects_nothing_until_the_first_checkout() -> None:
    """Laws: A23."""
    script = Script()
    async with scripted_pool(script, startup="lazy", min_size=2) as pool:
        await asyncio.sleep(2000)
        assert not script.of("connect")
        (await pool.checkout())[1]()
        await settled()
        assert pool.gauges == (2, 0, 0, 0, 0, 0)


@virtual
async def test_the_first_checkout_after_a_failed_start_and_a_recovery_succeeds() -> None:
    """Laws: A23, N6."""
    script = Script()
    script.outage = down()
    async with scripted_pool(script, startup="try", min_size=0, max_size=2) as pool:
        with pytest.raises(PoolTimeout):
            await pool.checkout(5)
        script.outage = None
        _, release = await pool.checkout(5)
        other = await pool.checkout(5)
        release()
        other[1]()


@virtual
async def test_a_failed_connect_gives_its_slot_back() -> None:
    """Laws: A5, B15."""
    script = Script()
    async with scripted_pool(script, min_size=0, max_size=2) as pool:
        for _ in range(10):
            script.connect.then(fails(wrong_password()))
            with pytest.raises(DbConnectionError):
                await pool.checkout(1)
            pool.balance()
            await asyncio.sleep(20)
        taken = [await pool.checkout(1) for _ in range(2)]
        for _, release in taken:
            release()


@virtual
async def test_an_outage_does_not_disturb_those_who_hold_connections() -> None:
    """Laws: A6, N6."""
    script = Script()
    async with scripted_pool(script, max_size=2) as pool:
        _, release = await pool.checkout()
        script.outage = down()
        waiter = asyncio.ensure_future(pool.checkout(60))
        await asyncio.sleep(5)
        release()
        connection, release = await waiter
        assert connection.id == 1
        release()


@virtual
async def test_a_pause_ends_no_wait_of_one_who_is_served_by_a_release() -> None:
    """Laws: A7, C3."""
    script = Script()
    async with scripted_pool(script, max_size=2, backoff_min=50, backoff_max=50) as pool:
        _, release = await pool.checkout()
        script.connect.always(fails(wrong_password()))
        waiter = asyncio.ensure_future(pool.checkout(60))
        await asyncio.sleep(1)
        release()
        (await waiter)[1]()
        assert now() == 1


@virtual
async def test_short_waits_do_not_hurry_what_a_permanent_failure_has_to_wait_for() -> None:
    """So many logins with a wrong password would lock an account."""
    script = Script()
    script.connect.always(fails(wrong_password()))
    async with scripted_pool(script, startup="lazy", backoff_min=0.1, backoff_max=10) as pool:
        while now() < 60:
            with pytest.raises(DbConnectionError):
                await pool.checkout(0.5)
            await asyncio.sleep(0.05)
    assert len(script.of("connect")) < 20


@virtual
async def test_one_short_wait_hurries_the_probes_no_longer_than_it_lasts() -> None:
    script = Script()
    script.connect.always(fails(down()))
    async with scripted_pool(script, startup="lazy", backoff_min=0.1, backoff_max=10) as pool:
        patient = asyncio.ensure_future(pool.checkout(600))
        await asyncio.sleep(100)
        with pytest.raises(PoolTimeout):
            await pool.checkout(0.5)
        before = len(script.of("connect"))
        await asyncio.sleep(100)
        assert len(script.of("connect")) - before < 30
        patient.cancel()


@virtual
async def test_a_connect_that_is_cancelled_from_within_has_failed() -> None:
    script = Script()
    script.connect.then(fails(asyncio.CancelledError()))
    with pytest.raises(DbConnectionError, match="cancelled from within") as caught:
        async with scripted_pool(script):
            pass
    assert caught.value.retryable


@pytest.mark.parametrize("broken", [says_no(), fails(RuntimeError("no telling"))])
@virtual
async def test_a_new_connection_that_no_reset_makes_clean_counts_as_a_failed_connect(broken: Step) -> None:
    """Laws: N7."""
    script = Script()
    script.is_clean.always(broken)
    with pytest.raises(DbConnectionError, match="not clean after its reset"):
        async with scripted_pool(script, max_size=1):
            pass
    async with scripted_pool(script, max_size=1, startup="try", backoff_min=1) as pool:
        assert now() == 0
        await asyncio.sleep(10)
        assert 3 <= pool.stats().connect_failures <= 6
        script.is_clean.always(passes())
        await asyncio.sleep(60)
        assert pool.stats().idle == 1


@virtual
async def test_a_new_connection_whose_reset_fails_tells_the_start_why() -> None:
    """Laws: N7."""
    script = Script()
    script.is_clean.then(says_no())
    script.reset.then(hangs())
    with pytest.raises(DbConnectionError, match="reset_timeout = 3 s"):
        async with scripted_pool(script, reset_timeout=3):
            pass


@virtual
async def test_an_error_whose_class_cannot_be_copied_reaches_all_who_wait() -> None:
    class LoginFailed(DbConnectionError):
        def __init__(self, user: str, host: str) -> None:
            super().__init__(f"login of {user} at {host} refused")

    script = Script()
    script.connect.always(slow(1, fails(LoginFailed("app", "h"))))
    async with scripted_pool(script, startup="lazy") as pool:
        outcomes = await asyncio.gather(*(pool.checkout(3) for _ in range(3)), return_exceptions=True)
        assert [str(outcome) for outcome in outcomes] == ["login of app at h refused"] * 3
        assert {type(outcome) for outcome in outcomes} == {LoginFailed}
        assert len({id(outcome) for outcome in outcomes}) == 3


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
@virtual
async def test_where_tasks_begin_at_once_a_start_ends_as_well() -> None:
    loop = asyncio.get_running_loop()
    loop.set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009  # absent from 3.11
    async with scripted_pool(min_size=2, max_size=2) as pool:
        assert pool.stats().idle == 2
