"""Staying awake for an answer: for a lone one that came soon the last time, and never for longer than the limit."""

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


def test_the_loop_stays_awake_for_an_answer_that_came_soon_the_last_time() -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        assert await Awake(60).wait(waiter, soon=True)

    assert turns_while(wait) == TURNS


@pytest.mark.parametrize(("limit", "soon"), [(60, False), (0, True), (1e-9, True)])
def test_the_loop_sleeps_for_one_that_is_late_or_when_it_is_told_to(limit: float, soon: bool) -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        await Awake(limit).wait(waiter, soon=soon)

    assert turns_while(wait) < TURNS


def test_the_loop_is_kept_awake_for_one_alone() -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        awake = Awake(60)
        first = asyncio.create_task(awake.wait(waiter, soon=False))
        await asyncio.sleep(0)
        await awake.wait(waiter, soon=True)
        await first

    assert turns_while(wait) < TURNS


def test_one_that_was_cancelled_waits_no_more() -> None:
    async def wait(waiter: asyncio.Future[None]) -> None:
        awake = Awake(60)
        first = asyncio.create_task(awake.wait(asyncio.get_running_loop().create_future(), soon=False))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        await awake.wait(waiter, soon=True)

    assert turns_while(wait) == TURNS


@pytest.mark.parametrize(
    ("soon", "took", "came_soon"), [(True, 0.9, True), (True, 1.1, False), (False, 1.4, True), (False, 1.6, False)]
)
async def test_an_answer_came_soon_if_it_took_less_than_the_limit_or_half_as_much_again_asleep(
    monkeypatch: pytest.MonkeyPatch, soon: bool, took: float, came_soon: bool
) -> None:
    now = 100.0
    monkeypatch.setattr("dbcore_postgres.awake.monotonic", lambda: now)
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(Awake(1.0).wait(waiter, soon=soon))
    await asyncio.sleep(0)
    now += took
    waiter.set_result(None)
    assert await waiting is came_soon


async def test_a_statement_that_takes_its_time_is_not_expected_soon_again(postgres_url: str) -> None:
    async with connected(postgres_url) as (_, connection):
        connection.soon = True
        await rows(connection, "SELECT 1 FROM pg_sleep(0.02)")
        assert not connection.soon


async def test_the_connections_of_a_pool_know_of_each_other(postgres_url: str) -> None:
    hooks = make_hooks(configured(postgres_url))
    one, other = await hooks.connect(), await hooks.connect()
    assert one.awake is other.awake
    await hooks.close(one)
    await hooks.close(other)
