"""How far the life of a pool has come."""

from __future__ import annotations

import enum

__all__ = ["RUNNING", "Phase"]


class Phase(enum.Enum):
    """A pool is running from the moment it exists; the other two are final."""

    RUNNING = "running"
    STOPPED = "stopped"  # or about to be: from the first call of stop() on
    DISOWNED = "disowned"  # the pool of a parent process


RUNNING = Phase.RUNNING
