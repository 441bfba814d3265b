"""The native connection: aiosqlite's own, with a worker for the driver's statements, and what is known about it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import aiosqlite

from dbcore.driver import CancelledTooLate
from dbcore.errors import DbConnectionError, TransactionError
from dbcore.loops import look_at_failure
from dbcore_sqlite.errors import breaks_connection, is_busy
from dbcore_sqlite.opening import File, open_native
from dbcore_sqlite.settings import SqliteSettings
from dbcore_sqlite.worker import Job, Native, Worker

if TYPE_CHECKING:
    from dbcore_sqlite.connecting import Home
    from dbcore_sqlite.sharing import SharedTrip
    from dbcore_sqlite.streams import Stream

__all__ = ["PATIENCE", "Connection", "lost_in_transaction"]

_INHERITED: list[Native] = []
"""Connections of a parent process. To close one could spoil the parent's files, so they live as long as this one."""

PATIENCE = 1.0
"""Seconds that a closing event loop waits for a statement that hears no interrupt."""


class Connection(aiosqlite.Connection):
    """An aiosqlite connection of the pool, with all of aiosqlite's methods.

    What is sent through those methods does not stand in the writer lane and is not seen by the driver; a connection
    that was used so is reset before its next use.
    """

    native: Native
    """The `sqlite3` connection itself. Absent until it is open."""
    worker: Worker
    """Runs what needs no lane. Absent until the connection is open."""

    def __init__(self, home: Home, settings: SqliteSettings, loop: asyncio.AbstractEventLoop) -> None:
        self.parted = True
        """Closed, being closed, or not open yet."""
        self.home = home
        self.lane = home.lane
        self.settings = settings
        self.read_only = settings.read_only
        self.loop = loop
        self.thread = threading.current_thread()
        """aiosqlite's own; until that has begun, the thread that makes this."""
        self.snapshot: Mapping[str, int] = {}
        """What the pragmas of the session were when it was new."""
        self.file: File | None = None
        """The file that it has open; `None` in memory."""
        self.job: Job | None = None
        """The latest one; it may have been left behind while it still runs."""
        self.ending: asyncio.Task[None] | None = None
        """Brings to its end what nobody waits for any more: a job, or what takes back the work of several."""
        self.trip: SharedTrip | None = None
        """The job is a trip of many tasks' statements."""
        self.pending: tuple[str, ...] = ()
        """What begins the transaction; it goes along with the first statement."""
        self.begun: Literal["", "read", "write"] = ""
        """The kind of transaction that the driver has begun, pending or not."""
        self.failed = False
        """Several statements failed together inside the transaction: only a rollback makes it whole again."""
        self.streams: set[Stream] = set()
        self.changed = False
        """The session was changed in a way that a reset can undo."""
        self.tainted = False
        """The session was changed in a way that only a new connection is free of."""
        self.touched = False
        """The native connection is or was in other hands, and aiosqlite's thread may be at work for them. A reset ends
        that, but for `pool.reset = "transaction"`, which leaves them what they have."""
        self.broken = False
        self._aborted = False
        self._given_up = threading.Event()
        self._handover = threading.Lock()
        self._opened: Native | None = None
        self._pid = os.getpid()
        self._beginning = asyncio.Lock()
        super().__init__(self._open, 64)

    def _open(self) -> sqlite3.Connection:
        """Runs in aiosqlite's thread."""
        self.thread = threading.current_thread()
        opened = open_native(self.home.place, self.settings, self._given_up)
        native, self.snapshot, self.file = opened.native, opened.snapshot, opened.file
        with self._handover:
            self.native = self._opened = native
            if self._given_up.is_set():
                native.close()
        return native

    def opened(self, name: str) -> None:
        """Aiosqlite is through with opening it: statements may come."""
        try:
            self.worker = self.native.worker = Worker(self.home.bell, name)
        except BaseException:  # no thread is to be had
            self.stop()
            raise
        self.parted = False

    def give_up(self) -> None:
        """Leave a connect alone: what it has opened is closed, and so is what it will open."""
        with self._handover:
            self._given_up.set()
        if self._opened is not None:
            self._opened.close()

    # -- running -------------------------------------------------------------------------------------------------------

    async def run(
        self, work: Callable[..., Any], *arguments: Any, interruptible: bool = True, last: bool = False
    ) -> Any:
        """Run `work(native, *arguments)` in a worker, in one hop, with the BEGIN that is pending.

        With `last` the lane goes on when the work is submitted: whatever the next writer does is run behind it. If it
        fails and leaves the transaction open, the next one finds the database locked and tries again, as if it were
        another process that holds the lock.

        Cancelled, it ends the work and waits for its end; cancelled again, it leaves that to a task. The next use of
        the connection waits for that task.
        """
        if self.ending is not None:
            await self.quiet()
        if self.touched:
            await self._native_done()
        if self.parted:
            raise _closed()
        writes = self.lane.owner is self
        worker = self.home.writer if writes else self.worker
        last = last and writes and not self.touched and not self.streams
        future: asyncio.Future[Any] = self.loop.create_future()
        self.job = job = Job(self.native, work, arguments, self.pending, future, interruptible=interruptible, last=last)
        worker.submit(job)
        if last:
            self.lane.give(self)
        try:
            return await future
        except asyncio.CancelledError as error:
            if not job.ended:
                job.cancelled = True
                self.ending = self.loop.create_task(self._end(job))
                await asyncio.shield(self.ending)
            if job.done:
                raise error from CancelledTooLate("the work was done before it could be interrupted")
            raise
        except GeneratorExit:  # the coroutine is thrown away: its loop is closed
            job.cancelled = True
            raise
        except (ValueError, sqlite3.Error) as error:
            if not self.is_open:
                raise _closed() from error
            self.broken = self.broken or breaks_connection(error)
            raise
        finally:
            if job.begun:
                self.pending = ()

    async def _native_done(self) -> None:
        """Wait for what was sent to aiosqlite's own thread, cancelled or not.

        Two threads inside of one connection could wait for each other: one has SQLite's lock and wants the GIL, the
        other one the GIL and wants SQLite's lock.
        """
        try:
            await self._native_turn()
        except asyncio.CancelledError:
            # aiosqlite's thread will report to the loop all the same, and the loop must not be closed by then.
            with suppress(TimeoutError, DbConnectionError):
                async with asyncio.timeout(PATIENCE):
                    await self._native_turn()
            raise

    async def _native_turn(self) -> None:
        try:
            await self._send(_nothing)
        except ValueError as error:
            if not self.is_open:
                raise _closed() from error

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Everything that aiosqlite itself does comes through here.

        A BEGIN that is pending goes first, or what is done through `native` would be outside of the transaction.
        """
        if self.pending:
            async with self._beginning:  # several may be sent at once
                if self.pending:
                    await self.work(_nothing)
        return await self._send(fn, *args, **kwargs)

    async def _send(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        send: Any = super()._execute  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (as in stop)
        return await send(fn, *args, **kwargs)

    async def work(self, work: Callable[..., Any], *arguments: Any, ends: bool = False) -> Any:
        """Run work that is done whole or not at all, and wait for locks that other processes hold.

        Inside of a transaction a lock is an error at once, for whoever holds it may wait for this transaction. Only
        what `ends` it is done again there, and the first read: before that it holds nothing that anybody waits for.
        """
        alone = ends or not self.inside
        begins = self.pending
        try:
            return await self.run(work, *arguments, last=ends and not self.lane.everything)
        except sqlite3.OperationalError as error:
            if not alone or not is_busy(error) or not self._may_wait(begins, ends=ends):
                raise
        deadline = self.loop.time() + self.settings.busy_timeout
        pause = 0.0005
        while True:
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.025)
            try:
                return await self.run(work, *arguments)
            except sqlite3.OperationalError as error:
                if not is_busy(error) or self.loop.time() > deadline or not self._may_wait(begins, ends=ends):
                    raise

    def _may_wait(self, begins: tuple[str, ...], *, ends: bool) -> bool:
        """Whether what met a lock may be done again; `begins` went along with it."""
        if ends or self.pending:
            return True
        if self.inside:
            return bool(begins) and self.begun == "read"
        return not self.begun  # else SQLite has rolled back: done again, it would be done outside of the transaction

    async def _end(self, job: Job) -> None:
        """Bring a job to its end: the interrupt is repeated, for it hits only what runs at that moment."""
        pause = 0.0002
        deadline: float | None = None
        while not job.ended and (deadline is None or self.loop.time() < deadline):
            self._interrupt(job)
            try:
                await asyncio.sleep(pause)
            except asyncio.CancelledError:  # the loop is closing, and later on nobody would interrupt
                deadline = self.loop.time() + PATIENCE
            pause = min(pause * 2, 0.02)
        if job.ended and job.started and job.interruptible:
            # An interrupt stays in force while any statement of the connection is open.
            for stream in tuple(self.streams):
                stream.cut_off()
        if job.begun:
            self.pending = ()
        if self.ending is asyncio.current_task():  # else something has to be taken back behind this
            self.ending = None
        self.settle()

    def _interrupt(self, job: Job) -> None:
        """In the event loop's thread, while the next job cannot have begun; nothing else can be hit then."""
        if job.started and job.interruptible and not job.ended:
            with suppress(sqlite3.ProgrammingError):  # closed by an abort
                self.native.interrupt()

    async def quiet(self) -> None:
        """Wait until nothing runs here that somebody has left behind."""
        while (ending := self.ending) is not None and not ending.done() and ending is not asyncio.current_task():
            await asyncio.wait([ending])

    async def take_back(self, undo: Callable[[Connection], Awaitable[Any]]) -> None:
        """Undo what several jobs have done, and wait for that. It goes on when the caller is cancelled meanwhile.

        Whatever comes next on the connection waits for it.
        """
        before = self.ending

        async def behind() -> None:
            if before is not None:
                await asyncio.wait([before])
            try:
                await undo(self)
            finally:
                if self.ending is asyncio.current_task():
                    self.ending = None

        self.ending = ending = self.loop.create_task(behind())
        ending.add_done_callback(look_at_failure)
        await asyncio.shield(ending)

    # -- state ---------------------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        if self.parted or not self.thread.is_alive():
            return False
        try:
            return self.native.total_changes >= 0
        except sqlite3.ProgrammingError:
            return False

    @property
    def is_quiet(self) -> bool:
        """No job is outstanding."""
        return self.job is None or self.job.ended

    @property
    def is_unwanted(self) -> bool:
        """Nobody waits any more for the job that runs."""
        return self.job is not None and self.job.cancelled

    @property
    def inside(self) -> bool:
        """A transaction is open in the database, whoever began it. Only a quiet connection knows."""
        try:
            return self.native.in_transaction
        except sqlite3.ProgrammingError:
            return False

    def check(self, first: str = "") -> None:
        """Refuse a statement that would run outside of the transaction that it belongs to."""
        if self.begun and not self.pending:
            if self.parted or not self.inside:
                if not self.is_open:
                    raise lost_in_transaction()
                raise TransactionError(
                    "the transaction is over: SQLite rolled it back when a statement failed or was cancelled, or a "
                    "text said COMMIT or ROLLBACK; leave the transaction block and begin anew"
                )
            if self.failed and first != "ROLLBACK":
                raise TransactionError(
                    "the transaction failed: of several statements sent together one failed; "
                    "roll it back, or back to a savepoint"
                )

    def settle(self) -> None:
        """Give the lane back if nothing is left that needs it."""
        if (
            self.lane.owner is self
            and not self.begun
            and self.is_quiet
            and not self.inside
            and not any(stream.holds_lane for stream in self.streams)
        ):
            self.lane.give(self)

    # -- parting -------------------------------------------------------------------------------------------------------

    def stop(self) -> asyncio.Future[None] | None:
        """Close behind what runs now, and end both threads."""
        self.parted = True
        if self._opened is not None:
            self._opened.latest = self.job
        return super().stop()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType] (aiosqlite's is bare)

    async def close(self) -> None:
        """Wait for the running statement, close, and end both threads. Harmless when called twice."""
        if self.parted:
            return
        self.parted = True
        try:
            await self.quiet()
            ended = self.stop()
            if ended is not None and self.thread.is_alive():
                await ended
                while self.thread.is_alive():  # noqa: ASYNC110 (microseconds, and a thread sets no event of a loop)
                    await asyncio.sleep(0)
        finally:
            self.lane.give(self)

    def abort(self) -> None:
        """Drop the connection at once: the running statement is interrupted, and its threads close and end behind it.

        Waits for nothing, may be called from any thread, and with the event loop closed.
        """
        if self._aborted:
            return
        self._aborted = self.parted = True
        if os.getpid() != self._pid:
            _INHERITED.append(self.native)
            return
        if sys.is_finalizing():  # the threads end too, and none can begin: 3.11 would wait for one for ever
            return
        threading.Thread(target=self._drop, name="dbcore-sqlite abort", daemon=True).start()

    def _drop(self) -> None:
        """Runs in a thread of its own, where aiosqlite finds no event loop to report to."""
        job = self.job
        pause = 0.0005
        while job is not None and not job.ended and self.thread.is_alive():
            job.cancelled = True
            self._interrupt(job)
            time.sleep(pause)
            pause = min(pause * 2, 0.05)
        self.stop()
        self.thread.join()
        self.native.close()  # aiosqlite's thread has not, if it died with its loop
        with suppress(RuntimeError):  # the loop is closed, and nobody is left in the lane
            self.loop.call_soon_threadsafe(self.lane.give, self)

    def __del__(self) -> None:
        """Keep no thread alive when nobody refers to the connection any more; the pool has warned about itself."""
        if not self.parted:
            self.abort()


def _nothing(*_: Any) -> None:
    """Only what stands before it is wanted."""


def lost_in_transaction() -> DbConnectionError:
    """The error for a transaction whose COMMIT has not been sent."""
    message = "the connection was closed inside of a transaction; nothing of it was done"
    return DbConnectionError(message, retryable=True)


def _closed() -> DbConnectionError:
    return DbConnectionError("the connection was closed: by stop(), by a failed reset, or through `native`")
