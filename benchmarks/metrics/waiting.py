"""Long lines: what a waiter costs that is served, cancelled, or gives up."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from statistics import median
from time import perf_counter, process_time

from benchmarks.contenders import FOREVER, Opened, holding, settle
from benchmarks.metrics.metric import Metric, Subject
from benchmarks.proof import Unproven, prove_whole

__all__ = ["METRICS", "line"]


async def line(opened: Opened, length: int) -> list[asyncio.Task[None]]:
    """Start so many tasks that each ask for a connection, and return when they wait."""
    checkout = opened.checkout
    assert checkout is not None

    async def wait() -> None:
        async with checkout():
            pass

    tasks = [asyncio.create_task(wait()) for _ in range(length)]
    await settle()
    return tasks


SHORT = 1_000
"""Lines that need no more than a fifth of the patience to form."""


def _lengths(subject: Subject) -> list[int]:
    longest = subject.effort.peer_waiters if subject.contender.role == "pool" else subject.effort.waiters[-1]
    return [length for length in subject.effort.waiters if length <= longest]


def _times(length: int) -> int:
    """Say how often a line is formed: a short one is over in less than a millisecond."""
    return max(1, min(5, 10_000 // length))


async def serving(subject: Subject) -> Mapping[str, float]:
    """Everybody waits, then all are served."""
    opened, size = subject.opened, subject.effort.size
    found: dict[str, float] = {}
    for length in _lengths(subject):
        times = [await _served(opened, size, length) for _ in range(_times(length))]
        found[f"queue {length}"] = median(begin for begin, _ in times) / length * 1e6
        found[f"serve {length}"] = median(serve for _, serve in times) / length * 1e6
    return found


async def _served(opened: Opened, size: int, length: int) -> tuple[float, float]:
    """Return the seconds until all waited, and until all were served."""
    assert opened.checkout is not None
    async with holding(opened.checkout, size) as let_go:
        gc.collect()
        started = perf_counter()
        tasks = await line(opened, length)
        waiting = perf_counter() - started
        if any(task.done() for task in tasks):
            raise Unproven("a waiter was served by a pool that had nothing left")
        started = perf_counter()
        let_go()
        await asyncio.gather(*tasks)
        return waiting, perf_counter() - started


async def leaving(subject: Subject) -> Mapping[str, float]:
    """Everybody waits, then all are cancelled; and everybody waits until all give up. The pool is whole afterwards."""
    size = subject.effort.size
    found: dict[str, float] = {}
    for length in _lengths(subject):
        async with _fresh(subject, FOREVER) as opened:
            times = [await _cancelled(opened, size, length) for _ in range(_times(length))]
            found[f"cancel {length}"] = median(times) / length * 1e6
        patience = subject.effort.patience
        if length <= SHORT:
            patience /= 5
        async with _fresh(subject, patience if subject.opened.impatient is None else FOREVER) as opened:
            found[f"time_out {length}"] = await _timed_out(opened, size, length, patience) / length * 1e6
    return found


@asynccontextmanager
async def _fresh(subject: Subject, patience: float) -> AsyncGenerator[Opened, None]:
    """One of its own: a connection that is lost here must not be missing elsewhere. It has to be whole at the end."""
    opened = await subject.contender.open(subject.where, subject.effort.size, patience)
    try:
        yield opened
        await prove_whole(opened, subject.effort.size)
    finally:
        await opened.close()


async def _cancelled(opened: Opened, size: int, length: int) -> float:
    """Return the seconds from the first cancel to the end of the last task."""
    assert opened.checkout is not None
    async with holding(opened.checkout, size):
        tasks = await line(opened, length)
        gc.collect()
        started = perf_counter()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        took = perf_counter() - started
    if not all(task.cancelled() for task in tasks):
        raise Unproven("a cancelled waiter was not cancelled")
    return took


async def _timed_out(opened: Opened, size: int, length: int, patience: float) -> float:
    """Return the seconds of CPU: the rest is the waiting itself."""
    checkout, impatient = opened.checkout, opened.impatient
    assert checkout is not None
    gave_up = 0

    async def wait() -> None:
        nonlocal gave_up
        try:
            async with checkout() if impatient is None else impatient(patience):
                pass
        except opened.gives_up:
            gave_up += 1

    async with holding(checkout, size):
        gc.collect()
        started = process_time()
        await asyncio.gather(*(wait() for _ in range(length)))
        took = process_time() - started
    if gave_up != length:
        raise Unproven(f"{gave_up} waiters gave up of {length}")
    return took


METRICS = (
    Metric(letter="e", title="e. Waiters, served", applies=lambda it: it.pool_alone, run=serving, rounds=3),
    Metric(
        letter="f",
        title="f. Waiters, cancelled and timed out",
        applies=lambda it: it.pool_alone,
        run=leaving,
        rounds=3,
    ),
)
