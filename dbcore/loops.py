"""What is asked of event loops beyond their methods."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import Any

__all__ = ["clock", "current_task", "look_at_failure", "running_loop"]


current_task: Callable[[asyncio.AbstractEventLoop | None], asyncio.Task[Any] | None] = asyncio.current_task
"""The task that a loop runs now. `None`, which is no loop, is for type checkers: whoever asks has been started."""
if sys.version_info < (3, 12):
    # There asyncio's is written in Python and takes four times as long, a twentieth of an empty checkout, for this.
    current_task = vars(asyncio.tasks)["_current_tasks"].get


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
