"""One checkout, from the inside: the native connection, who is using it right now, and what it may not do at present.

`Connection`, `Transaction` and `Stream` are the faces of this; users never see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from dbcore.access import Access
from dbcore.driver import Result
from dbcore.errors import UsageError
from dbcore.places import describe
from dbcore.pool import Release

if TYPE_CHECKING:
    from dbcore.transaction import Transaction

__all__ = ["Session"]

C = TypeVar("C")
T = TypeVar("T")


class Session(Generic[C]):
    """Belongs to one task at a time, and refuses everything before its checkout and after its release."""

    __slots__ = ("_gate", "_native", "_release", "_released_at", "access", "busy", "levels", "refusing")

    def __init__(self, access: Access[C]) -> None:
        self.access = access
        self._native: C | None = None
        self._release: Release | None = None
        self._gate: Release | None = None
        self._released_at: tuple[CodeType, int] | None = None
        self.busy: asyncio.Task[Any] | None = None
        """The task that runs a statement at this moment."""
        self.refusing: str | None = None
        """Why statements are refused, though the connection is held."""
        self.levels: list[Transaction[C]] | None = None
        """Open transaction and savepoints, outermost first; `None` until there is one."""

    # -- checkout and release ------------------------------------------------------------------------------------------

    async def take(self, timeout: float | None, *, writing: bool = False) -> None:
        """Check a connection out. One that will write passes the pool's gate first, where there is one."""
        if self._native is not None or self._released_at is not None:
            message = "a connection is taken by one `async with`, once; call database.connection() for another one"
            raise self.access.own(UsageError(message))
        if writing:
            timeout = await self._pass_gate(timeout)
        try:
            taken = self.access.try_checkout()
            if taken is None:
                taken = await self.access.checkout(timeout)
        except BaseException:
            self._leave_gate()
            raise
        self._native, self._release = taken

    async def _pass_gate(self, timeout: float | None) -> float | None:
        """Wait to be admitted; return what is left of the timeout for the checkout."""
        access = self.access
        admit = access.running().admit
        if admit is None:
            return timeout
        now = asyncio.get_running_loop().time
        limit = access.config.pool.checkout_timeout if timeout is None else timeout
        deadline = now() + limit
        try:
            self._gate = await admit(limit)
        except Exception as error:
            access.fail(error)
        return deadline - now()

    def _leave_gate(self) -> None:
        gate, self._gate = self._gate, None
        if gate is not None:
            gate()

    def let_go(self, frame: FrameType) -> None:
        """Release the connection; `frame` is the place to name when somebody uses it afterwards."""
        release = self._release
        if release is not None:
            self._released_at = frame.f_code, frame.f_lasti
            self._native = self._release = None
            release()
            if self._gate is not None:
                self._leave_gate()

    @property
    def state(self) -> str:
        return "in use" if self._native is not None else "released" if self._released_at else "not taken yet"

    # -- use -----------------------------------------------------------------------------------------------------------

    def held(self) -> C:
        """The native connection, for a look at its local state."""
        if self._native is None:
            raise self.misuse()
        return self._native

    async def query(self, sql: str, text: str, values: Sequence[Any], timeout: float | None) -> Result:
        """Run one statement, alone: the path that nearly everything takes, hence without closures."""
        access, native = self.access, self._native
        if native is None or self.busy is not None or self.refusing is not None:
            raise self.misuse()
        if timeout is not None:
            access.check_timeout(timeout)
        self.busy = asyncio.current_task()
        try:
            return await access.run(access.query(native, text, values), sql, timeout)
        finally:
            self.busy = None

    async def run(self, operation: Callable[[C], Awaitable[T]], sql: str | None, timeout: float | None = None) -> T:
        """Run one operation of the driver, alone."""
        native = self._native
        if native is None or self.busy is not None or self.refusing is not None:
            raise self.misuse()
        if timeout is not None:
            self.access.check_timeout(timeout)
        self.busy = asyncio.current_task()
        try:
            return await self.access.run(operation(native), sql, timeout)
        finally:
            self.busy = None

    def misuse(self) -> UsageError:
        """The error for a use that is refused now, with the reason and the cure."""
        if self._native is None and self._released_at is not None:
            place = describe(*self._released_at)
            message = f"this connection was released at {place}; use it inside its `async with` block"
        elif self._native is None:
            message = "this connection was not taken yet: `async with database.connection() as connection:`"
        elif self.busy is not None:
            task = asyncio.current_task()
            message = (
                f"task {task.get_name() if task else '(none)'} used a connection on which task {self.busy.get_name()} "
                "is running a statement; give each task a connection of its own"
            )
        else:
            message = f"this connection takes no statement now: {self.refusing}"
        return self.access.own(UsageError(message))
