"""Places in the source: noted for nothing on the fast path, put into words when somebody asks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import CodeType, FrameType

__all__ = ["describe", "frame_at"]

frame_at: Callable[[int], FrameType] = sys._getframe  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
"""The frame of a caller: 0 is here. Private by name but documented, and no other way is as cheap."""


def describe(code: CodeType, instruction: int) -> str:
    """Say where an instruction is: `file:line in function`. Taken are `frame.f_code` and `frame.f_lasti`."""
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if start <= instruction < end and number is not None:
            line = number
    return f"{code.co_filename}:{line} in {code.co_qualname}"
