"""What a contender is: one way to reach a database, as a value; what it cannot do is `None` or empty."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

from benchmarks.server import Databases, Kind

__all__ = ["Contender", "Opened", "close_all", "holding", "settle"]

Checkout = Callable[[], AbstractAsyncContextManager[Any]]
Rows = Sequence[tuple[Any, ...]]

FOREVER = 600.0
"""Seconds of patience where nobody is to time out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A contender with all of its connections established."""

    close: Callable[[], Awaitable[object]]
    checkout: Checkout | None = None
    """The library's own way to take a connection: nothing of the benchmark is in the measured path."""
    impatient: Callable[[float], AbstractAsyncContextManager[Any]] | None = None
    """The same, giving up after so many seconds. `None`: the pool was opened with its patience."""
    gives_up: type[BaseException] = TimeoutError
    fetch_one: Sequence[Callable[[int], Awaitable[Any]]] = ()
    """The item with that id. One function for any number of tasks, or, without a pool, one for each connection."""
    fetch_all: Callable[[], Awaitable[Sequence[Any]]] | None = None
    """All items, as the rows that the library gives."""
    fetch_dicts: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]] | None = None
    insert_many: Callable[[Rows], Awaitable[object]] | None = None
    """Rows into `bulk`, all or nothing, by the fastest way there is."""
    insert_one: Sequence[Callable[[int], Awaitable[object]]] = ()
    """A transaction of one statement, into `notes`; as many functions as with `fetch_one`."""
    slow: Callable[[], Awaitable[object]] | None = None
    """`Databases.slow`, beside whatever else is running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """One way to reach a database."""

    name: str
    on: Kind | Literal["nothing"]
    role: Literal["ours", "pool", "raw", "floor"]
    how: str
    """What a reader has to know to judge its figures."""
    open: Callable[[Databases, int, float], Awaitable[Opened]]
    """With so many connections, all of them established, and so many seconds of patience."""
    like: str | None = None
    """Whose pool it has: what is measured of the pool alone, is measured there."""
    needs: tuple[str, ...] = ()
    """Modules that may be missing."""


@contextlib.asynccontextmanager
async def holding(checkout: Checkout, size: int) -> AsyncGenerator[Callable[[], None], None]:
    """Hold `size` connections, each in a task of its own; what is yielded lets go of them, as leaving does."""
    let_go = asyncio.Event()
    held = asyncio.Event()
    missing = size

    async def hold() -> None:
        nonlocal missing
        async with checkout():
            missing -= 1
            if not missing:
                held.set()
            await let_go.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(size):
            group.create_task(hold())
        async with asyncio.timeout(30):
            await held.wait()
        try:
            yield let_go.set
        finally:
            let_go.set()


async def close_all(connections: Sequence[Any]) -> None:
    """Close the connections of who has no pool."""
    await asyncio.gather(*(connection.close() for connection in connections))


async def settle() -> None:
    """Let the event loop turn until whoever asked for a connection has one or waits; some pools need several turns."""
    for _ in range(20):
        await asyncio.sleep(0)
