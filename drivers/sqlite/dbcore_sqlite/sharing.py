"""Statements of many tasks in one hop to the worker and one read transaction, one after the other."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from dbcore.config import Config
from dbcore.driver import Report, Result, Sharing
from dbcore.errors import DbConnectionError
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.errors import breaks_connection, code_of, is_busy
from dbcore_sqlite.settings import SqliteSettings
from dbcore_sqlite.statements import run_one
from dbcore_sqlite.values import encode
from dbcore_sqlite.words import look
from dbcore_sqlite.worker import Job, Native, Patience

__all__ = ["SharedTrip", "interrupt", "may", "run", "share"]

_SOON = 0.003
"""Seconds after which results are delivered, though the worker is not through with the others."""

_READS = frozenset({"SELECT", "VALUES", "WITH"})
_STATE = re.compile(r"last_insert_rowid|changes|load_extension", re.IGNORECASE)
"""Functions that say what was done on the connection, or change it. They are looked for in all of the text, for they
may be called by a quoted name as well."""


class SharedTrip:
    """One trip. The worker runs its statements; the event loop reports what they have come to."""

    def __init__(self, connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]], report: Report) -> None:
        self.reported = 0
        """How many statements have been reported; the next one is the one that runs, as far as the loop knows."""
        self._connection = connection
        self._report = report
        self._work = [(sql, _encoded(params)) for sql, params in statements]
        self._outcomes: list[Result | BaseException | None] = []
        """Only the worker appends to it."""
        self._unwanted = -1
        """The latest statement that was interrupted."""
        self._timer: asyncio.TimerHandle | None = None

    # -- in the worker -------------------------------------------------------------------------------------------------

    def work(self, native: Native) -> None:
        job = self._connection.job
        if job is None:
            raise AssertionError("bug: this runs as a job")
        # They were all sent before this moment, so each may see the database as it is now. To lock it for each of them,
        # and to look whether it has changed, would be half of what a short statement costs.
        if len(self._work) > 1:
            with suppress(sqlite3.Error):  # hit by an interrupt: each is on its own, then
                native.execute("BEGIN")
        try:
            for sql, params in self._work:
                if job.cancelled:
                    return
                self._outcomes.append(self._run_one(native, job, sql, params))
        finally:
            _end(native)

    def _run_one(
        self, native: Native, job: Job, sql: str, params: Sequence[Any] | Exception
    ) -> Result | BaseException | None:
        if isinstance(params, Exception):
            return params
        patience: Patience | None = None
        while self._unwanted != len(self._outcomes):
            try:
                return run_one(native, sql, params)
            except sqlite3.OperationalError as error:
                if self._unwanted >= 0 and code_of(error) == sqlite3.SQLITE_INTERRUPT:
                    return None
                patience = patience or Patience(self._connection.settings.busy_timeout)
                # Where another process keeps all readers out, nobody behind this one would fare better.
                if not is_busy(error) or job.cancelled or not patience.wait():
                    return error
            except Exception as error:  # whatever it is: the neighbours have no part in it
                return error
        return None

    # -- in the event loop ---------------------------------------------------------------------------------------------

    def deliver(self) -> None:
        """Report what is known by now."""
        outcomes = self._outcomes
        while self.reported < len(outcomes):
            outcome = outcomes[self.reported]
            if isinstance(outcome, sqlite3.Error) and breaks_connection(outcome):
                self._connection.broken = True
            self.reported += 1
            self._report(self.reported - 1, outcome)

    async def run(self) -> None:
        self._timer = self._connection.loop.call_later(_SOON, self._tick)
        try:
            await self._connection.run(self.work)
        finally:
            self._timer.cancel()
        self.deliver()
        if self.reported < len(self._work):
            raise DbConnectionError("the connection was closed while a statement was under way")

    def _tick(self) -> None:
        self.deliver()
        self._timer = self._connection.loop.call_later(_SOON, self._tick)

    async def stop_running(self) -> None:
        """Stop the statement that runs, as far as the loop knows, and return when it has ended."""
        connection, target = self._connection, self.reported
        self.deliver()
        pause = 0.0002
        while self.reported == target and connection.trip is self:
            self._unwanted = target
            if len(self._outcomes) == target:
                # It may end, and the next one begin, in this very moment: that one is then hit, and reports so.
                with suppress(sqlite3.ProgrammingError):  # closed by an abort
                    connection.native.interrupt()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 0.02)
            self.deliver()


def _end(native: Native) -> None:
    """End the transaction. An interrupt that was meant for a statement may hit this, but not twice in a row."""
    for _ in range(2):
        with suppress(sqlite3.Error):
            if native.in_transaction:
                native.execute("COMMIT")


def _encoded(params: Sequence[Any]) -> Sequence[Any] | Exception:
    try:
        return encode(params)
    except Exception as error:  # as above
        return error


def may(sql: str) -> bool:
    """Say whether a text only reads, and neither changes the session nor asks for its state."""
    kind = look(sql)
    return kind.first in _READS and not kind.writes and not kind.session and _STATE.search(sql) is None


async def run(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]], report: Report) -> None:
    """Run statements of many tasks in one hop, and report the outcome of each in order.

    Raises only when the connection is closed meanwhile. Cancelled, it ends the work and waits for its end, as `query`
    does.
    """
    await connection.quiet()
    trip = SharedTrip(connection, statements, report)
    connection.trip = trip
    try:
        await trip.run()
    finally:
        connection.trip = None


async def interrupt(connection: Connection) -> None:
    """Stop the statement that runs now, and return when it has ended; the rest of the trip goes on.

    If it ends in that moment, the next one may be hit; that one reports `None`.
    """
    if connection.trip is not None:
        await connection.trip.stop_running()


# One bus: two workers would fight over the GIL, for SQLite lets go of it at every row.
_SHARING: Sharing[Connection] = Sharing(may=may, run=run, interrupt=interrupt, buses=1)


def share(config: Config[SqliteSettings]) -> Sharing[Connection] | None:
    """Offer trips where readers stand in nobody's way, and a session may go on from one statement to the next."""
    return None if config.settings.exclusive or config.pool.reset == "full" else _SHARING
