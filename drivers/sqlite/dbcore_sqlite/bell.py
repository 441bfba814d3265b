"""How a worker tells the event loop that a job has ended.

`call_soon_threadsafe` makes a handle with a context, and sends a byte through a pair of sockets that the loop reads
twice. For a short statement that is a third of all it costs. A counter in the kernel that the loop watches (`eventfd`,
on Linux) costs one write and one read, and several jobs that end together are one wake-up.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from contextlib import suppress
from contextvars import Context
from typing import Protocol

__all__ = ["Bell"]


class Ended(Protocol):
    """What a worker is through with."""

    def report(self) -> None:
        """Tell whoever waits for it. Runs in the event loop."""
        ...


class Bell:
    """One for the connections of a pool. Its file is open as long as there are workers that may ring it."""

    __slots__ = ("_ended", "_file", "_loop", "_ringers")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._ended: deque[Ended] = deque()
        self._ringers = 0
        self._file = -1

    # -- in the event loop ---------------------------------------------------------------------------------------------

    def join(self) -> None:
        """One more worker will ring."""
        self._ringers += 1
        if self._ringers == 1 and sys.platform == "linux":
            with suppress(OSError, NotImplementedError):  # no file is to be had, or the loop watches none
                self._file = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
                self._hang()

    def _hang(self) -> None:
        try:
            # In no context: nothing of the caller's must live on with the bell.
            Context().run(self._loop.add_reader, self._file, self._heard)
        except BaseException:
            self._close()
            raise

    def _heard(self) -> None:
        os.eventfd_read(self._file)
        self._report()

    def _report(self) -> None:
        ended = self._ended
        while ended:
            ended.popleft().report()

    def _left(self) -> None:
        self._ringers -= 1
        if not self._ringers and self._file >= 0:
            self._report()  # of what was rung for, the loop may hear later than of the leave
            self._loop.remove_reader(self._file)
            self._close()

    # -- in a worker; a loop that was closed hears nothing, and that does no harm -------------------------------------

    def ring(self, job: Ended) -> None:
        """Have a job reported."""
        self._ended.append(job)
        if self._file >= 0:
            os.eventfd_write(self._file, 1)
        else:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._report)

    def leave(self) -> None:
        """This worker rings no more."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._left)

    # -- its file ------------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        file, self._file = self._file, -1
        os.close(file)

    def __del__(self) -> None:
        # The loop was closed before the workers had ended: while it is open, it knows the bell.
        if self._file >= 0:
            self._close()
