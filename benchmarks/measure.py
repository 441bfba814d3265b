"""Rounds in turn, A B C, B C A, so that a slow spell of the machine meets everybody; medians, and ratios by round."""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from benchmarks.contenders import FOREVER, Contender, Opened
from benchmarks.effort import Effort
from benchmarks.figures import Figure
from benchmarks.metrics import Metric, Subject
from benchmarks.proof import prove
from benchmarks.server import Databases

__all__ = ["Measured", "Ratio", "measure"]

LIMIT = 90
"""Seconds for one metric of one contender."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better one is than another: the median of the ratios of each round, their lowest and highest."""

    value: float
    lowest: float
    highest: float

    def turned(self) -> Ratio:
        """Return it the other way round: how many times the cost."""
        return Ratio(1 / self.value, 1 / self.highest, 1 / self.lowest)


@dataclass(frozen=True, slots=True)
class Measured:
    """What was measured, round by round, and what was not."""

    rounds: dict[str, dict[str, list[float]]] = field(default_factory=dict[str, dict[str, list[float]]])
    """By contender and key of the figure."""
    left_out: dict[str, str] = field(default_factory=dict[str, str])
    """By contender: why it is missing, or missing somewhere."""

    def add(self, name: str, figures: Mapping[str, float]) -> None:
        of_contender = self.rounds.setdefault(name, {})
        for key, value in figures.items():
            of_contender.setdefault(key, []).append(value)

    def drop(self, name: str, metric: Metric, reason: str) -> None:
        """Forget what a contender has of a metric: it failed."""
        self.left_out[name] = f"{metric.title}: {reason}"
        of_contender = self.rounds.get(name, {})
        for key in [key for key in of_contender if Figure.of(key).metric == metric.letter]:
            del of_contender[key]

    def values(self, name: str, key: str) -> Sequence[float]:
        return self.rounds.get(name, {}).get(key, ())

    def median(self, name: str, key: str) -> float | None:
        values = self.values(name, key)
        return statistics.median(values) if values else None

    def best(self, names: Sequence[str], key: str) -> str | None:
        """Return who has the best median."""
        found = [(median, name) for name in names if (median := self.median(name, key)) is not None]
        if not found:
            return None
        return (max if Figure.of(key).more_is_better else min)(found)[1]

    def ratio(self, ours: str, theirs: str, key: str) -> Ratio | None:
        """Return how many times better `ours` is than `theirs`; `None` where one of them was not measured."""
        pairs = zip(self.values(ours, key), self.values(theirs, key), strict=False)
        more = Figure.of(key).more_is_better
        ratios = [mine / other if more else other / mine for mine, other in pairs]
        return Ratio(statistics.median(ratios), min(ratios), max(ratios)) if ratios else None


async def measure(
    contenders: Sequence[Contender], metrics: Sequence[Metric], where: Databases, effort: Effort, measured: Measured
) -> None:
    """Open and prove each contender, then run every metric, round by round. What fails is left out and said."""
    subjects: list[Subject] = []
    try:
        for contender in contenders:
            opened = None
            try:
                async with asyncio.timeout(LIMIT):
                    opened = await contender.open(where, effort.size, FOREVER)
                    await prove(contender, opened, where, effort.size)
            except Exception as error:
                measured.left_out[contender.name] = reason_of(error)
                if opened is not None:
                    await _close(opened)
            else:
                subjects.append(Subject(contender, opened, where, effort))
        gc.collect()
        gc.freeze()
        for metric in metrics:
            print(f"  {metric.title}", flush=True)
            await _run(metric, subjects, measured, min(effort.rounds, metric.rounds))
    finally:
        gc.unfreeze()
        for subject in subjects:
            await _close(subject.opened)


async def _run(metric: Metric, subjects: Sequence[Subject], measured: Measured, rounds: int) -> None:
    able = [subject for subject in subjects if metric.applies(subject)]
    for number in range(rounds):
        first = number % max(1, len(able))
        for subject in [*able[first:], *able[:first]]:
            gc.collect()
            try:
                async with asyncio.timeout(LIMIT):
                    measured.add(subject.contender.name, await metric.run(subject))
            except Exception as error:
                measured.drop(subject.contender.name, metric, reason_of(error))
                able.remove(subject)


async def _close(opened: Opened) -> None:
    """Close as far as it goes: a peer that cannot must not end the run."""
    try:
        async with asyncio.timeout(10):
            await opened.close()
    except Exception as error:
        print(f"  closing: {reason_of(error)}", flush=True)


def reason_of(error: BaseException) -> str:
    """Say it in a line; of a group, its first."""
    if isinstance(error, BaseExceptionGroup):
        return reason_of(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])
    text = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
