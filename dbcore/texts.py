"""What is known of the texts of statements: which of them may share a trip."""

from __future__ import annotations

__all__ = ["Text"]

QUICK = 0.025
"""Seconds that a text may take on a connection of its own, the way to the database included, and still ride."""
WORTH = 0.0003
"""Mean seconds of a text on its rides above which it rides no more: many connections side by side are faster then."""
SMOOTHING, AT_MOST = 0.02, 0.003
"""What the latest ride counts for in that mean, and the most seconds it counts as: results arrive in bunches, the first
of which looks slow, and a machine that is busy with something else says nothing of the text."""
PROVEN = 3
"""Quick runs that a text needs before it may ride."""
LATELY = 60.0
"""Seconds for which they count after the last one."""
BARRED = 10.0
"""Seconds in which quick runs of a text that was slow twice within so many seconds count for nothing."""


class Text:
    """What is known of a statement's text."""

    __slots__ = ("barred_until", "may", "mean", "quick", "suspect_until", "until", "writes")

    def __init__(self, *, may: bool, writes: bool) -> None:
        self.may = may
        self.writes = writes
        self.quick = 0
        self.mean = 0.0
        self.until = 0.0
        """It may ride until then, unless it is seen to be quick again."""
        self.suspect_until = self.barred_until = 0.0

    def ran(self, seconds: float, now: float) -> None:
        """Note how long it took."""
        if seconds > QUICK:
            self.was_slow(now)
        elif self.may and now >= self.barred_until:
            self.quick += 1
            if self.quick >= PROVEN:
                self.until = now + LATELY

    def rode(self, seconds: float, now: float) -> None:
        """Note how long it was the one that others waited for."""
        self.mean += (min(seconds, AT_MOST) - self.mean) * SMOOTHING
        if self.mean > WORTH:
            self.bar(now)
        elif self.until:
            self.until = now + LATELY

    def was_slow(self, now: float) -> None:
        """Note that it held others up. Once may have been the machine's doing; soon after once more it is the text."""
        if now < self.suspect_until:
            self.barred_until = now + BARRED
        self.suspect_until = now + BARRED
        self.forget()

    def bar(self, now: float) -> None:
        """Let it ride no more for a while."""
        self.barred_until = now + BARRED
        self.forget()

    def forget(self) -> None:
        """It has to be seen to be quick anew."""
        self.quick = 0
        self.mean = 0.0
        self.until = 0.0
