"""Staying awake for an answer: for a lone one that is expected soon, and never for longer than the limit."""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Awaitable, Callable

import pytest
from dbcore_postgres.awake import Awake
from dbcore_postgres.driver import make_hooks
from postgres_connections import configured, connected, rows

TURNS = 50


class Answering(selectors.DefaultSelector):
    """Gives the answer when the event loop falls asleep, or has turned so often that it does not seem to want to."""

    def __init__(self, answer: Callable[[], object]) -> None:
        super().__init__()
        self.answer = answer
        self.turns = 0
        self.counting = False

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.counting:
            self.turns += 1
            if timeout is None or self.turns == TURNS:
                self.counting = False
                self.answer()
        return super().select(timeout)


def turns_while(work: Callable[[asyncio.Future[None]], Awaitable[None]]) -> int:
    """How often the loop has turned before it fell asleep, or got its answer, in `work` that waits for one."""
    ours, theirs = socket.socketpair()
    selector = Answering(lambda: theirs.send(b"!"))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()

        def answered() -> None:
            loop.remove_reader(ours)
            waiter.set_result(None)

        loop.add_reader(ours, answered)
        selector.counting = True
        await work(waiter)

    with ours, theirs, asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())
    return selector.turns


def test_the_loop_stays_awake_for_an_answer_that_is_expected_soon() -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        assert await Awake(60).wait(waiter, 0) == 0

    assert turns_while(wait) == TURNS


@pytest.mark.parametrize(("limit", "doubts"), [(60, 1), (0, 0), (1e-9, 0)])
def test_the_loop_sleeps_for_one_that_may_be_late_or_is_or_when_it_is_told_to(limit: float, doubts: int) -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        await Awake(limit).wait(waiter, doubts)

    assert turns_while(wait) < TURNS


def test_the_loop_is_kept_awake_for_one_alone() -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        awake = Awake(60)
        first = asyncio.create_task(awake.wait(waiter, 1))
        await asyncio.sleep(0)
        await awake.wait(waiter, 0)
        await first

    assert turns_while(wait) < TURNS


def test_one_that_was_cancelled_waits_no_more() -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        awake = Awake(60)
        first = asyncio.create_task(awake.wait(asyncio.get_running_loop().create_future(), 1))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await awake.wait(waiter, 0)

    assert turns_while(wait) == TURNS


@pytest.mark.parametrize(("doubts", "took", "after"), [(0, 0.9, 0), (0, 1.1, 3), (2, 1.4, 1), (1, 1.4, 0), (1, 1.6, 3)])
async def test_an_answer_that_is_late_raises_doubts_and_each_that_is_not_takes_one_away(
    monkeypatch: pytest.MonkeyPatch, doubts: int, took: float, after: int
) -> None:
    """Asleep, half of the limit more is not late yet."""
    now = 100.0
    monkeypatch.setattr("dbcore_postgres.awake.monotonic", lambda: now)
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(Awake(1.0).wait(waiter, doubts))
    await asyncio.sleep(0)
    now += took
    waiter.set_result(None)
    assert await waiting == after


async def test_a_statement_that_takes_its_time_is_not_expected_soon_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        connection.doubts = 0
        await rows(connection, "SELECT 1 FROM pg_sleep(0.02)")
        assert connection.doubts


async def test_the_connections_of_a_pool_know_of_each_other(postgres_url: str) -> None:
    hooks = make_hooks(configured(postgres_url))
    one, other = await hooks.connect(), await hooks.connect()
    assert one.awake is other.awake
    await hooks.close(one)
    await hooks.close(other)
