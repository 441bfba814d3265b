"""A fork: the pools of the parent are of no use in the child, and their connections are not the child's to close."""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbcore.engine.engine import Engine

__all__ = ["watch"]

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
