"""What the tests of the mysql driver share: a connection without a pool, and what the server says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from connections import Bare, changed, until
from dbcore_mysql import Connection, driver
from dbcore_mysql.driver import make_hooks
from dbcore_mysql.transactions import begin

__all__ = ["changed", "configured", "connected", "failure", "rows", "running", "start", "under_way", "until"]

_bare = Bare(driver, make_hooks, begin)
configured = _bare.configured
connected = _bare.connected
rows = _bare.rows
start = _bare.start
failure = _bare.failure


async def running(admin: Connection, number: int) -> bool:
    """Whether a statement runs on the connection that the server knows by this number."""
    sql = "SELECT 1 FROM information_schema.processlist WHERE id = %s AND command = 'Query' AND info <> 'DO 0'"
    return bool(await rows(admin, sql, number))


async def under_way(admin: Connection, number: int, work: Awaitable[object]) -> asyncio.Task[object]:
    """Start something, and return when the server works on it."""
    task = asyncio.ensure_future(work)
    await until(lambda: running(admin, number))
    return task
