"""Places in the source: noted for nothing on the fast path, put into words when somebody asks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection
from types import CodeType, FrameType
from typing import Any

__all__ = ["describe", "frame_at", "outside"]

frame_at: Callable[[int], FrameType] = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # documented, and nothing else is as cheap
"""The frame of a caller: 0 is here."""


def outside(packages: Collection[str] = ("dbcore",)) -> int:
    """Return how many frames up from the caller the first one is that is in none of these: 1 is the caller's caller.

    For ways on which a fraction of a microsecond is nothing; the others know their depth.
    """
    depth = 1
    frame = frame_at(2)
    while frame.f_back is not None and (frame.f_globals.get("__package__") or "").partition(".")[0] in packages:
        frame = frame.f_back
        depth += 1
    return depth


_ASYNCIO = asyncio.run.__code__.co_filename.removesuffix("runners.py")


def describe(code: CodeType, instruction: int, task: asyncio.Task[Any] | None = None) -> str:
    """Say where an instruction is: `file:line in function`. Taken are `frame.f_code` and `frame.f_lasti`.

    A call that was made a task by itself, for `gather` say, has only the event loop above it. With its `task` the call
    is named.
    """
    if task is not None and code.co_filename.startswith(_ASYNCIO):
        return f"a call of {getattr(task.get_coro(), '__name__', '(unknown)')} that is a task by itself"
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} in {code.co_qualname}"
