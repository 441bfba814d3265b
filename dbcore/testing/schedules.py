"""Schedules: the same program in thousands of orders, each one told by its seed.

asyncio runs what is ready in the order in which it became ready, so a test sees one order out of many. `ShuffledLoop`
takes the next callback at random, by a seed: what one order hides, some other shows, and the seed brings that order
back. Time is virtual (see `dbcore.testing.clock`), so a schedule takes as long as its Python code.

Orders that stay as they are, because a correct program may rely on them:

- the steps of one task (the next one becomes ready only when the one before has run);
- the callbacks of one future, as they were added;
- plain callbacks given to `call_soon`, among themselves;
- timers of different times; nothing runs before its time, and everything that is ready runs before time passes;
- a callback that was cancelled before its turn does not run.

All else is shuffled: tasks against tasks, tasks against timers and callbacks, timers of the same time. That is more
than asyncio itself ever does; in production such orders come from sockets, threads and other processes. Hence nothing
may rely on it that one `sleep(0)` gives every other task its turn.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, cast

from dbcore.testing.clock import LIMIT, TURNS, VirtualLoop

__all__ = ["Explored", "ShuffledLoop", "explore", "run_schedule"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

Entry = tuple[object, asyncio.Handle, Callable[..., object], tuple[Any, ...], contextvars.Context]
"""What is ready: its lane, the handle that its owner may cancel, and the call."""


class ShuffledLoop(VirtualLoop):
    """A virtual loop that runs what is ready in an order drawn by `seed`."""

    def __init__(self, seed: int, *, start: float = 0.0, limit: float = LIMIT, turns: int = TURNS) -> None:
        self._draw = random.Random(seed).random  # noqa: S311 (a seeded order is the purpose)
        self._lanes: list[deque[Entry]] = []
        self._lane_of: dict[object, deque[Entry]] = {}
        self._nothing = contextvars.Context()
        super().__init__(start=start, limit=limit, turns=turns)

    def call_soon(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        self._add((_lane(callback, args), handle, callback, args, context))
        return handle

    def call_at(
        self,
        when: float,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        # The handle is known only afterwards; a box that is emptied on arrival leaves no cycle behind.
        box: list[asyncio.TimerHandle] = []
        handle = super().call_at(when, self._arrive, box, callback, args, context, context=self._nothing)
        box.append(handle)
        return handle

    def call_soon_threadsafe(
        self,
        callback: Callable[[*Ts], object],
        *args: *Ts,
        context: contextvars.Context | None = None,
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        # By way of the loop's own queue: a finaliser may call this in the middle of `_add`.
        super().call_soon_threadsafe(self._arrive, [handle], callback, args, context, context=self._nothing)
        return handle

    def _arrive(
        self,
        box: list[Any],
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> None:
        handle: asyncio.Handle = box.pop()
        self._add((handle, handle, callback, args, context))

    def _add(self, entry: Entry) -> None:
        lane = self._lane_of.get(entry[0])
        if lane is None:
            lane = self._lane_of[entry[0]] = deque()
            self._lanes.append(lane)
        lane.append(entry)
        super().call_soon(self._run_any, context=self._nothing)

    def _run_any(self) -> None:
        lanes = self._lanes
        index = int(self._draw() * len(lanes))
        lane, handle, callback, args, context = lanes[index].popleft()
        if not lanes[index]:
            del self._lane_of[lane]
            lanes[index] = lanes[-1]
            lanes.pop()
        if handle.cancelled():
            return
        try:
            context.run(callback, *args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            message = f"Exception in callback {callback!r}"
            self.call_exception_handler({"message": message, "exception": error, "handle": handle})


def _lane(callback: Callable[..., object], args: tuple[object, ...]) -> object:
    """What a callback belongs to: callbacks with the same lane stay in order."""
    if args and isinstance(args[0], asyncio.Future):
        return cast("object", args[0])
    owner: object = getattr(callback, "__self__", None)
    return cast("object", owner) if isinstance(owner, asyncio.Task) else ShuffledLoop


@dataclass(frozen=True, slots=True)
class Explored:
    """How many schedules were run without a finding, and the seconds of real time that took."""

    schedules: int
    seconds: float

    def __str__(self) -> str:
        rate = self.schedules / self.seconds if self.seconds else 0.0
        return f"{self.schedules} schedules in {self.seconds:.1f} s, {rate:.0f} a second"


def run_schedule(
    main: Callable[[random.Random], Coroutine[Any, Any, T]],
    seed: int,
    *,
    limit: float = LIMIT,
    turns: int = TURNS,
) -> T:
    """Run one schedule: `main` in the order told by `seed`, with a source of chance seeded the same way.

    The global functions of `random` are seeded too, for as long as it runs: code under test may draw from them.
    Whatever goes wrong is raised as it is, with a note that names the seed.
    """
    chance = random.Random(~seed)  # noqa: S311 (a seeded workload is the purpose)
    before = random.getstate()
    random.seed(seed)
    try:
        with asyncio.Runner(loop_factory=partial(ShuffledLoop, seed, limit=limit, turns=turns)) as runner:
            return runner.run(main(chance))
    except BaseException as error:
        error.add_note(f"schedule {seed}: `run_schedule(main, {seed})` runs it again")
        raise
    finally:
        random.setstate(before)


def explore(
    main: Callable[[random.Random], Coroutine[Any, Any, object]],
    seeds: Iterable[int],
    *,
    limit: float = LIMIT,
    turns: int = TURNS,
) -> Explored:
    """Run one schedule for each seed, and stop at the first that goes wrong; its seed is in a note on the error.

    `main` is called anew for each, and draws whatever it wants by chance (delays, who is cancelled, how many tasks)
    from the `random.Random` that it is given; anything else by chance in it would not come back on replay, the order of
    sets of objects included.
    """
    began = time.perf_counter()
    schedules = 0
    for seed in seeds:
        run_schedule(main, seed, limit=limit, turns=turns)
        schedules += 1
    return Explored(schedules, time.perf_counter() - began)
