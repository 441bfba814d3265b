"""Transactions: commit on success, roll back on any exception, a savepoint inside of another one."""

# Members with an underscore are for inside the library; this file is inside.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import TYPE_CHECKING, Generic, TypeVar, get_args

from dbcore.access import log
from dbcore.driver import CancelledTooLate, Isolation, Savepoints
from dbcore.errors import DbConnectionError, QueryError, TransactionError, UsageError, twin
from dbcore.loops import current_task, look_at_failure
from dbcore.places import frame_at

if TYPE_CHECKING:
    from dbcore.connection import Connection

__all__ = ["Transaction"]

C = TypeVar("C")

ENDED = "its transaction was ended by rollback(); leave the block, and begin a new one for more"
ROLLING_BACK = "its transaction is being rolled back"
# Nothing but the reset, at the release, is sure to end these.
CUT_SHORT = "its task was cancelled twice and left while the rollback was still under way"
FAILED = "the rollback of its transaction failed; leave the connection's block"
STILL_USED = (
    "its transaction was left while another task was at work in it; leave the connection's block, and see to it that "
    "such tasks end inside of the transaction's"
)
DISORDERED = "its transactions were left out of order; leave the connection's block"
LOST = frozenset({CUT_SHORT, FAILED, STILL_USED, DISORDERED})
DOOMED = (
    "nothing was committed, for an error inside has doomed the transaction. Let that error leave the block, or put a "
    "savepoint (a nested transaction()) around the statement that may fail"
)
OVER = (
    "there was no transaction left to commit: a statement had ended it before, by an error that the database answers "
    "with a rollback, or by a COMMIT or ROLLBACK as text. Leave those to the block"
)

_ISOLATIONS: tuple[str, ...] = get_args(Isolation)


class Transaction(Generic[C]):
    """One level: the transaction itself, or a savepoint in it. `async with` gives the connection."""

    __slots__ = (
        "_connection",
        "_depth",
        "_doomed_by",
        "_ended",
        "_isolation",
        "_lost_by",
        "_owned",
        "_read_only",
        "_task_name",
        "_timeout",
    )

    def __init__(
        self,
        connection: Connection[C],
        isolation: Isolation | None,
        *,
        read_only: bool,
        owned: bool = False,
        timeout: float | None = None,
    ) -> None:
        self._connection = connection
        self._isolation: Isolation | None = isolation
        self._read_only = read_only
        self._owned = owned
        self._timeout = timeout
        self._depth = 0
        self._doomed_by: BaseException | None = None
        self._lost_by: DbConnectionError | None = None
        """What the rollback of a savepoint inside failed with, where that is the end of the connection."""
        self._ended = False
        self._task_name = ""

    async def __aenter__(self) -> Connection[C]:
        if not self._owned:
            await self._begin()
            return self._connection
        await self._connection._take(self._timeout, writing=not self._read_only)
        try:
            await self._begin()
        except BaseException:
            self._connection._let_go(frame_at(1))
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave()
            if self._ended:
                self._connection._refusing = None
            elif error is not None:
                await self._undo(error)
            else:
                await self._commit()
        finally:
            if self._owned:
                self._connection._let_go(frame_at(1))

    # -- begin ---------------------------------------------------------------------------------------------------------

    async def _begin(self) -> None:
        connection = self._connection
        access = connection._access
        connection._held()
        if self._task_name:
            raise access.own(UsageError("a transaction is entered once; call transaction() for another one"))
        self._depth = len(connection._levels)
        task = current_task(access.loop)
        self._task_name = task.get_name() if task is not None else "(none)"
        if self._depth:
            if self._isolation is not None or self._read_only or self._timeout is not None:
                message = "isolation, read_only and timeout belong to the outermost transaction; this is a savepoint"
                raise access.own(UsageError(message))
            await self._say(self._savepoints.to_begin(self._savepoint))
        else:
            try:
                await self._begin_outermost()
            except BaseException as error:
                # The database may have begun it all the same.
                if connection._busy is None and connection._refusing is None:
                    await self._undo(error)
                raise
        connection._levels.append(self)

    async def _begin_outermost(self) -> None:
        access = self._connection._access
        if self._isolation is not None and self._isolation not in _ISOLATIONS:
            names = ", ".join(map(repr, _ISOLATIONS))
            raise access.own(UsageError(f"there is no isolation {self._isolation!r}; there are {names}"))
        begin, wait, timeout = access.driver.begin, access.driver.wait_to_write, self._timeout
        if timeout is not None and not self._owned:  # an owned one has spent it on the way to its connection
            access.check_timeout(timeout)
            if wait is not None and not self._read_only:
                await self._connection._run_alone(lambda native: wait(native, timeout), "BEGIN")
        if begin is not None:
            await self._connection._run_alone(lambda native: begin(native, self._isolation, self._read_only), "BEGIN")
        elif self._isolation is not None or self._read_only:
            raise access.unsupported("set the isolation of a transaction or make it read-only")
        else:
            await self._say("BEGIN")

    @property
    def _savepoints(self) -> Savepoints:
        savepoints = self._connection._access.driver.savepoints
        if savepoints is None:
            raise self._connection._access.unsupported("nest transactions: its database has no savepoints")
        return savepoints

    @property
    def _savepoint(self) -> str:
        return f"dbcore_{self._depth}"

    async def _say(self, sql: str) -> None:
        await self._connection._query_alone(sql, sql, (), None)

    # -- end -----------------------------------------------------------------------------------------------------------

    def _doom(self, error: BaseException) -> None:
        """Something inside failed half way: this level must not be committed any more."""
        if self._doomed_by is None:
            self._doomed_by = error

    async def _roll_back(self) -> None:
        """End this level now; its block refuses statements from here on."""
        connection = self._connection
        if self._ended:
            message = "this transaction was rolled back already; leave its block"
            raise connection._access.own(UsageError(message))
        if connection._busy is not None or connection._refusing is not None:
            raise connection._misuse()
        await self._roll_back_shielded()
        self._ended = True
        if connection._refusing is None:
            connection._refusing = ENDED

    def _leave(self) -> None:
        """Take this level off the stack; it must be the topmost."""
        levels = self._connection._levels or []
        if levels and levels[-1] is self:
            levels.pop()
            return
        others = [level._task_name for level in levels[self._depth :] if level is not self]
        del levels[self._depth :]
        self._connection._refusing = DISORDERED
        raise self._connection._access.own(
            UsageError(
                f"transactions end last in, first out: task {self._task_name} left a block while the one opened inside "
                f"of it by task {', '.join(others) or self._task_name} was still open, or after it had been left. "
                "Give each task a connection of its own"
            )
        )

    async def _undo(self, error: BaseException) -> None:
        """Roll back because of `error`, which goes on to the caller whatever happens here."""
        connection = self._connection
        if connection._refusing in LOST:
            return
        if connection._busy is not None or connection._refusing is not None:  # a statement, a stream, a rollback
            self._lose(STILL_USED, error)
            return
        try:
            await self._roll_back_shielded()
        except Exception as failure:
            log.warning("database %s: rollback failed: %s", connection._access.name, type(failure).__name__)
            error.add_note(
                f"The rollback failed too ({type(failure).__name__}). The connection takes no more statements, and is "
                "made clean or replaced when it is released."
            )

    async def _commit(self) -> None:
        connection = self._connection
        access = connection._access
        doom = self._doomed_by
        status = access.driver.transaction_status
        state = "open" if status is None else status(connection._held())
        if doom is not None or state != "open":
            lost = self._lost_by
            over = TransactionError(OVER if doom is None and state == "idle" else DOOMED)
            error = over if lost is None else twin(lost)
            await self._undo(error)
            raise access.own(error) from doom
        try:
            if self._depth:
                for text in self._savepoints.to_release(self._savepoint):
                    await self._say(text)
            elif access.driver.commit is not None:
                await connection._run_alone(access.driver.commit, "COMMIT")
            else:
                await self._say("COMMIT")
        except BaseException as error:
            if self._depth and isinstance(error.__cause__, CancelledTooLate):
                connection._levels[-1]._doom(error)  # there is no savepoint to go back to any more
            else:
                await self._undo(error)
            raise

    async def _roll_back_shielded(self) -> None:
        """Roll back in a task of its own and wait for it. A cancellation meanwhile leaves; the rollback goes on."""
        connection = self._connection
        task = connection._access.spawn(self._roll_back_through(connection._held()))
        # What another task sent meanwhile would come behind the ROLLBACK, and be on its own.
        connection._refusing = ROLLING_BACK
        try:
            await asyncio.shield(task)
        except BaseException as caught:
            error = connection._access.translate(caught) if isinstance(caught, Exception) else caught
            if not task.done():
                self._lose(CUT_SHORT, error)
                task.add_done_callback(look_at_failure)  # it shows in the reset of the connection
            elif task.cancelled() or task.exception() is not None:
                self._lose(FAILED, error)
            else:
                self._let_in_again()
            raise error  # noqa: B904  # `translate` has set the cause
        self._let_in_again()

    def _let_in_again(self) -> None:
        if self._connection._refusing is ROLLING_BACK:  # else another task has left the block meanwhile
            self._connection._refusing = None

    def _lose(self, reason: str, error: BaseException) -> None:
        """Leave what is open to the reset: no statement any more, and no level that could be committed."""
        self._connection._refusing = reason
        for level in (*self._connection._levels, self):
            level._doom(error)
            if reason is FAILED and isinstance(error, DbConnectionError):
                level._lost_by = error

    async def _roll_back_through(self, native: C) -> None:
        """Roll back this level; where that fails, or nobody waits for it, all of the transaction.

        The levels around it cannot be committed then. Who holds the connection on must not keep the transaction open.
        """
        connection = self._connection
        outermost = connection._levels[0] if self._depth else None
        whole = True
        try:
            await self._roll_back_now(native)
            whole = connection._refusing is CUT_SHORT
        finally:
            if whole and outermost is not None and connection._native is native:  # not released meanwhile
                with contextlib.suppress(Exception):
                    await outermost._roll_back_now(native)

    async def _roll_back_now(self, native: C) -> None:
        access = self._connection._access
        limit = access.config.pool.reset_timeout
        scope = asyncio.timeout(limit)
        try:
            async with scope:
                await self._roll_back_at_once(native)
        except TimeoutError as error:
            if not scope.expired():
                raise
            raise DbConnectionError(f"the rollback took longer than pool.reset_timeout = {limit:g} s") from error

    async def _roll_back_at_once(self, native: C) -> None:
        access = self._connection._access
        driver = access.driver
        if self._depth and driver.transaction_status is not None and driver.transaction_status(native) == "idle":
            return  # the database has rolled back all of it, savepoints and all
        if self._depth:
            for text in self._savepoints.to_undo(self._savepoint):
                await driver.query(native, text, ())
        elif driver.rollback is not None:
            await driver.rollback(native)
        else:
            try:
                await driver.query(native, "ROLLBACK", ())
            except Exception as error:
                # Some databases refuse it where a failure has ended the transaction already.
                status = "idle" if driver.transaction_status is None else driver.transaction_status(native)
                if status != "idle" or not isinstance(access.translate(error), QueryError):
                    raise
