"""How a promise looks at what came: each check says in words what was promised, for reports that nobody rewrites."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

from dbcore.errors import UnsupportedError

__all__ = [
    "PATIENCE",
    "Caught",
    "Mine",
    "cancelled",
    "check",
    "ends_cancelled",
    "raises",
    "reached",
    "same",
    "shown",
    "turns",
    "until",
]

E = TypeVar("E", bound=BaseException)
T = TypeVar("T")

PATIENCE = 10.0
"""Seconds that something may take which happens elsewhere: at the server, in a background task."""


class Mine(Exception):
    """What a promise raises where an application would raise something of its own."""


def check(condition: object, promised: str) -> None:
    """Fail with `promised`, a sentence that says what should have been and what was, unless `condition` holds."""
    if not condition:
        raise AssertionError(promised)


def same(found: object, wanted: object, what: str) -> None:
    """Fail unless `found` equals `wanted`; `what` names what was looked at."""
    if found != wanted:
        raise AssertionError(f"{what}: promised was {wanted!r:.300}, and {found!r:.300} came")


class Caught(Generic[E]):
    """Has the error, after the block of `raises`."""

    error: E


@contextlib.contextmanager
def raises(kind: type[E], what: str) -> Generator[Caught[E], None, None]:
    """Expect the block to raise an error of this kind, and keep it.

    What a driver says it cannot do goes through as it is: whoever judges the promise wants to know.
    """
    caught = Caught[E]()
    try:
        yield caught
    except kind as error:
        caught.error = error
        return
    except (AssertionError, UnsupportedError):
        raise
    except Exception as error:
        message = f"{what}: {kind.__name__} was promised, and {type(error).__name__} came: {error}"
        raise AssertionError(message) from error
    raise AssertionError(f"{what}: {kind.__name__} was promised, and nothing was raised")


def shown(error: BaseException) -> str:
    """All of an error that may land in a log, its causes apart."""
    return f"{error!s} {error!r} {error.args} {getattr(error, '__notes__', '')}"


async def until(condition: Callable[[], object], promised: str) -> None:
    """Wait until something holds that no event tells of, and fail where it does not come true."""
    try:
        async with asyncio.timeout(PATIENCE):
            while not condition():  # noqa: ASYNC110  # what others do, the server too, can only be looked for
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"{promised}; it did not come true in {PATIENCE:g} s") from None


async def reached(event: asyncio.Event, task: asyncio.Task[Any]) -> None:
    """Wait until a task has set an event. One that ended before it came so far raises what it ended with."""
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait([waiting, task], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not event.is_set():
        task.result()
        raise AssertionError(f"task {task.get_name()} ended before it came so far")


def ends_cancelled(task: asyncio.Task[Any], what: str) -> None:
    """Fail unless a task that has ended was cancelled."""
    if task.cancelled():
        return
    error = task.exception()
    came = f"returned {task.result()!r:.100}" if error is None else f"raised {type(error).__name__}: {error}"
    raise AssertionError(f"{what} that is cancelled ends with CancelledError, and {came}") from error


async def turns(count: int) -> None:
    """Let the event loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


async def cancelled(
    work: Coroutine[Any, Any, T], after: int, *, seconds: float = 0.0, again_after: int | None = None
) -> asyncio.Task[T]:
    """Start something, cancel it some turns of the event loop and some seconds later, and wait until it has ended."""
    task = asyncio.ensure_future(work)
    await turns(after)
    if seconds:
        await asyncio.wait([task], timeout=seconds)
    task.cancel()
    if again_after is not None:
        await turns(again_after)
        task.cancel()
    await asyncio.wait([task])
    return task
