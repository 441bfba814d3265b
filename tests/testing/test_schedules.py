"""Shuffled schedules: many orders, each one again by its seed, and none that asyncio rules out."""

from __future__ import annotations

import asyncio
import contextvars
import random
from functools import partial

import pytest

from dbcore.testing import ShuffledLoop, explore, run_schedule


async def three_tasks(_: random.Random) -> tuple[int, ...]:
    log: list[int] = []

    async def steps(number: int) -> None:
        log.append(number)
        await asyncio.sleep(0)
        log.append(number)

    await asyncio.gather(*(steps(number) for number in range(3)))
    return tuple(log)


def test_every_order_of_three_tasks_is_found() -> None:
    assert len({run_schedule(three_tasks, seed) for seed in range(3000)}) == 90  # 6! / (2! * 2! * 2!)


def test_a_seed_brings_its_order_back() -> None:
    for seed in range(50):
        assert run_schedule(three_tasks, seed) == run_schedule(three_tasks, seed)


def test_a_lost_update_is_found_and_its_seed_finds_it_again() -> None:
    async def main(_: random.Random) -> None:
        balance = 0

        async def add() -> None:
            nonlocal balance
            seen = balance
            await asyncio.sleep(0)
            balance = seen + 1

        await asyncio.gather(add(), add())
        assert balance == 2

    with pytest.raises(AssertionError) as caught:
        explore(main, range(100))
    note = caught.value.__notes__[-1]
    assert note.startswith("schedule ")
    seed = int(note.split()[1].rstrip(":"))
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        run_schedule(main, seed)


def test_a_schedule_that_ends_in_a_deadlock_names_its_seed() -> None:
    async def main(chance: random.Random) -> None:
        if chance.random() < 0.2:
            await asyncio.get_running_loop().create_future()

    with pytest.raises(AssertionError, match="deadlock") as caught:
        explore(main, range(1000))
    assert "run_schedule(main, " in caught.value.__notes__[-1]


def test_callbacks_of_one_future_stay_in_order() -> None:
    async def main(_: random.Random) -> None:
        log: list[int] = []
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def note(number: int, _: asyncio.Future[None]) -> None:
            log.append(number)

        for number in range(5):
            future.add_done_callback(partial(note, number))
        future.set_result(None)
        await asyncio.sleep(1)
        assert log == [0, 1, 2, 3, 4]

    explore(main, range(200))


def test_plain_callbacks_stay_in_order_among_themselves() -> None:
    async def main(_: random.Random) -> None:
        log: list[int] = []
        for number in range(5):
            asyncio.get_running_loop().call_soon(log.append, number)
        await asyncio.sleep(1)
        assert log == [0, 1, 2, 3, 4]

    explore(main, range(200))


def test_timers_of_one_time_come_in_any_order_and_never_early() -> None:
    async def main(_: random.Random) -> tuple[int, ...]:
        loop = asyncio.get_running_loop()
        log: list[int] = []
        for number, when in enumerate((1.0, 1.0, 1.0, 2.0)):
            loop.call_at(when, log.append, number)
        await asyncio.sleep(3)
        return tuple(log)

    orders = {run_schedule(main, seed) for seed in range(200)}
    assert len(orders) == 6
    assert all(order[-1] == 3 for order in orders)


def test_all_that_is_ready_runs_before_time_passes() -> None:
    async def main(_: random.Random) -> None:
        loop = asyncio.get_running_loop()

        async def steps() -> None:
            for _ in range(20):
                await asyncio.sleep(0)
            assert loop.time() == 0

        loop.call_later(1, lambda: None)
        await asyncio.gather(*(steps() for _ in range(5)))

    explore(main, range(50))


def test_what_was_cancelled_before_its_turn_does_not_run() -> None:
    async def main(_: random.Random) -> None:
        loop = asyncio.get_running_loop()
        log: list[str] = []
        soon = loop.call_soon(log.append, "soon")
        soon.cancel()
        from_thread = loop.call_soon_threadsafe(log.append, "thread")
        from_thread.cancel()
        late: list[asyncio.TimerHandle] = []

        def cancel_the_other(mine: int) -> None:
            log.append("timer")
            late[1 - mine].cancel()

        late += [loop.call_at(1, cancel_the_other, 0), loop.call_at(1, cancel_the_other, 1)]
        await asyncio.sleep(2)
        assert log == ["timer"]

    explore(main, range(100))


def test_an_error_in_a_callback_reaches_the_exception_handler() -> None:
    async def main(_: random.Random) -> None:
        loop = asyncio.get_running_loop()
        seen: list[BaseException] = []
        loop.set_exception_handler(lambda _, context: seen.append(context["exception"]))
        loop.call_soon(int, "no number")
        await asyncio.sleep(1)
        assert [type(error) for error in seen] == [ValueError]

    run_schedule(main, 1)


def test_callbacks_run_in_the_context_they_were_given() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main(_: random.Random) -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        def look() -> None:
            seen.append(variable.get())

        variable.set("own")
        other = contextvars.Context()
        loop.call_soon(look)
        loop.call_later(1, look)
        loop.call_soon_threadsafe(look)
        loop.call_soon(look, context=other)
        loop.call_later(1, look, context=other)
        loop.call_soon_threadsafe(look, context=other)
        variable.set("changed")
        await asyncio.sleep(2)
        assert sorted(seen) == ["own"] * 3 + ["unset"] * 3

    run_schedule(main, 1)


def test_wake_ups_from_finalisers_and_threads_arrive() -> None:
    async def main(_: random.Random) -> None:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()

        class Dropped:
            def __del__(self) -> None:
                loop.call_soon_threadsafe(future.set_result, None)

        Dropped()
        await future

    explore(main, range(20))


def test_thousands_of_schedules_take_seconds() -> None:
    explored = explore(three_tasks, range(1000))
    assert explored.schedules == 1000
    assert explored.seconds < 10
    assert "1000 schedules in " in str(explored)


def test_the_loop_can_be_used_without_the_runner() -> None:
    loop = ShuffledLoop(3, start=5)
    try:
        assert loop.run_until_complete(three_tasks(random.Random(0))) == run_schedule(three_tasks, 3)
    finally:
        loop.close()
