"""Timed loops: one task alone, and many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

__all__ = ["Rate", "alone", "percentile", "together"]

WARM_UP = 20
CHUNK = 10
"""Calls between two looks at the clock."""


async def alone(call: Callable[[int], Awaitable[object]], seconds: float) -> float:
    """Call again and again from one task and return the calls a second."""
    for number in range(WARM_UP):
        await call(number)
    done = 0
    started = now = perf_counter()
    while now - started < seconds:
        for number in range(done, done + CHUNK):
            await call(number)
        done += CHUNK
        now = perf_counter()
    return done / (now - started)


@dataclass(frozen=True, slots=True)
class Rate:
    """Calls a second, and how long the slowest of a hundred took, in seconds."""

    per_second: float
    p99: float


async def together(
    calls: Sequence[Callable[[int], Awaitable[object]]], tasks: int, going_on: Callable[[float], bool]
) -> Rate:
    """Call from `tasks` tasks, once or more each, until `going_on` says no to the seconds since the start.

    One function serves all tasks; of several each has a task of its own, and there are no more tasks than that.
    """
    workers = tasks if len(calls) == 1 else len(calls)
    took: list[float] = []
    for call in calls:
        await call(0)
    started = perf_counter()

    async def work(worker: int) -> None:
        call = calls[worker % len(calls)]
        number = worker
        begun = perf_counter()
        while True:
            await call(number)
            ended = perf_counter()
            took.append(ended - begun)
            if not going_on(ended - started):
                return
            number += workers
            begun = ended

    async with asyncio.TaskGroup() as group:
        for worker in range(workers):
            group.create_task(work(worker))
    elapsed = perf_counter() - started
    took.sort()
    return Rate(len(took) / elapsed, percentile(took, 0.99))


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which such a share of them lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
