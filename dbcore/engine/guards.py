"""Guards against the wrong event loop, a forked child, and a program that ends without stopping its pools."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

from dbcore.errors import UsageError

if TYPE_CHECKING:
    import asyncio

    from dbcore.engine.engine import Engine

__all__ = ["forked", "watch", "wrong_loop"]

_engines: weakref.WeakSet[Engine[Any]] = weakref.WeakSet()
_inherited: list[object] = []
"""Pools of the parent process. A finaliser would say goodbye on the parent's sockets, so they are kept for good."""


def watch(engine: Engine[Any]) -> None:
    """From now on a fork makes this pool unusable in the child, and leaves the parent's connections alone."""
    _engines.add(engine)


def _in_child() -> None:
    for engine in list(_engines):
        _inherited.append(engine)
        engine.disown()


os.register_at_fork(after_in_child=_in_child)


def forked(name: str) -> UsageError:
    """The error for a pool of the parent process."""
    return UsageError(
        f"pool {name!r} was started before this process was forked and belongs to the parent. Open the database in the "
        "child: call db.open(...) and start() after the fork"
    )


def wrong_loop(name: str, own: asyncio.AbstractEventLoop) -> UsageError:
    """The error for a pool of another event loop."""
    state = "which is closed" if own.is_closed() else "another one than is running here"
    return UsageError(
        f"pool {name!r} was started in an event loop ({state}). A pool belongs to the loop it was started in: open one "
        "database per event loop, and start it inside that loop"
    )
