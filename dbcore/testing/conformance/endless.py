"""A look at `Subject.endless`: what is said of a query without end is worth nothing where it has one."""

from __future__ import annotations

import asyncio
from typing import Final

from dbcore.testing.conformance.subject import Subject

__all__ = ["how_it_ended"]

WATCHED: Final = 1.0
"""Seconds for which it has to go on."""

LEAVING: Final = 5.0
"""Seconds that it may take to end when it is cut off. Whether it does in time is what promises are about."""


async def how_it_ended(subject: Subject) -> str | None:
    """Say after how long `Subject.endless` ended, and with what; `None` where it went on until it was cut off."""
    loop = asyncio.get_running_loop()
    pool = {"max_size": 1, "reset_timeout": LEAVING, "stop_timeout": LEAVING}
    async with subject.open(pool=pool) as database, database.connection() as connection:
        started = loop.time()
        task = asyncio.create_task(connection.fetch_all(subject.endless, timeout=600))
        done, _ = await asyncio.wait([task], timeout=WATCHED)
        spent = 1000 * (loop.time() - started)
        if not done:
            task.cancel()
            await asyncio.wait([task], timeout=LEAVING)
            return None
        error = task.exception()
        came = f"{task.result()!r:.100}" if error is None else f"{type(error).__name__}: {error}"
        return f"Subject.endless ended after {spent:.0f} ms with {came}: give one that does not end"
