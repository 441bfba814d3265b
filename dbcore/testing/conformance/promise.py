"""What a promise is: a coroutine function that tries one thing, with a name, an area and a sentence for the report."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dbcore.testing.conformance.subject import Subject

__all__ = ["Promise", "promise"]

Run = Callable[[Subject], Awaitable[None]]

_LAWS = re.compile(r"\s*Laws: [A-Z0-9, ]+\.\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """One thing that dbcore promises of every driver. Made by `@promise()`."""

    name: str
    """The name of the function: what `Subject.cannot` calls it."""
    area: str
    """What it is about: `transactions`, `errors`, ..."""
    sentence: str
    """The promise in words."""
    needs: tuple[str, ...]
    """Optional fields of `Driver` or `PoolOps` without which there is nothing to try, or of `Subject` that tell what
    to try it with."""
    run: Run = field(repr=False)
    """Returns where the promise is kept, and raises where it is not; `AssertionError` says what came instead."""

    def __str__(self) -> str:
        return self.name


def promise(*, needs: tuple[str, ...] = ()) -> Callable[[Run], Promise]:
    """Make a promise of a function: its docstring is the sentence, its module the area."""

    def make(run: Run) -> Promise:
        return Promise(
            name=run.__name__,
            area=run.__module__.rpartition(".")[2],
            sentence=" ".join(_LAWS.sub("", inspect.getdoc(run) or "").split()),
            needs=needs,
            run=run,
        )

    return make
