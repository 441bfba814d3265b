"""The scripted hooks: they do as planned, keep their own books, and see misuse."""

from __future__ import annotations

import asyncio

import pytest

from dbcore.errors import DbConnectionError
from dbcore.pool import PoolOps, Release
from dbcore.testing import (
    FakeConnection,
    Gate,
    Plan,
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


def test_planned_steps_come_once_each_and_then_the_usual_one() -> None:
    plan = Plan().then(slow(1), slow(2)).always(slow(9))
    assert [plan.take().seconds for _ in range(4)] == [1, 2, 9, 9]


def test_a_function_may_plan_each_call() -> None:
    counter = iter(range(3))
    plan = Plan().always(lambda: slow(next(counter)))
    assert [plan.take().seconds for _ in range(3)] == [0, 1, 2]


def test_combined_steps_keep_how_they_end() -> None:
    error = ValueError("so")
    assert slow(3, fails(error)) == Step(seconds=3, error=error)
    assert passes() == Step()


@virtual
async def test_steps_take_their_virtual_time_and_then_pass_or_fail() -> None:
    script = Script()
    hooks = script.hooks()
    script.connect.then(slow(2), slow(3, fails(DbConnectionError("down"))))
    connection = await hooks.connect()
    assert (connection.id, now()) == (1, 2)
    with pytest.raises(DbConnectionError, match="down"):
        await hooks.connect()
    assert now() == 5
    assert [(call.outcome, call.began, call.ended) for call in script.of("connect")] == [("ok", 0, 2), ("error", 2, 5)]


@virtual
async def test_a_step_that_passes_does_not_suspend() -> None:
    hooks = Script().hooks()
    coroutine = hooks.connect()
    with pytest.raises(StopIteration):
        coroutine.__await__().send(None)


@virtual
async def test_a_gate_holds_steps_until_it_is_opened_and_lets_later_ones_pass() -> None:
    script, gate = Script(), Gate()
    hooks = script.hooks()
    script.connect.always(waits(gate))
    tasks = [asyncio.ensure_future(hooks.connect()) for _ in range(3)]
    await settled()
    assert gate.waiting == 3
    tasks.pop().cancel()
    await settled()
    assert gate.waiting == 2
    gate.open()
    assert [(await task).id for task in tasks] == [1, 2]
    assert (await hooks.connect()).id == 3


@virtual
async def test_a_step_that_hangs_ends_only_by_cancellation() -> None:
    script = Script()
    script.connect.always(hangs(after_cancel=4))
    task = asyncio.ensure_future(script.hooks().connect())
    await asyncio.sleep(1000)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert now() == 1004
    assert script.of("connect")[0].outcome == "cancelled"
    script.check(open=0)


@virtual
async def test_a_connection_is_open_from_the_start_of_the_connect_to_the_end_of_the_close() -> None:
    script = Script()
    hooks = script.hooks()
    script.connect.then(slow(1))
    script.close.then(slow(1))
    task = asyncio.ensure_future(hooks.connect())
    await asyncio.sleep(0.5)
    assert script.open == 1
    connection = await task
    closing = asyncio.ensure_future(hooks.close(connection))
    await settled()
    assert (script.open, connection.state) == (1, "closing")
    await closing
    assert (script.open, script.most_open, connection.state) == (0, 1, "closed")


@virtual
async def test_a_failed_connect_leaves_nothing_open() -> None:
    script = Script()
    script.outage = DbConnectionError("down", retryable=True)
    with pytest.raises(DbConnectionError):
        await script.hooks().connect()
    script.check(open=0)
    assert script.most_open == 1


@virtual
async def test_after_a_failed_close_the_connection_is_open_until_it_is_aborted() -> None:
    script = Script()
    hooks = script.hooks()
    script.close.then(fails(DbConnectionError("no")))
    connection = await hooks.connect()
    with pytest.raises(DbConnectionError):
        await hooks.close(connection)
    assert script.open == 1
    assert hooks.abort is not None
    hooks.abort(connection)
    script.check(open=0)


@virtual
async def test_without_abort_a_failed_close_is_the_end() -> None:
    script = Script()
    hooks = script.hooks(abort=False)
    script.close.then(fails(DbConnectionError("no")))
    connection = await hooks.connect()
    with pytest.raises(DbConnectionError):
        await hooks.close(connection)
    script.check(open=0)


@virtual
async def test_a_broken_connection_looks_well_until_something_goes_to_its_other_end() -> None:
    script = Script()
    hooks = script.hooks()
    connection = await hooks.connect()
    script.restart()
    assert hooks.is_usable(connection)
    assert hooks.ping is not None
    with pytest.raises(DbConnectionError, match="gone"):
        await hooks.ping(connection)
    assert not hooks.is_usable(connection)
    assert not hooks.is_clean(connection)


@virtual
async def test_a_reset_makes_a_connection_clean() -> None:
    hooks = Script().hooks()
    connection = await hooks.connect()
    assert hooks.is_clean(connection)
    connection.dirty = connection.in_transaction = True
    assert not hooks.is_clean(connection)
    await hooks.reset(connection)
    assert hooks.is_clean(connection)


@virtual
async def test_plain_hooks_say_what_they_are_told_to_or_raise() -> None:
    script = Script()
    hooks = script.hooks()
    connection = await hooks.connect()
    script.is_usable.then(says_no(), fails(ValueError("bug in the driver")))
    assert not hooks.is_usable(connection)
    with pytest.raises(ValueError, match="bug"):
        hooks.is_usable(connection)
    assert hooks.is_usable(connection)


@virtual
async def test_an_abort_ends_what_runs_on_the_connection() -> None:
    script = Script()
    hooks = script.hooks()
    connection = await hooks.connect()
    script.query.then(hangs())
    task = asyncio.ensure_future(script.run_query(connection))
    await settled()
    assert hooks.abort is not None
    hooks.abort(connection)
    with pytest.raises(DbConnectionError, match="aborted"):
        await task
    with pytest.raises(DbConnectionError, match="closed"):
        await script.run_query(connection)


async def misuse(script: Script, what: str) -> None:
    hooks = script.hooks()
    connection = await hooks.connect()
    assert hooks.ping is not None
    assert hooks.abort is not None
    match what:
        case "abort twice":
            hooks.abort(connection)
            hooks.abort(connection)
        case "abort after close":
            await hooks.close(connection)
            hooks.abort(connection)
        case "close twice":
            await hooks.close(connection)
            await hooks.close(connection)
        case "closed while closing":
            script.close.then(slow(1))
            await asyncio.gather(hooks.close(connection), hooks.close(connection))
        case "ping after close":
            await hooks.close(connection)
            await hooks.ping(connection)
        case "look after close":
            await hooks.close(connection)
            hooks.is_usable(connection)
        case "look during a reset":
            script.reset.then(slow(1))
            task = asyncio.ensure_future(hooks.reset(connection))
            await settled()
            hooks.is_clean(connection)
            await task
        case "ping during a reset":
            script.reset.then(slow(1))
            await asyncio.gather(hooks.reset(connection), hooks.ping(connection))
        case "reset in the hands of the holder":
            await held(script, connection)
            await hooks.reset(connection)
        case "two holders":
            await held(script, connection)
            await held(script, connection)
        case "dirty":
            connection.dirty = True
            await held(script, connection)
        case _:
            await hooks.close(connection)
            await held(script, connection)


async def held(script: Script, connection: FakeConnection) -> None:
    async def checkout(timeout: float | None = None) -> tuple[FakeConnection, Release]:
        return connection, lambda: None

    async def stop() -> None:
        pass

    await script.watch(PoolOps(checkout, stop)).checkout()


@pytest.mark.parametrize(
    ("what", "finding"),
    [
        ("abort twice", "abort of connection 1 that is aborted already"),
        ("abort after close", "abort of connection 1 that is closed already"),
        ("close twice", "close of connection 1 that is closed already"),
        ("closed while closing", "close of connection 1 for the second time"),
        ("ping after close", "ping of connection 1 that is closed already"),
        ("look after close", "is_usable of connection 1 that is closed already"),
        ("look during a reset", "is_clean of connection 1 while reset ran"),
        ("ping during a reset", "ping of connection 1 while reset ran"),
        ("reset in the hands of the holder", "reset of connection 1 in the hands of its holder"),
        ("two holders", "checkout of connection 1 while somebody else held it"),
        ("dirty", "checkout of connection 1 without a reset"),
        ("closed", "checkout of connection 1 when it was closed"),
    ],
)
@virtual
async def test_misuse_is_found(what: str, finding: str) -> None:
    script = Script()
    await misuse(script, what)
    with pytest.raises(AssertionError, match=finding):
        script.check()


@virtual
async def test_too_many_connections_are_found() -> None:
    script = Script()
    hooks = script.hooks()
    for _ in range(3):
        await hooks.close(await hooks.connect())
    script.check(open=0, max_size=1)
    await hooks.connect()
    await hooks.connect()
    with pytest.raises(AssertionError, match="2 connections were open at once, more than 1"):
        script.check(open=2, max_size=1)
    with pytest.raises(AssertionError, match="2 connections are open, not 0"):
        script.check(open=0)


@virtual
async def test_the_pool_is_stopped_and_checked_at_the_end() -> None:
    script = Script()
    async with scripted_pool(script, max_size=3) as pool:
        connection, release = await pool.checkout()
        assert connection.held
        pool.balance()
        release()
        assert not connection.held
    assert not script.alive
    with pytest.raises(AssertionError, match="planted"):
        async with scripted_pool(script):
            script.misuse.append("planted")


@virtual
async def test_an_error_in_the_body_comes_out_as_it_is() -> None:
    script = Script()
    with pytest.raises(ValueError, match="own"):
        async with scripted_pool(script):
            script.misuse.append("planted")
            raise ValueError("own")
    assert not script.alive
