"""Wrong loop, forked child, forgotten results, forgotten pools."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import warnings
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from dbcore.config import PoolSettings
from dbcore.engine import start_pool
from dbcore.errors import UsageError
from dbcore.pool import Hold, PoolOps
from dbcore.testing import FakeConnection, Script, Step, VirtualLoop, passes, run, scripted_pool, settled, virtual

Pool = PoolOps[FakeConnection]


def in_loop(function: Callable[..., Any], *args: Any) -> Any:
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(function(*args))
    finally:
        loop.close()


async def open_pool(script: Script, **settings: Any) -> Pool:
    return await start_pool(script.hooks(), PoolSettings(**settings), name="main")


def test_use_from_another_loop_is_refused_and_changes_nothing() -> None:
    """Laws: M3."""
    script = Script()
    home = VirtualLoop()
    try:
        pool = home.run_until_complete(open_pool(script))
        assert pool.drain is not None
        assert pool.stats is not None
        for use in (pool.checkout, pool.drain, pool.stop):
            with pytest.raises(UsageError, match="'main' was started in another event loop"):
                in_loop(use)
        assert pool.stats().idle == 1
        _, release = home.run_until_complete(pool.checkout())
        release()
        home.run_until_complete(pool.stop())
    finally:
        home.close()
    script.check(open=0)


def test_use_without_any_loop_is_refused() -> None:
    """Laws: M3."""
    script = Script()
    home = VirtualLoop()
    try:
        pool = home.run_until_complete(open_pool(script))
        assert pool.lender is not None
        with pytest.raises(UsageError, match="event loop"):
            pool.lender.try_lend(Hold(), 1)
        home.run_until_complete(pool.stop())
    finally:
        home.close()


def test_the_error_says_that_the_loop_is_closed() -> None:
    """Laws: M3, M4."""
    script = Script()
    pool = in_loop(open_pool, script)
    with pytest.raises(UsageError, match="which is closed"):
        in_loop(pool.checkout)
    del pool
    gc.collect()


def test_two_loops_may_have_a_pool_each() -> None:
    """Laws: M3."""

    async def use() -> None:
        async with scripted_pool() as pool:
            (await pool.checkout())[1]()

    run(use)
    run(use)


def test_a_pool_left_behind_by_a_closed_loop_is_ended_without_a_sound() -> None:
    """Laws: M4, M6."""
    script = Script()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pool = in_loop(open_pool, script)
        del pool
        gc.collect()
    assert {connection.state for connection in script.connections} == {"aborted"}
    script.check(open=0)


def test_a_connection_held_across_the_end_of_its_loop_is_ended_too() -> None:
    """Laws: M4, M7."""
    script = Script()

    async def main() -> Any:
        pool = await open_pool(script)
        return await pool.checkout()

    taken = in_loop(main)
    del taken
    gc.collect()
    assert {connection.state for connection in script.connections} == {"aborted"}


@virtual
async def test_a_forgotten_pool_is_collected_and_its_connections_with_it() -> None:
    """Laws: M6."""
    script = Script()
    pool = await open_pool(script, min_size=3, keepalive=10, leak_warning=5)
    released = weakref.ref(pool.checkout.__self__)  # type: ignore[attr-defined]
    await asyncio.sleep(15)
    del pool
    gc.collect()
    assert released() is None
    assert {connection.state for connection in script.connections} == {"aborted"}
    script.check(open=0)
    await asyncio.sleep(100)


@virtual
async def test_a_pool_with_a_holder_is_not_collected_under_him() -> None:
    """Laws: M6."""
    script = Script()
    pool = await open_pool(script)
    connection, release = await pool.checkout()
    stop = pool.stop
    del pool
    gc.collect()
    assert connection.state == "open"
    release()
    await stop()
    script.check(open=0)


@virtual
async def test_a_result_that_nobody_took_comes_back_by_itself_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Laws: M7."""
    script = Script()
    async with scripted_pool(script, max_size=1, watched=False) as pool:

        async def forget() -> None:
            await pool.checkout()

        with caplog.at_level(logging.WARNING, "dbcore.pool"):
            await asyncio.create_task(forget(), name="forgetful")
            gc.collect()
            connection, release = await pool.checkout(1)
        assert connection.id == 1
        assert "dropped without being released" in caplog.text
        assert "test_guards.py" in caplog.text
        release()


@virtual
async def test_a_task_whose_finished_checkout_is_thrown_away_loses_nothing() -> None:
    """As `asyncio.wait` with a timeout around a checkout does.

    Laws: M7, E3.
    """
    async with scripted_pool(max_size=1, watched=False) as pool:
        task = asyncio.ensure_future(pool.checkout())
        await settled()
        assert task.done()
        del task
        gc.collect()
        await settled()
        assert pool.gauges == (1, 0, 0, 0, 0, 0)


@virtual
async def test_a_dropped_dirty_connection_is_reset() -> None:
    """Laws: M7, H1."""
    script = Script()
    async with scripted_pool(script, max_size=1, watched=False) as pool:

        async def forget() -> None:
            connection, _release = await pool.checkout()
            connection.in_transaction = True

        await asyncio.create_task(forget())
        gc.collect()
        connection, release = await pool.checkout(1)
        assert not connection.in_transaction
        release()


@virtual
async def test_a_released_and_then_dropped_result_is_not_released_twice() -> None:
    """Laws: K3, M7."""
    async with scripted_pool(max_size=1, watched=False) as pool:
        connection, release = await pool.checkout()
        release()
        other, keep = await pool.checkout()
        assert other is connection
        del release
        gc.collect()
        await settled()
        assert pool.gauges == (0, 1, 0, 0, 0, 0)
        keep()


@virtual
async def test_a_waiter_is_served_by_a_result_that_was_dropped() -> None:
    """Laws: M7, C12."""
    async with scripted_pool(max_size=1, watched=False) as pool:
        taken = [await pool.checkout()]
        waiter = asyncio.ensure_future(pool.checkout())
        await settled()
        taken.clear()
        gc.collect()
        (await waiter)[1]()


def forked(function: Callable[[], None]) -> int:
    """Run `function` in a forked child, and return its exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads, which pytest's plugins have
        child = os.fork()
    if child == 0:
        code = 1
        try:
            function()
            code = 0
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_is_refused_says_no_goodbye_and_the_parent_goes_on() -> None:
    """Laws: M5."""
    script = Script()
    home = VirtualLoop()

    async def take() -> Any:
        return await pool.checkout()

    pool = home.run_until_complete(open_pool(script, min_size=2))
    held = home.run_until_complete(take())
    before = len(script.calls)

    def child() -> None:
        nonlocal pool, held
        for use in (pool.checkout, pool.drain):
            assert use is not None
            with pytest.raises(UsageError, match="forked"):
                in_loop(use)
        in_loop(pool.stop)
        held[1]()
        del pool, held
        gc.collect()
        assert [call.hook for call in script.calls[before:]] == []
        assert in_loop(fresh)

    async def fresh() -> bool:
        async with scripted_pool(Script()) as own:
            (await own.checkout())[1]()
        return True

    assert forked(child) == 0
    held[1]()
    home.run_until_complete(take())[1]()
    home.run_until_complete(pool.stop())
    home.close()
    script.check(open=0)


def test_nothing_that_belongs_to_a_loop_is_made_before_the_start() -> None:
    """Without a running loop the coroutine can be made, and raises only when it runs.

    Laws: M1, M2.
    """
    script = Script()
    coroutine = open_pool(script)
    assert not script.calls
    pool = in_loop(lambda: coroutine)
    assert len(script.connections) == 1
    del pool
    gc.collect()


VARIABLE: ContextVar[str] = ContextVar("VARIABLE", default="clean")


@virtual
async def test_tasks_of_the_engine_do_not_carry_the_context_of_a_caller() -> None:
    """Laws: A10."""
    seen: list[str] = []
    script = Script()

    def look() -> Step:
        seen.append(VARIABLE.get())
        return passes()

    script.connect.always(look)
    async with scripted_pool(script, min_size=1, max_size=2) as pool:

        async def caller() -> None:
            VARIABLE.set("a caller's")
            taken = [await pool.checkout(), await pool.checkout()]
            for _, release in taken:
                release()

        await asyncio.create_task(caller())
    assert seen == ["clean", "clean"]
