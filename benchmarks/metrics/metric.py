"""What a metric is, and what is measured by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from benchmarks.contenders import Contender, Opened
from benchmarks.effort import Effort
from benchmarks.server import Databases

__all__ = ["Metric", "Subject"]


@dataclass(frozen=True, slots=True)
class Subject:
    """A contender that is open, where, and how much of it to measure."""

    contender: Contender
    opened: Opened
    where: Databases
    effort: Effort

    @property
    def pool_alone(self) -> bool:
        """Whether what a pool does without a statement is measured of it."""
        return self.opened.checkout is not None and self.contender.like is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One thing to measure: one round of one contender gives a value for each figure."""

    letter: str
    title: str
    applies: Callable[[Subject], bool]
    run: Callable[[Subject], Awaitable[Mapping[str, float]]]
    rounds: int = 100
    """At most so many: for one that takes long, or comes out the same each time."""
