"""What a pool tells about itself: plain, frozen values that can be kept, logged and pickled."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Holder", "Stats"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """A snapshot of one pool at one moment.

    The first block are gauges: `size` is always the sum of the five after it, and never more than `max_size`.
    The second block are counters since the pool was started, the third are seconds summed over the same time.
    """

    size: int
    idle: int
    in_use: int
    connecting: int
    resetting: int
    closing: int
    waiting: int
    min_size: int
    max_size: int

    checkouts: int = 0
    """Connections handed out."""
    waited: int = 0
    """Checkouts that could not be served at once."""
    timeouts: int = 0
    """Checkouts that ended in `PoolTimeout`."""
    cancelled: int = 0
    """Checkouts whose task was cancelled while it waited."""
    refused: int = 0
    """Checkouts turned away at once: `PoolExhausted`, `PoolDeadlock`, a permanent connect failure."""
    connects: int = 0
    """Connections opened."""
    connect_failures: int = 0
    resets: int = 0
    """Resets that ran (a clean connection needs none)."""
    pings: int = 0
    lost: int = 0
    """Connections dropped because they were found broken."""
    expired: int = 0
    """Connections retired by `max_lifetime`."""
    shrunk: int = 0
    """Connections retired by `max_idle`."""
    drained: int = 0
    """Connections retired by `drain()`."""

    wait_seconds: float = 0.0
    """Time that checkouts spent waiting, those that failed included."""
    connect_seconds: float = 0.0
    """Time spent in connects that succeeded."""

    def __str__(self) -> str:
        return (
            f"{self.in_use} in use, {self.idle} idle, {self.connecting} connecting, {self.resetting} resetting, "
            f"{self.closing} closing: {self.size} of {self.max_size}; {self.waiting} waiting"
        )


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a connection: plain values, so that an error that carries them pickles and keeps nothing alive."""

    task: str
    """Name of the task that checked the connection out; `(a task that has ended)`, or empty where there was none."""
    site: str
    """`file:line in function` of the checkout; the name of the call, where that is a task by itself."""
    held_for: float
    """Seconds since the checkout."""
    in_transaction: bool

    def __str__(self) -> str:
        doing = ", in a transaction" if self.in_transaction else ""
        return f"task {self.task or '(none)'} for {self.held_for:.1f} s{doing}, since {self.site}"
