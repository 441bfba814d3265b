"""Threads that run statements: any function of the driver is one hop there and back.

Each connection has a worker of its own; what belongs to a writing transaction goes to the one writer of the pool. There
a BEGIN can stand in line right behind the COMMIT before it, and no wake-up lies between them. aiosqlite's own thread
opens the connection, closes it, and runs what is called through `native`.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from dbcore.errors import DbConnectionError
from dbcore_sqlite.bell import Bell

__all__ = ["Job", "Native", "Patience", "Worker", "no_thread", "start"]


class Native(sqlite3.Connection):
    """A `sqlite3.Connection` that is closed behind its last job, in whatever thread."""

    worker: Worker | None = None
    latest: Job | None = None

    def close(self) -> None:
        if self.worker is not None:
            self.worker.join()
        while self.latest is not None and not self.latest.ended:  # it is the pool's writer that runs it
            time.sleep(0.0005)
        super().close()


class Job:
    """One call of `work(native, *arguments)` in a worker, behind the statements of `begin`."""

    __slots__ = (
        "_arguments",
        "_error",
        "_native",
        "_result",
        "_work",
        "begin",
        "begun",
        "cancelled",
        "done",
        "ended",
        "future",
        "interruptible",
        "last",
        "started",
    )

    def __init__(
        self,
        native: Native,
        work: Callable[..., Any],
        arguments: tuple[Any, ...],
        begin: tuple[str, ...],
        future: asyncio.Future[Any],
        *,
        interruptible: bool,
        last: bool = False,
    ) -> None:
        self._native = native
        self._work = work
        self._arguments = arguments
        self._result: Any = None
        self._error: BaseException | None = None
        self.begin = begin
        self.begun = False
        """The transaction that `begin` opens is open."""
        self.future = future
        self.interruptible = interruptible
        self.last = last
        """The next writer stands behind it already, so it must leave no transaction open."""
        self.cancelled = False
        """Nobody wants the result any more. An interrupt hits nothing before the job has started, this does."""
        self.started = False
        self.done = False
        """The work came to its end, and not to an error."""
        self.ended = False

    def run(self) -> None:
        """Do the work, whatever it comes to. In the worker."""
        native = self._native
        try:
            if self.cancelled and self.interruptible:
                if self.last and native.in_transaction:
                    native.execute("ROLLBACK")
                raise sqlite3.OperationalError("cancelled before it began")  # noqa: TRY301  # as one that is interrupted
            self.started = True
            if self.begin:
                try:
                    for text in self.begin:
                        native.execute(text)
                except BaseException:
                    _undo(native, self.begin)
                    raise
                self.begun = True
            self._result = self._work(native, *self._arguments)
            self.done = True
        except StopIteration as error:  # no future takes one
            self._error = RuntimeError("a job raised StopIteration")
            self._error.__cause__ = error
        except BaseException as error:  # it is the caller's, and the worker lives on
            self._error = error
        finally:
            # A connection keeps its latest job: what that has worked on would be kept too, and with a trip the pool.
            self._work, self._arguments = _done, ()
            self.ended = True

    def report(self) -> None:
        """Hand over what it has come to. In the event loop."""
        result, self._result = self._result, None
        error, self._error = self._error, None
        if self.future.done():  # cancelled
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


def _done(_: Native) -> None:
    """Stand for the work of a job that has ended."""


def _undo(native: Native, begin: tuple[str, ...]) -> None:
    """Take back what has run of `begin`, which failed half-way."""
    if native.in_transaction:
        native.execute("ROLLBACK")
    if len(begin) > 1:  # that of a transaction that only reads; a pragma may be set though it was interrupted
        native.execute("PRAGMA query_only = 0")


class Patience:
    """How long a worker waits for a lock that another process holds, from the first time that it was in the way."""

    __slots__ = ("_deadline", "_pause")

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = 0.0005

    def wait(self) -> bool:
        """Sleep for a while, longer each time; or say that there has been enough of that."""
        if time.monotonic() > self._deadline:
            return False
        time.sleep(self._pause)
        self._pause = min(self._pause * 2, 0.025)
        return True


class Worker:
    """One thread, which runs jobs in the order in which they were submitted.

    A daemon, and it knows nothing but its queue and the bell: neither a program that forgets to stop nor a pool that
    nobody refers to any more is held up by it.
    """

    __slots__ = ("_jobs", "_thread")

    def __init__(self, bell: Bell, name: str) -> None:
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._jobs, bell), name=name, daemon=True)
        start(self._thread)
        bell.join()

    def submit(self, job: Job) -> None:
        self._jobs.put(job)

    def end(self) -> None:
        """Have it end when it is through with all that was submitted."""
        self._jobs.put(None)

    def join(self) -> None:
        """Have it end, and wait until it has."""
        self.end()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def __del__(self) -> None:
        self.end()


def start(thread: threading.Thread) -> None:
    """Start a thread. Raises `DbConnectionError` where the system has none left."""
    try:
        thread.start()
    except RuntimeError as error:
        raise no_thread() from error


def no_thread() -> DbConnectionError:
    """The error for a connection that finds no thread."""
    message = "no thread could be started: the process has as many as it may; lower pool.max_size, or raise that limit"
    return DbConnectionError(message, retryable=True)


def _serve(jobs: SimpleQueue[Job | None], bell: Bell) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        bell.ring(job)
        del job  # or the last one would be kept for as long as nothing comes after it
    bell.leave()
