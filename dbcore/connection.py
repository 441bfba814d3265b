"""What the application holds between checkout and release."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from dbcore.access import Access
from dbcore.driver import Isolation, Result
from dbcore.errors import UsageError
from dbcore.places import frame_at
from dbcore.querying import Querying
from dbcore.session import Session
from dbcore.transaction import Transaction

__all__ = ["Connection"]

C = TypeVar("C")
T = TypeVar("T")


class Connection(Querying[C], Generic[C]):
    """One connection of the pool, for one task at a time. Made by `database.connection()`, taken by `async with`.

    It is released on every way out of the block, and refuses everything afterwards.
    """

    __slots__ = ("_access", "_session", "_timeout")

    def __init__(self, access: Access[C], timeout: float | None = None) -> None:
        self._access = access
        self._session = Session(access)
        self._timeout = timeout

    async def __aenter__(self) -> Self:
        await self._session.take(self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.let_go(frame_at(1))

    # -- what it is ----------------------------------------------------------------------------------------------------

    @property
    def native(self) -> C:
        """The driver's own connection, for what dbcore does not offer.

        What is done through it is not seen by dbcore, so the session counts as changed and is reset on release
        (unless `pool.reset` is `"transaction"`).
        """
        native = self._session.held()
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
        return bool(self._session.levels) if status is None else status(self._session.held()) != "idle"

    def __repr__(self) -> str:
        return f"<Connection of {self._access.name!r} ({self.driver}), {self._session.state}>"

    # -- transactions --------------------------------------------------------------------------------------------------

    def transaction(self, isolation: Isolation | None = None, read_only: bool = False) -> Transaction[C]:
        """Open a transaction, or inside of one a savepoint: `async with connection.transaction() as tx:`.

        Commits when the block ends, rolls back on any exception, and raises `TransactionError` where an error inside
        has doomed it. The rollback is awaited before the block is left, also when the task is cancelled; a second
        cancellation leaves at once and the connection is reset before anybody else gets it. Savepoints are strictly
        last in, first out. `isolation` and `read_only` belong to the outermost one.
        """
        return Transaction(self, self._session, isolation, read_only=read_only)

    def pinned_transaction(self, isolation: Isolation | None, *, read_only: bool) -> Transaction[C]:
        """A transaction that takes this connection when it begins and releases it when it ends."""
        return Transaction(self, self._session, isolation, read_only=read_only, owned=True, timeout=self._timeout)

    async def rollback(self) -> None:
        """End the innermost transaction or savepoint now, without an exception; its block must be left then."""
        if not self._session.levels:
            message = "no transaction is open on this connection; `tx.rollback()` belongs inside of one"
            raise self._access.own(UsageError(message))
        await self._session.levels[-1].roll_back()

    # -- inside --------------------------------------------------------------------------------------------------------

    async def _query(self, sql: str, text: str, values: Sequence[Any], timeout: float | None) -> Result:
        return await self._session.query(sql, text, values, timeout)

    async def _together(
        self, operation: Callable[[C], Awaitable[T]], sql: str | None, timeout: float | None, *, apart: bool = False
    ) -> T:
        if not apart and not self._session.levels:
            async with self.transaction():
                return await self._session.run(operation, sql, timeout)
        try:
            return await self._session.run(operation, sql, timeout)
        except BaseException as error:
            if self._session.levels:
                self._session.levels[-1].doom(error)
            raise

    def _streaming(self) -> tuple[Session[C], bool]:
        return self._session, False
