"""Virtual time: an event loop whose clock jumps to the next timer, so that hours pass in milliseconds.

The loop is asyncio's own in all but two points. It never sleeps: where another loop would wait for a timer, this one
sets its clock to it. And it never hangs: where another loop would wait for ever, because nothing is ready and no
timer is set, it raises `DeadlockError` and names the tasks that wait. So a lost wake-up is a failed test.

Code under test needs no clock of its own as long as its only clock is `loop.time()` (`asyncio.sleep`, `asyncio.timeout`
and `loop.call_at` use that one). What comes from outside of the loop has no place in virtual time: for sockets,
threads, subprocesses and signals take a real loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

__all__ = ["DeadlockError", "RunawayError", "VirtualLoop", "run", "settled", "virtual"]

P = ParamSpec("P")
T = TypeVar("T")

LIMIT = 100_000.0
TURNS = 1_000_000


class DeadlockError(AssertionError):
    """Nothing is ready and no timer is set, so the program would wait for ever: a wake-up was lost."""


class RunawayError(AssertionError):
    """The program goes on and on: past the limit of virtual time, or in circles without time passing at all."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop in virtual time, which starts at `start` seconds.

    `limit` is how many virtual seconds may pass (a lost wake-up beside a periodic timer is no deadlock; this ends it),
    `turns` how many turns of the loop in a row may pass no time; beyond either it raises `RunawayError`. The errors
    come out of `run_until_complete`, whatever the tasks catch.
    """

    def __init__(self, *, start: float = 0.0, limit: float = LIMIT, turns: int = TURNS) -> None:
        self._virtual = _Clock(start, start + limit, turns)
        super().__init__(self._virtual)

    def time(self) -> float:
        return self._virtual.now

    def idle(self) -> asyncio.Future[None]:
        """A future that is set when nothing is ready any more, before time passes."""
        future: asyncio.Future[None] = self.create_future()
        self._virtual.idlers.append(future)
        return future


class _Clock(selectors.DefaultSelector):
    def __init__(self, now: float, end: float, turns: int) -> None:
        super().__init__()
        self.now = now
        self._end = end
        self._turns = turns
        self._turn = 0
        self.idlers: list[asyncio.Future[None]] = []

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            self._turn += 1
            if self._turn > self._turns:
                msg = f"runaway: {self._turns} turns of the loop and it still is {self.now} s\n{_waiting()}"
                raise RunawayError(msg)
            return ready
        if self.idlers:
            for idler in self.idlers:
                if not idler.done():
                    idler.set_result(None)
            self.idlers.clear()
            return ready
        if timeout is None:
            tasks = _waiting()
            # A finaliser may have run just now, since the memory for that text was taken, and woken the loop.
            if ready := super().select(0):
                return ready
            msg = f"deadlock: nothing is ready and no timer is set, at {self.now} s\n{tasks}"
            raise DeadlockError(msg)
        self._turn = 0
        self.now += timeout
        if self.now > self._end:
            msg = f"runaway: it is {self.now} s and the program still goes on\n{_waiting()}"
            raise RunawayError(msg)
        return ready


def run(
    main: Coroutine[Any, Any, T] | Callable[[], Coroutine[Any, Any, T]],
    *,
    start: float = 0.0,
    limit: float = LIMIT,
    turns: int = TURNS,
) -> T:
    """Run a coroutine, or an async function, to its end in virtual time: `asyncio.run` with a `VirtualLoop`."""
    with asyncio.Runner(loop_factory=functools.partial(VirtualLoop, start=start, limit=limit, turns=turns)) as runner:
        return runner.run(main() if callable(main) else main)


def virtual(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Decorate an async test so that it runs in a virtual loop of its own, under any test runner."""

    @functools.wraps(test)
    def in_virtual_time(*args: P.args, **kwargs: P.kwargs) -> T:
        return run(test(*args, **kwargs))

    return in_virtual_time


async def settled() -> None:
    """Wait until everybody else has come as far as possible without time passing. In a virtual loop only."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, VirtualLoop):
        msg = "settled() needs a VirtualLoop: run the test with `dbcore.testing.run` or decorate it with `virtual`"
        raise TypeError(msg)
    await loop.idle()


def _waiting() -> str:
    tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
    return "\n".join(f"  task {task.get_name()} waits at {_place(task)}" for task in tasks) or "  no task is left"


def _place(task: asyncio.Task[Any]) -> str:
    """Each call that the task is in, the innermost first: `Task.get_stack` stops at the outermost."""
    calls: list[str] = []
    awaited: object = task.get_coro()
    while inspect.iscoroutine(awaited):
        frame = awaited.cr_frame
        if frame is None:
            break
        calls.append(f"{frame.f_code.co_filename}:{frame.f_lineno} in {awaited.__qualname__}")
        awaited = awaited.cr_await
    return "\n    called from ".join(reversed(calls)) or "its end"
