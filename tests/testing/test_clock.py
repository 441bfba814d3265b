"""The virtual clock: time jumps, a lost wake-up is an error, and so is a program that never ends."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref

import pytest

from dbcore.testing import DeadlockError, RunawayError, VirtualLoop, run, settled, virtual


def test_an_hour_of_sleepers_takes_no_time() -> None:
    async def main() -> float:
        await asyncio.gather(*(asyncio.sleep(seconds) for seconds in range(3601)))
        return asyncio.get_running_loop().time()

    began = time.perf_counter()
    assert run(main) == 3600
    assert time.perf_counter() - began < 5


def test_timers_come_in_order_and_at_their_time() -> None:
    async def main() -> list[tuple[float, str]]:
        loop = asyncio.get_running_loop()
        log: list[tuple[float, str]] = []

        def note(what: str) -> None:
            log.append((loop.time(), what))

        for when, what in ((3.0, "c"), (1.0, "a"), (2.0, "b")):
            loop.call_later(when, note, what)
        await asyncio.sleep(5)
        return log

    assert run(main, start=100.0) == [(101.0, "a"), (102.0, "b"), (103.0, "c")]


def test_a_timer_beyond_the_longest_select_comes_at_its_time() -> None:
    async def main() -> float:
        await asyncio.sleep(90_000)  # asyncio asks its selector for a day at most
        return asyncio.get_running_loop().time()

    assert run(main) == 90_000


def test_timeouts_work_on_virtual_time() -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time()

    assert run(main) == 30


def test_a_lost_wake_up_is_an_error_that_names_the_tasks_and_the_places() -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(forgotten(), name="left behind")

    with pytest.raises(DeadlockError, match="nothing is ready and no timer is set") as caught:
        run(main)
    assert "task left behind waits at" in str(caught.value)
    assert "in test_a_lost_wake_up_is_an_error_that_names_the_tasks_and_the_places.<locals>.forgotten" in str(
        caught.value
    )
    assert "TaskGroup.__aexit__" in str(caught.value)
    assert "called from" in str(caught.value)


def test_a_deadlock_comes_out_whatever_the_tasks_catch() -> None:
    async def main() -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except Exception:
            return "caught"
        return "done"

    with pytest.raises(DeadlockError):
        run(main)


def test_a_finaliser_wakes_the_loop() -> None:
    class Dropped:
        pass

    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()
        thing = Dropped()
        weakref.finalize(thing, loop.call_soon_threadsafe, future.set_result, "collected")
        circle = [thing]
        circle.append(circle)  # type: ignore[arg-type]  # only the collector can free it
        del thing, circle
        asyncio.get_running_loop().call_soon(gc.collect)
        return await future

    assert run(main) == "collected"


def test_a_wake_up_from_within_the_look_for_one_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[str] = loop.create_future()

        def collect_at_the_worst_moment() -> str:
            loop.call_soon_threadsafe(future.set_result, "woken")
            return "nobody"

        monkeypatch.setattr("dbcore.testing.clock._waiting", collect_at_the_worst_moment)
        return await future

    assert run(main) == "woken"


def test_time_without_end_is_an_error() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(10)

    with pytest.raises(RunawayError, match="still goes on"):
        run(main, limit=1000)


def test_turns_without_end_are_an_error() -> None:
    async def main() -> None:
        while True:
            await asyncio.sleep(0)

    with pytest.raises(RunawayError, match="it still is 0"):
        run(main, turns=1000)


def test_settled_waits_for_all_that_is_ready_and_for_no_timer() -> None:
    @virtual
    async def main() -> None:
        log: list[str] = []

        async def busy() -> None:
            for _ in range(50):
                await asyncio.sleep(0)
            log.append("busy")
            await asyncio.sleep(1)
            log.append("later")

        task = asyncio.create_task(busy())
        await settled()
        assert log == ["busy"]
        assert asyncio.get_running_loop().time() == 0
        await task

    main()


def test_settled_says_what_it_needs() -> None:
    with pytest.raises(TypeError, match="VirtualLoop"):
        asyncio.run(settled())


def test_the_loop_can_be_used_without_the_runner() -> None:
    loop = VirtualLoop(start=7)
    try:
        loop.run_until_complete(asyncio.sleep(3))
        assert loop.time() == 10
    finally:
        loop.close()
