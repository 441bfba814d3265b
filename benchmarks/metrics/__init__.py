"""The metrics, by letter."""

from __future__ import annotations

from benchmarks.metrics import fairness, memory, rates, waiting
from benchmarks.metrics.metric import Metric, Subject

__all__ = ["METRICS", "Metric", "Subject"]

METRICS: tuple[Metric, ...] = (*rates.METRICS, *fairness.METRICS, *waiting.METRICS, *memory.METRICS)
