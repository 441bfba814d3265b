"""A pool of scripted connections, for tests of whatever needs a pool, the engine first of all."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from dbcore.config import PoolSettings, Startup
from dbcore.engine import start_pool
from dbcore.events import Observer
from dbcore.pool import Hold, Lender, NotLent, PoolOps, Release
from dbcore.stats import Stats
from dbcore.testing.script import FakeConnection, Script

__all__ = ["ScriptedPool", "scripted_pool"]


class _Scoped(Hold[FakeConnection]):
    """A hold that is its own release."""

    __slots__ = ("_lender",)

    def __init__(self, lender: Lender[FakeConnection]) -> None:
        self._lender = lender
        self.lent = NotLent()

    def __call__(self) -> None:
        self._lender.take_back(self, NotLent())


class ScriptedPool:
    """A `Pool` whose every capability is there, so that a test need not ask."""

    def __init__(self, pool: PoolOps[FakeConnection], script: Script, settings: PoolSettings) -> None:
        if pool.lender is None or pool.stats is None or pool.holders is None or pool.drain is None:
            raise AssertionError("bug: the engine's pools have all of it")
        self.checkout = pool.checkout
        self._lender = pool.lender
        self.stop = pool.stop
        self.drain = pool.drain
        self.stats = pool.stats
        self.holders = pool.holders
        self.script = script
        self.settings = settings

    def try_checkout(self) -> tuple[FakeConnection, Release] | None:
        """Take a connection as dbcore's own face does, if that needs no waiting."""
        hold = _Scoped(self._lender)
        return (hold.lent.connection, hold) if self._lender.try_lend(hold, 2) else None

    async def scoped_checkout(self, timeout: float | None = None) -> tuple[FakeConnection, Release]:
        """Take a connection as dbcore's own face does: it will be released in this task."""
        hold = _Scoped(self._lender)
        await self._lender.lend(hold, timeout, 2)
        return hold.lent.connection, hold

    @property
    def gauges(self) -> tuple[int, int, int, int, int, int]:
        """What is now: idle, in use, connecting, resetting, closing, waiting."""
        now = self.stats()
        return now.idle, now.in_use, now.connecting, now.resetting, now.closing, now.waiting

    def balance(self) -> Stats:
        """The stats; raise `AssertionError` if they do not add up, or do not agree with what the script sees.

        For moments at which all have come as far as they can (see `settled`): a connect may be in the books before it
        has begun.
        """
        now = self.stats()
        found: list[str] = []
        parts = (now.idle, now.in_use, now.connecting, now.resetting, now.closing)
        if min(*parts, now.waiting) < 0:
            found.append("a gauge is negative")
        if now.size != sum(parts):
            found.append("the size is not the sum of its parts")
        if now.size > now.max_size:
            found.append("the size is more than max_size")
        if now.size != self.script.open:
            found.append(f"{self.script.open} connections are open")
        if found:
            raise AssertionError(f"{'; '.join(found)}: {now!r}")
        return now


@asynccontextmanager
async def scripted_pool(
    script: Script | None = None,
    *,
    name: str = "test",
    startup: Startup = "require",
    observe: Observer | None = None,
    watched: bool = True,
    **settings: Any,
) -> AsyncGenerator[ScriptedPool]:
    """A pool over `script` with these `PoolSettings`: stopped at the end, and the script is asked for its findings.

    With `watched=False` the script sees nothing of checkouts and releases, and a result that is dropped is collected as
    it would be in a program.
    """
    script = script or Script()
    given = PoolSettings(**settings)
    made = await start_pool(script.hooks(), given, name=name, startup=startup, observe=observe)
    pool = ScriptedPool(script.watch(made) if watched else made, script, given)
    try:
        yield pool
    except BaseException:
        await pool.stop()
        raise
    await pool.stop()
    script.check(open=0, max_size=given.max_size)
