"""One checkout, from the inside: the native connection, who is using it right now, and what it may not do at present.

`Connection` is one, with a public face; `Transaction` and `Stream` work on one.
"""

# Members with an underscore are for inside the library; this file is inside.
# ruff: noqa: SLF001
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore import refusals
from dbcore.access import Access
from dbcore.driver import Result
from dbcore.errors import DbError, UsageError, twin
from dbcore.loops import current_task
from dbcore.places import describe, outside
from dbcore.pool import FORKED, Hold, NotLent, Release

if TYPE_CHECKING:
    from dbcore.transaction import Transaction

__all__ = ["BEFORE", "UNUSED", "Loan"]

C = TypeVar("C")
T = TypeVar("T")


class _Released(NotLent):
    """Where a connection that had been used was released."""

    __slots__ = ("code", "instruction")

    def __init__(self, code: CodeType, instruction: int) -> None:
        self.code = code
        self.instruction = instruction


BEFORE, WAITING, UNUSED = NotLent(), NotLent(), NotLent()
"""Where a hold stands that has no connection; one that was released after use has the place in its stead."""


class Loan(Hold[C], Generic[C]):
    """Belongs to one task at a time, and refuses everything before its checkout and after its release.

    What it was lent is looked at with the first use: a connection that nobody has used needs no check when it comes
    back. The members that end with that first use are set then.
    """

    __slots__ = ("_access", "_busy", "_gate", "_levels", "_native", "_refusing")

    _busy: asyncio.Task[Any] | None
    """The task that runs a statement at this moment."""
    _refusing: str | None
    """Why statements are refused, though the connection is held."""
    _gate: Release | None
    """What lets the next writer in; set by `_take`."""
    _levels: list[Transaction[C]]
    """Open transaction and savepoints, outermost first."""

    def __init__(self, access: Access[C]) -> None:
        self._access = access
        self.lent = BEFORE
        self._native: C | None = None

    # -- checkout and release ------------------------------------------------------------------------------------------

    async def _take(self, timeout: float | None, *, writing: bool = False) -> None:
        """Check a connection out. See `Access.take`."""
        if self.lent is not BEFORE:
            raise self._taken_twice()
        self._gate = None
        self.lent = WAITING  # or two tasks could wait with the same object, and the first one's connection be lost
        try:
            self._gate = await self._access.take(self, timeout, outside() + 1, writing=writing)
        finally:
            if self.lent is WAITING:
                self.lent = BEFORE

    def _let_go(self, frame: FrameType) -> None:
        """Undo `_take`."""
        self._give_back(frame)
        gate, self._gate = self._gate, None
        if gate is not None:
            gate()

    def _give_back(self, frame: FrameType) -> None:
        """Release the connection; `frame` is the place to name when somebody uses it afterwards."""
        if self._native is None:
            self._access.take_back_unused(self, UNUSED)
        else:
            self._native = None
            self._access.take_back(self, _Released(frame.f_code, frame.f_lasti))

    @property
    def _state(self) -> str:
        if not isinstance(self.lent, NotLent):
            return "in use"
        return "not taken yet" if self.lent in (BEFORE, WAITING) else "released"

    def _cut_off(self, place: NotLent) -> None:
        super()._cut_off(place)
        self._native = None

    # -- use -----------------------------------------------------------------------------------------------------------

    def _held(self) -> C:
        """The native connection, for its first use or for a look at its local state."""
        native = self._native
        if native is None:
            if isinstance(self.lent, NotLent):
                raise self._misuse()
            native = self._native = self.lent.connection
            self._busy = self._refusing = None
            self._levels = []
        return native

    async def _query_alone(self, sql: str, text: str, values: Sequence[Any], timeout: float | None) -> Result:
        """Run one statement, alone: the path that nearly everything takes, hence without closures."""
        access = self._access
        native = self._native
        if native is None:
            native = self._held()
        elif self._busy is not None or self._refusing is not None:
            raise self._misuse()
        if timeout is not None:
            access.check_timeout(timeout)
        task = self._busy = current_task(access.loop)
        if task is None:
            access.refuse_other_loops()
        try:
            return await access.run(access.query(native, text, values), sql, timeout)
        except Exception as error:
            access.fail(error, sql)
        finally:
            self._busy = None

    async def _run_alone(
        self, operation: Callable[[C], Awaitable[T]], sql: str | None, timeout: float | None = None
    ) -> T:
        """Run one operation of the driver, alone."""
        access = self._access
        native = self._held()
        if self._busy is not None or self._refusing is not None:
            raise self._misuse()
        if timeout is not None:
            access.check_timeout(timeout)
        task = self._busy = current_task(access.loop)
        if task is None:
            access.refuse_other_loops()
        try:
            return await access.run(operation(native), sql, timeout)
        except Exception as error:
            access.fail(error, sql)
        finally:
            self._busy = None

    def _taken_twice(self) -> UsageError:
        message = "a connection is taken by one `async with`, once; call database.connection() for another one"
        return self._access.own(UsageError(message))

    def _misuse(self) -> DbError:
        """The error for a use that is refused now, with the reason and the cure."""
        if isinstance(self.lent, _Released):
            place = describe(self.lent.code, self.lent.instruction)
            message = f"this connection was released at {place}; use it inside its `async with` block"
        elif self.lent is UNUSED:
            message = "this connection was released at the end of its block; use it inside its `async with` block"
        elif self.lent is FORKED:
            return self._access.own(refusals.forked(self._access.name))
        elif self.lent in (BEFORE, WAITING):
            message = "this connection was not taken yet: `async with database.connection() as connection:`"
        elif self._busy is not None:
            task = asyncio.current_task()
            message = (
                f"task {task.get_name() if task else '(none)'} used a connection on which task {self._busy.get_name()} "
                "is running a statement; give each task a connection of its own"
            )
        else:
            for level in self._levels:
                if level._lost_by is not None:  # as a savepoint was rolled back
                    return twin(level._lost_by)
            message = f"this connection takes no statement now: {self._refusing}"
        return self._access.own(UsageError(message))
