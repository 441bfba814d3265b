"""The time of an event loop, without a call that most loops do not need."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

__all__ = ["clock"]


def clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Return what tells the loop's time: for the stock loops what their method calls, for a virtual one its method."""
    return time.monotonic if type(loop).time is asyncio.BaseEventLoop.time else loop.time
