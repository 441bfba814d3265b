"""What the application holds between checkout and release."""

# Members with an underscore are for inside the library; this file is inside.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dbcore.driver import Isolation, Result
from dbcore.errors import UsageError
from dbcore.loan import BEFORE, UNUSED, WAITING, Loan
from dbcore.places import frame_at
from dbcore.querying import Querying
from dbcore.transaction import Transaction

__all__ = ["Connection"]

C = TypeVar("C")
T = TypeVar("T")


class Connection(Loan[C], Querying[C], Generic[C]):
    """One connection of the pool, for one task at a time. Made by `database.connection()`, taken by `async with`.

    It is released on every way out of the block, and refuses everything afterwards.
    """

    __slots__ = ("_timeout",)

    _timeout: float | None
    """For the checkout; set, with the others that a `Loan` is made with, by `Database.connection`."""

    async def __aenter__(self) -> Self:
        if self.lent is not BEFORE:
            raise self._taken_twice()
        access = self._access
        try:  # as `Access.take`, less what an empty checkout has no use for
            if not access.try_lend(self, 2):
                self.lent = WAITING  # as in `Loan._take`
                await access.lend(self, self._timeout, 2)
        except BaseException as error:
            if self.lent is WAITING:
                self.lent = BEFORE
            if isinstance(error, Exception):
                access.fail_to_connect(error)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._native is None:
            self._access.take_back_unused(self, UNUSED)
        else:
            self._give_back(frame_at(1))

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def native(self) -> C:
        """The driver's own connection, for what dbcore does not offer.

        What is done through it is not seen by dbcore, so the session counts as changed and is reset on release
        (unless `pool.reset` is `"transaction"`).
        """
        native = self._held()
        if self._access.driver.touch is not None:
            self._access.driver.touch(native)
        return native

    @property
    def driver(self) -> str:
        """Name of the driver."""
        return self._access.driver.name

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, one begun by SQL text included where the driver can tell."""
        status = self._access.driver.transaction_status
        native = self._held()
        if status is None:
            return any(not level._ended for level in self._levels)
        return status(native) != "idle"

    def __repr__(self) -> str:
        return f"<Connection of {self._access.name!r} ({self.driver}), {self._state}>"

    # -- transactions --------------------------------------------------------------------------------------------------

    def transaction(
        self, isolation: Isolation | None = None, read_only: bool = False, timeout: float | None = None
    ) -> Transaction[C]:
        """Open a transaction, or inside of one a savepoint: `async with connection.transaction() as tx:`.

        Commits when the block ends, rolls back on any exception, and raises `TransactionError` where an error inside
        has doomed it. The rollback is awaited before the block is left, also when the task is cancelled; a second
        cancellation leaves at once and the connection is reset before anybody else gets it. Savepoints are strictly
        last in, first out. `isolation`, `read_only` and `timeout` belong to the outermost one; `timeout` is how many
        seconds it may wait behind other writers, where the database has one at a time.
        """
        return Transaction(self, isolation, read_only=read_only, timeout=timeout)

    def _pinned_transaction(self, isolation: Isolation | None, *, read_only: bool) -> Transaction[C]:
        """A transaction that takes this connection when it begins and releases it when it ends."""
        return Transaction(self, isolation, read_only=read_only, owned=True, timeout=self._timeout)

    async def rollback(self) -> None:
        """End the innermost transaction or savepoint now, without an exception; its block must be left then."""
        self._held()
        if not self._levels:
            message = "no transaction is open on this connection; `tx.rollback()` belongs inside of one"
            raise self._access.own(UsageError(message))
        await self._levels[-1]._roll_back()

    # -- inside --------------------------------------------------------------------------------------------------------

    def _query(self, sql: str, text: str, values: Sequence[Any], timeout: float | None) -> Awaitable[Result]:
        return self._query_alone(sql, text, values, timeout)

    async def _together(
        self, operation: Callable[[C], Awaitable[T]], sql: str | None, timeout: float | None, *, apart: bool = False
    ) -> T:
        self._held()
        if not apart and not self._levels:
            async with self.transaction():
                return await self._run_alone(operation, sql, timeout)
        try:
            return await self._run_alone(operation, sql, timeout)
        except BaseException as error:
            if self._levels:
                self._levels[-1]._doom(error)
            raise

    def _streaming(self) -> tuple[Loan[C], bool]:
        return self, False
