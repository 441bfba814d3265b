"""The door to the worker thread: any function of a connection's driver runs there in one hop.

aiosqlite runs `connection.execute(sql, parameters).fetchall()` in its thread as one job. It takes the class of the
connection from its user (`factory`), so a class whose `execute` also runs a `Job` makes every job possible there.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

__all__ = ["Job", "Native"]


class Job:
    """One call of `work(native, *arguments)` in the worker thread, behind the statements of `begin`."""

    __slots__ = ("_arguments", "_result", "_work", "begin", "begun", "cancelled", "ended", "interruptible", "started")

    def __init__(
        self, work: Callable[..., Any], arguments: tuple[Any, ...], begin: tuple[str, ...], *, interruptible: bool
    ) -> None:
        self._work = work
        self._arguments = arguments
        self._result: Any = None
        self.begin = begin
        self.begun = False
        """The transaction that `begin` opens is open."""
        self.interruptible = interruptible
        self.cancelled = False
        """Nobody wants the result any more. An interrupt hits nothing before the job has started, this does."""
        self.started = False
        self.ended = False

    def run(self, native: Native) -> Job:
        try:
            if self.cancelled and self.interruptible:
                raise sqlite3.OperationalError("cancelled before it began")  # nobody is left to see it
            self.started = True
            if self.begin:
                for text in self.begin:
                    native.execute(text)
                self.begun = True
            self._result = self._work(native, *self._arguments)
        finally:
            self._arguments = ()
            self.ended = True
        return self

    def fetchall(self) -> Any:
        result, self._result = self._result, None
        return result


class Native(sqlite3.Connection):
    """A `sqlite3.Connection` that runs a `Job` where others take SQL."""

    def execute(self, sql: str | Job, parameters: Any = (), /) -> Any:
        """Run a job, or execute a statement as ever."""
        if isinstance(sql, Job):
            return sql.run(self)
        return super().execute(sql, parameters)
