"""How far the life of a pool has come, and the loop it is lived in."""

from __future__ import annotations

import asyncio
import enum

__all__ = ["RUNNING", "Phase", "running_loop"]


class Phase(enum.Enum):
    """A pool is running from the moment it exists; the other two are final."""

    RUNNING = "running"
    STOPPED = "stopped"  # or about to be: from the first call of stop() on
    DISOWNED = "disowned"  # the pool of a parent process


RUNNING = Phase.RUNNING


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that is running in this thread, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
