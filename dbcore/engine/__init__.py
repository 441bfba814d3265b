"""The shared pool mechanics, for drivers whose library has no pool of its own.

Where to look: `slots` who holds what, and what follows (growth); `lending` checkout, waiting and release (fairness);
`line` when the time of those who wait is up; `connecting` connects and back-off; `readiness` resets and pings;
`retirement` the end of a connection; `keeper` lifetimes and idle limits; `starting` and `stopping` the pool's own
life; `explaining` the texts of timeouts; `guards` loops and forks; `tally` the counters; `engine` how they work
together.
"""

from __future__ import annotations

from typing import TypeVar

from dbcore.config import PoolSettings, Startup
from dbcore.driver import Hooks
from dbcore.engine.engine import Engine
from dbcore.events import Observer
from dbcore.pool import Lender, PoolOps

__all__ = ["start_pool"]

C = TypeVar("C")


async def start_pool(
    hooks: Hooks[C],
    settings: PoolSettings,
    *,
    name: str,
    startup: Startup = "require",
    observe: Observer | None = None,
) -> PoolOps[C]:
    """Start a pool of the connections that `hooks` makes, in the running event loop.

    With `startup="require"` it opens `min_size` connections or raises what the first connect failed with; with `"try"`
    it waits for that attempt but starts in any case; with `"lazy"` it connects nothing until the first checkout.
    `name` is in every error and log line. Cancelled, it leaves nothing behind.
    """
    engine = Engine(hooks, settings, name, observe)
    await engine.start(startup)
    lending = engine.lending
    return PoolOps(
        checkout=lending.checkout,
        stop=engine.stop,
        lender=Lender(
            try_lend=lending.try_lend,
            lend=lending.lend,
            take_back=lending.take_back,
            take_back_unused=lending.take_back_unused,
        ),
        stats=engine.stats,
        holders=engine.holders,
        drain=engine.drain,
    )
