"""Why a pool cannot be used here: it was stopped, or it belongs to another process or event loop."""

from __future__ import annotations

import asyncio
import math
from numbers import Real

from dbcore.errors import PoolClosed, UsageError

__all__ = ["forked", "stopped", "time_span", "wrong_loop"]


def stopped(name: str) -> PoolClosed:
    """The error for whoever comes after the end."""
    return PoolClosed(f"pool {name!r} was stopped; a stopped pool stays stopped: open the database anew")


def forked(name: str) -> UsageError:
    """The error for a pool of the parent process."""
    return UsageError(
        f"pool {name!r} was started before this process was forked and belongs to the parent. Open the database in the "
        "child: call db.open(...) and start() after the fork"
    )


def time_span(timeout: object) -> float:
    """The timeout of a checkout, in seconds; 0 or less is "now or never". Raises `UsageError` for what is no number."""
    span = math.nan
    if type(timeout) is not bool and isinstance(timeout, Real):
        try:
            span = float(timeout)
        except OverflowError:
            span = math.inf
    if math.isnan(span):
        raise UsageError(f"timeout is a number of seconds (math.inf: no limit), not {timeout!r}")
    return span


def wrong_loop(name: str, own: asyncio.AbstractEventLoop) -> UsageError:
    """The error for a pool of another event loop."""
    closed = ", which is closed" if own.is_closed() else ""
    return UsageError(
        f"pool {name!r} was started in another event loop{closed}. A pool belongs to the loop it was started in: "
        "open one database per event loop, and start it inside that loop"
    )
