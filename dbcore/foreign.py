"""A pool that is not ours, taken as the face takes one of ours."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from dbcore.pool import FORKED, Hold, Lender, NotLent, PoolOps, Release

__all__ = ["foreign_lender"]

C = TypeVar("C")


class _Lent:
    """What came out of `checkout`."""

    __slots__ = ("connection", "release")
    state = "in use"

    def __init__(self, connection: Any, release: Release) -> None:
        self.connection = connection
        self.release = release


def foreign_lender(pool: PoolOps[C], guard: Callable[[], None]) -> Lender[C]:
    """Fill holds from `pool.checkout`. `guard` raises where the pool must not be used, which it may not notice."""

    def try_lend(_hold: Hold[C], _depth: int) -> bool:
        return False  # only the pool knows whether it would have to wait

    async def lend(hold: Hold[C], timeout: float | None, _depth: int) -> None:
        guard()
        hold.lent = _Lent(*await pool.checkout(timeout))
        _holds.add(hold)

    def take_back(hold: Hold[C], place: NotLent) -> None:
        lent = hold.lent
        hold.lent = place
        _holds.discard(hold)
        if isinstance(lent, _Lent):
            lent.release()

    return Lender(try_lend=try_lend, lend=lend, take_back=take_back, take_back_unused=take_back)


_holds: weakref.WeakSet[Hold[Any]] = weakref.WeakSet()
_inherited: list[object] = []
"""Connections of the parent process: as `dbcore.engine.guards` keeps its pools."""


def _in_child() -> None:
    for hold in list(_holds):
        _inherited.append(hold.lent)
        hold._cut_off(FORKED)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # inside the library


os.register_at_fork(after_in_child=_in_child)
