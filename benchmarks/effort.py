"""How much is measured: a full run, a quick look, or whatever a test asks for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FULL", "QUICK", "Effort"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """The sizes of everything; times are in seconds."""

    rounds: int
    seconds: float
    """Length of one timed loop; loops with many tasks take twice that."""
    checkouts: int
    """Checkouts in all, for fairness."""
    waiters: tuple[int, ...]
    """Sizes of the line, growing."""
    peer_waiters: int
    """The longest line that a peer has to bear: some take a minute for the longest."""
    patience: float
    """After which a waiter that is to time out gives up."""
    slow: float
    """Length of the slow statement; it runs twice."""
    rows: int
    """Rows of one bulk insert."""
    measured_waiters: int
    """Waiters whose memory is measured."""
    size: int = 10
    """Connections of each pool, and of each contender without one."""


FULL = Effort(
    rounds=5,
    seconds=0.2,
    checkouts=10_000,
    waiters=(100, 1_000, 10_000, 50_000),
    peer_waiters=10_000,
    patience=1.0,
    slow=1.0,
    rows=10_000,
    measured_waiters=2_000,
)

QUICK = Effort(
    rounds=1,
    seconds=0.1,
    checkouts=4_000,
    waiters=(100, 1_000, 10_000),
    peer_waiters=1_000,
    patience=1.0,
    slow=1.0,
    rows=2_000,
    measured_waiters=1_000,
)
