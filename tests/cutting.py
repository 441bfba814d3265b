"""Cancels something at each point where it waits, one after the other, and looks for what it leaves behind."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import pytest
from databases import until

from dbcore.driver import Hooks

__all__ = ["connects_that_are_cut_off_leave_no_file_open", "on_linux"]

T = TypeVar("T")

_FILES = Path("/proc/self/fd")

on_linux = pytest.mark.skipif(not _FILES.exists(), reason="only Linux tells which files are open")


class _CutOff(Generic[T]):
    """Awaits something, and cancels the task that does so when it waits for the `at`th time."""

    def __init__(self, work: Awaitable[T], at: int) -> None:
        self._work = work
        self._at = at

    def __await__(self) -> Generator[Any, None, T]:
        task = asyncio.current_task()
        assert task is not None
        steps = self._work.__await__()
        step: Callable[[], Any] = partial(next, steps)
        for number in itertools.count(1):
            try:
                waited_for = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            if number == self._at:
                task.cancel()
            try:
                yield waited_for
            except BaseException as error:  # it is passed on
                step = partial(steps.throw, error)
            else:
                step = partial(next, steps)
        raise AssertionError("bug: counted to the end")


async def _outcome(work: Awaitable[T], at: int) -> T | asyncio.CancelledError:
    try:
        return await _CutOff(work, at)
    except asyncio.CancelledError as error:
        return error


async def connects_that_are_cut_off_leave_no_file_open(hooks: Hooks[Any]) -> None:
    """Open a connection again and again, cut off one wait later each time, until one comes to its end."""
    await hooks.close(await hooks.connect())  # what is made once for all is there now
    # With their frames, and so with all that was at hand: nothing is closed because it was forgotten.
    errors: list[BaseException] = []
    gc.collect()
    gc.disable()
    try:
        before = _open_files()
        for at in itertools.count(1):
            outcome = await asyncio.create_task(_outcome(hooks.connect(), at))
            if not isinstance(outcome, asyncio.CancelledError):
                await hooks.close(outcome)
                break
            errors.append(outcome)
            await until(lambda: _open_files() <= before)
    finally:
        gc.enable()
    assert errors, "a connect that waits for nothing"


def _open_files() -> int:
    return len(list(_FILES.iterdir()))
