"""What a scripted hook does when it is called: `Step`s, and the `Plan` that says which comes when."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = [
    "Gate",
    "Plan",
    "Step",
    "fails",
    "fresh",
    "hangs",
    "passes",
    "perform",
    "says_no",
    "says_yes",
    "slow",
    "waits",
]


class Gate:
    """A door that steps wait at: `open()` lets through all who wait and all who come later."""

    def __init__(self) -> None:
        self.is_open = False
        self._waiting: list[asyncio.Future[None]] = []

    @property
    def waiting(self) -> int:
        """How many steps wait at this moment."""
        return sum(not future.done() for future in self._waiting)

    def open(self) -> None:
        """Let everybody through, from now on."""
        self.is_open = True
        for future in self._waiting:
            _wake(future)
        self._waiting.clear()

    def knock(self, future: asyncio.Future[None]) -> None:
        """Set `future` when the door opens."""
        self._waiting = [other for other in self._waiting if not other.done()]
        self._waiting.append(future)


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a hook: first it takes its time, then it passes or fails.

    Plain hooks (`is_usable`, `is_clean`, `in_transaction`, `abort`) cannot take time; of a step they use `error` and
    `answer`. A step without `seconds`, `gate` and `endless` does not suspend at all.
    """

    seconds: float = 0.0
    """How long it takes."""
    gate: Gate | None = None
    """Then it takes until this is open."""
    endless: bool = False
    """Then it takes for ever."""
    error: BaseException | type[BaseException] | None = None
    """What it raises in the end."""
    after_cancel: float = 0.0
    """How long it goes on when it is cancelled, before it lets the cancellation out."""
    answer: bool | None = None
    """What a plain hook says; `None`: the truth."""


def passes() -> Step:
    """It does at once what it should."""
    return Step()


def fails(error: BaseException | type[BaseException], *, after: float = 0.0) -> Step:
    """It raises `error`, at once or after some seconds."""
    return Step(seconds=after, error=error)


def slow(seconds: float, then: Step | None = None, *, after_cancel: float = 0.0) -> Step:
    """It takes some seconds, and `after_cancel` more when it is cancelled; `then` is how it ends (else it passes)."""
    return replace(then or Step(), seconds=seconds, after_cancel=after_cancel)


def waits(gate: Gate, then: Step | None = None) -> Step:
    """It takes until `gate` is open; `then` is how it ends (else it passes)."""
    return replace(then or Step(), gate=gate)


def hangs(*, after_cancel: float = 0.0) -> Step:
    """It never returns; cancelled, it ends, after `after_cancel` seconds."""
    return Step(endless=True, after_cancel=after_cancel)


def says_yes() -> Step:
    """A plain hook says `True`, whatever the truth is."""
    return Step(answer=True)


def says_no() -> Step:
    """A plain hook says `False`, whatever the truth is."""
    return Step(answer=False)


async def perform(step: Step, waiting: set[asyncio.Future[None]]) -> None:
    """Let a step of an async hook happen.

    While it takes its time there is a future in `waiting`; an exception set on it is how the step ends then.
    """
    if step.seconds > 0:
        await _wait(step, waiting, seconds=step.seconds)
    if step.gate is not None and not step.gate.is_open:
        await _wait(step, waiting, gate=step.gate)
    if step.endless:
        await _wait(step, waiting)
    if step.error is not None:
        raise fresh(step.error)


def fresh(error: BaseException | type[BaseException]) -> BaseException:
    """The error, without the traceback of the last time it was raised."""
    return error() if isinstance(error, type) else error.with_traceback(None)


async def _wait(
    step: Step, waiting: set[asyncio.Future[None]], *, seconds: float | None = None, gate: Gate | None = None
) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    timer = None if seconds is None else loop.call_later(seconds, _wake, future)
    if gate is not None:
        gate.knock(future)
    waiting.add(future)
    try:
        await future
    except asyncio.CancelledError:
        if step.after_cancel > 0:
            await asyncio.sleep(step.after_cancel)
        raise
    finally:
        waiting.discard(future)
        if timer is not None:
            timer.cancel()


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Plan:
    """Which step comes at which call of one hook: those of `then`, one each, and after them that of `always`."""

    def __init__(self) -> None:
        self._next: deque[Step] = deque()
        self._always: Step | Callable[[], Step] = Step()

    def then(self, *steps: Step) -> Plan:
        """Use these for the next calls, one each, after those that are planned already."""
        self._next.extend(steps)
        return self

    def always(self, step: Step | Callable[[], Step]) -> Plan:
        """Use this one whenever nothing else is planned; a function is asked at every call."""
        self._always = step
        return self

    def take(self) -> Step:
        """The step for the call that begins now."""
        if self._next:
            return self._next.popleft()
        return self._always() if callable(self._always) else self._always
