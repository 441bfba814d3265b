"""Fairness: far more tasks than connections, and whether each gets its share."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import perf_counter

from benchmarks.metrics.loops import percentile
from benchmarks.metrics.metric import Metric, Subject

__all__ = ["METRICS"]

TASKS = 200


async def fairness(subject: Subject) -> Mapping[str, float]:
    """200 tasks take turns; each holds a connection for three turns of the event loop."""
    checkout = subject.opened.checkout
    assert checkout is not None
    left = subject.effort.checkouts
    had = [0] * TASKS
    waits: list[float] = []

    async def work(task: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            asked = perf_counter()
            async with checkout():
                waits.append(perf_counter() - asked)
                for _ in range(3):
                    await asyncio.sleep(0)
            had[task] += 1

    started = perf_counter()
    async with asyncio.TaskGroup() as group:
        for task in range(TASKS):
            group.create_task(work(task))
    elapsed = perf_counter() - started
    waits.sort()
    return {
        "fair_rate": len(waits) / elapsed,
        "fair_spread": max(had) / max(1, min(had)),
        "fair_p99": percentile(waits, 0.99) * 1e3,
    }


METRICS = (Metric(letter="d", title="d. Fairness", applies=lambda it: it.pool_alone, run=fairness),)
