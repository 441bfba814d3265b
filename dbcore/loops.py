"""What is asked of event loops beyond their methods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

__all__ = ["clock", "look_at_failure", "running_loop"]


def clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return what tells the loop's time: for the stock loops what their method calls, for a virtual one its method."""
    return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that is running in this thread, if there is one."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def look_at_failure(task: asyncio.Future[Any]) -> None:
    """Take note of what a task failed with that nobody may await: else the event loop would report it."""
    if not task.cancelled():
        task.exception()
