"""Statements of many tasks in one trip: one pipeline, and a sync behind each statement.

Each is a transaction of its own, so its error, and a cancel that hits it, stay with it alone. Results are taken in
where the event loop sees that something can be read: no task has to be woken for them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.errors import InvalidSqlStatementName

from dbcore.driver import Report, Result
from dbcore_postgres.cancelling import PATIENCE, tell
from dbcore_postgres.connection import OK, RETIRED, Connection
from dbcore_postgres.errors import is_stale
from dbcore_postgres.libpq import send_sync
from dbcore_postgres.prepared import Key, Seen
from dbcore_postgres.statements import bind, freeing, read
from dbcore_postgres.wire import FATAL, SYNC, refusal

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["SharedTrip"]

Outcome = Result | BaseException | None

_AT_ONCE = 256
"""Statements that are on their way at a time. The others follow as results come, so that neither side has to keep much,
and the event loop is not held up."""

_AT_A_TIME = 16
"""Statements that are handed over together: the server begins while the others are still being made."""

_CANCELLED = "57014"
_CHORE = -1
"""In place of the number of a statement: something that the trip does for itself."""


class SharedTrip:
    """One trip, while it is under way."""

    def __init__(self, connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]], report: Report) -> None:
        self.reported = 0
        """How many statements have been reported; the next one is the one that runs, as far as is known here."""
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.telling: list[asyncio.Task[None]] = []
        """Requests to cancel that were sent."""
        self._connection = connection
        self._pgconn = connection.pgconn
        self._statements = statements
        self._report = report
        self._sent = 0
        # The statement's number, what is known of it if it was sent by its name, and what follows a chore.
        self._flying: deque[tuple[int, Seen | None, Callable[[PGresult], None] | None]] = deque()
        self._answer: PGresult | None = None
        self._early: dict[int, Outcome] = {}
        """Outcomes that wait for those of statements before them."""
        self._preparing: set[Key] = set()
        self._freed = False
        """What was unwanted when the first one was prepared is freed; the rest is left to the next trip."""
        self._writing = False
        self._watchers: list[asyncio.Future[None]] = []

    # -- sending -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Send what can go at once, and take in results from now on."""
        connection, pgconn = self._connection, self._pgconn
        connection.trip = self
        connection.waiter = self.ended
        if connection.chunked:
            # libpq would still be in the mode of the stream for the first command; let that be an empty one.
            connection.chunked = False
            pgconn.send_query_params(b"", None)
            self._fly(_CHORE)
        connection.ear.listen(self._readable)
        self._go_on()

    def _go_on(self) -> None:
        statements, flying = self._statements, self._flying
        while self._sent < len(statements) and len(flying) < _AT_ONCE:
            self._sent += 1
            self._send(self._sent - 1)
            if not self._sent % _AT_A_TIME:
                self._flush()
        self._flush()
        if not flying and self._sent == len(statements):
            self._connection.trip = None
            self.ended.set_result(None)

    def _send(self, number: int) -> None:
        connection, pgconn = self._connection, self._pgconn
        prepared = connection.prepared
        sql, params = self._statements[number]
        try:
            values, types, formats = bind(connection, params)
            key = (sql, types)
            seen = prepared.get(key)
            known = seen is not None
            if seen is None:
                seen = prepared.add(key)
        except Exception as error:  # whatever a dumper raises: the neighbours have no part in it
            self._done(number, error)
            return
        name = seen.name
        if name is not None:
            prepared.used(key)
            pgconn.send_query_prepared(name, values, formats, seen.format)
            send_sync(pgconn)
            self._flying.append((number, seen, None))
            return
        try:
            pgconn.send_query_params(seen.text, values, types or None, formats)
        except psycopg.OperationalError as error:
            if pgconn.status != OK:
                raise
            self._done(number, error)  # libpq itself refuses it: too many parameters
            return
        self._fly(number)
        if known and key not in self._preparing:
            self._prepare(key, seen)

    def _prepare(self, key: Key, seen: Seen) -> None:
        """Prepare a text for the next time, in segments of their own: if it fails, no statement fails with it."""
        prepared = self._connection.prepared
        if not self._freed:
            self._freed = True
            for send, taker, _ in freeing(self._connection):
                send()
                self._fly(_CHORE, taker)
        self._preparing.add(key)
        name = prepared.next_name()
        self._pgconn.send_prepare(name, seen.text, key[1] or None)
        self._fly(_CHORE, partial(prepared.made, key, seen, name))

    def _fly(self, number: int, then: Callable[[PGresult], None] | None = None) -> None:
        send_sync(self._pgconn)
        self._flying.append((number, None, then))

    def _flush(self) -> None:
        """Hand over what the system takes; the rest when it takes more. What arrives meanwhile is taken in."""
        writing = bool(self._pgconn.flush())
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._connection.ear.watch_writing(self._writable)
            else:
                self._connection.ear.unwatch_writing()

    def _writable(self) -> None:
        if self.ended.done():
            return
        try:
            self._flush()
        except Exception as error:
            self._fail(error)

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        if self.ended.done():
            return
        try:
            self._pgconn.consume_input()
            self._take()
            self._go_on()
        except Exception as error:
            self._fail(error)

    def _take(self) -> None:
        pgconn, flying = self._pgconn, self._flying
        is_busy, get_result = pgconn.is_busy, pgconn.get_result
        answer = self._answer
        self._connection.follow_styles()  # no statement that may go along changes them
        while flying and not is_busy():
            result = get_result()
            if result is None:
                continue
            status = result.status
            if status != SYNC:
                if answer is None or answer.status != FATAL:
                    self._answer = answer = result
                continue
            number, seen, then = flying.popleft()
            last, self._answer, answer = answer, None, None
            if last is None:
                raise AssertionError("bug: a sync has come, and nothing before it")
            if number != _CHORE:
                self._finish(number, seen, last)
            elif then is not None and last.status != FATAL:
                then(last)

    def _finish(self, number: int, seen: Seen | None, answer: PGresult) -> None:
        connection = self._connection
        if answer.status != FATAL:
            try:
                outcome: Outcome = read(connection, answer, seen)
            except Exception as error:  # whatever a loader raises: the neighbours have no part in it
                outcome = error
            self._done(number, outcome)
            return
        refused = refusal(connection, answer)
        if refused.sqlstate == _CANCELLED and self.telling:
            # Any number of them: the server signals twice for each request, and the second may hit the next statement.
            self._done(number, None)
        elif seen is not None and is_stale(refused):
            connection.prepared.forget_names(gone=isinstance(refused, InvalidSqlStatementName))
            self._preparing.clear()
            self._send(number)  # by its text now, so it cannot be stale once more
        else:
            self._done(number, refused)

    def _done(self, number: int, outcome: Outcome) -> None:
        """Report, in order: statements that are sent once more hold back what comes after them."""
        if number != self.reported:
            self._early[number] = outcome
            return
        self.reported += 1
        self._report(number, outcome)
        while self.reported in self._early:
            self.reported += 1
            self._report(self.reported - 1, self._early.pop(self.reported - 1))
        for watcher in self._watchers:
            if not watcher.done():
                watcher.set_result(None)

    # -- ending --------------------------------------------------------------------------------------------------------

    def _fail(self, error: Exception) -> None:
        answer = self._answer
        self._connection.ear.unwatch_writing()
        try:
            if answer is not None and answer.status == FATAL and self._flying and self._flying[0][0] == self.reported:
                # A server that ends a session says why before it does.
                self._done(self.reported, refusal(self._connection, answer))
        finally:
            if not self.ended.done():
                self.ended.set_exception(error)

    def leave(self) -> None:
        """Take in nothing any more."""
        connection = self._connection
        connection.trip = None
        if connection.waiter is self.ended:  # else `abort` did the rest already
            connection.waiter = None
            connection.ear.hush()

    async def stop_running(self) -> None:
        """Stop the statement that runs, as far as is known here; return when it has been reported."""
        target = self.reported
        self._readable()
        patience = PATIENCE
        while self.reported == target and not self.ended.done():
            # Told before it has begun, the server takes no notice; so it has to be told again.
            telling = tell(self._connection)
            self.telling.append(telling)
            await asyncio.shield(telling)
            if self.reported == target and not self.ended.done():
                await self._moved(patience)
            patience *= 2

    async def _moved(self, patience: float) -> None:
        watcher: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers.append(watcher)
        try:
            await asyncio.wait([watcher, self.ended], timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watchers.remove(watcher)

    async def settle(self) -> None:
        """Wait until no request to cancel is on its way any more: it would hit what the next holder sends."""
        try:
            if self.telling:
                await asyncio.wait(self.telling)
        finally:
            if not all(
                telling.done() and not telling.cancelled() and not telling.exception() for telling in self.telling
            ):
                self._connection.marks |= RETIRED
