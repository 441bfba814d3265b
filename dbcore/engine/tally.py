"""Counters of a pool, and the snapshot that everybody is shown."""

from __future__ import annotations

from typing import Any

from dbcore.engine.slots import Books
from dbcore.events import CloseReason
from dbcore.stats import Stats

__all__ = ["Tally"]


class Tally:
    """Plain numbers that only grow. The gauges are not here: they are read from the books, so they cannot drift."""

    __slots__ = (
        "cancelled",
        "closed_for",
        "connect_failures",
        "connect_seconds",
        "connects",
        "pings",
        "refused",
        "resets",
        "timeouts",
        "wait_seconds",
        "waited",
    )

    def __init__(self) -> None:
        self.waited = self.timeouts = self.cancelled = self.refused = 0
        self.connects = self.connect_failures = self.resets = self.pings = 0
        self.closed_for: dict[CloseReason, int] = {}
        self.wait_seconds = self.connect_seconds = 0.0

    def stats(self, books: Books[Any, Any], checkouts: int, min_size: int) -> Stats:
        """Return counters and gauges of this moment."""
        closed_for = self.closed_for
        return Stats(
            size=books.size,
            idle=len(books.idle),
            in_use=books.in_use,
            connecting=books.connecting,
            resetting=books.resetting,
            closing=books.closing,
            waiting=len(books.waiters),
            min_size=min_size,
            max_size=books.max_size,
            checkouts=checkouts,
            waited=self.waited,
            timeouts=self.timeouts,
            cancelled=self.cancelled,
            refused=self.refused,
            connects=self.connects,
            connect_failures=self.connect_failures,
            resets=self.resets,
            pings=self.pings,
            lost=closed_for.get("lost", 0),
            expired=closed_for.get("lifetime", 0),
            shrunk=closed_for.get("idle", 0),
            drained=closed_for.get("drained", 0),
            wait_seconds=self.wait_seconds,
            connect_seconds=self.connect_seconds,
        )
