"""The floor: the least that a pool can do and be correct. Idle ones in a deque, waiters as futures in another."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType

from benchmarks.contenders.contender import Contender, Opened
from benchmarks.server import Databases

__all__ = ["FLOOR"]


class Floor:
    """First come, first served, from hand to hand; nothing stands behind a connection, which is a number."""

    def __init__(self, size: int) -> None:
        self.idle = deque(range(size))
        self.waiters: deque[asyncio.Future[int]] = deque()
        self.loop = asyncio.get_running_loop()

    def checkout(self) -> Loan:
        return Loan(self)

    def impatient(self, seconds: float) -> ImpatientLoan:
        return ImpatientLoan(self, seconds)

    async def wait(self) -> int:
        waiter: asyncio.Future[int] = self.loop.create_future()
        self.waiters.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # served in the same moment
                self.release(waiter.result())
            raise

    def release(self, connection: int) -> None:
        while self.waiters:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        self.idle.append(connection)


class Loan:
    """One checkout."""

    __slots__ = ("connection", "floor")

    def __init__(self, floor: Floor) -> None:
        self.floor = floor

    async def __aenter__(self) -> int:
        floor = self.floor
        self.connection = floor.idle.pop() if floor.idle else await floor.wait()
        return self.connection

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.floor.release(self.connection)


class ImpatientLoan(Loan):
    """One checkout that gives up."""

    __slots__ = ("seconds",)

    def __init__(self, floor: Floor, seconds: float) -> None:
        super().__init__(floor)
        self.seconds = seconds

    async def __aenter__(self) -> int:
        async with asyncio.timeout(self.seconds):
            return await super().__aenter__()


async def _open(where: Databases, size: int, patience: float) -> Opened:
    floor = Floor(size)

    async def close() -> None:
        floor.idle.clear()

    return Opened(close=close, checkout=floor.checkout, impatient=floor.impatient)


FLOOR = Contender(
    name="floor",
    on="nothing",
    role="floor",
    how="a deque of idle numbers and a deque of waiting futures; no database behind it, no feature, no guard",
    open=_open,
)
