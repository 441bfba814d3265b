"""Waiting for the socket of a connection, and nothing else."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from dbcore_postgres.connection import Connection

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

__all__ = ["flush", "ready", "receive"]


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


async def ready(connection: Connection, *, writing: bool = False) -> None:
    """Wait until a whole result was read, or with `writing` until something was read or can be written."""
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    connection.waiter = waiter
    connection.eager = writing
    connection.ear.listen(connection.hear)
    if writing:
        connection.ear.watch_writing(partial(_wake, waiter))
    try:
        if writing:
            await waiter
        else:
            connection.doubts = await connection.awake.wait(waiter, connection.doubts)
    finally:
        if connection.waiter is waiter:  # else `abort` saw to all this already
            connection.waiter = None
            connection.ear.hush()


async def flush(connection: Connection) -> None:
    """Hand everything to the system; what arrives meanwhile is taken in, or both sides would wait for each other."""
    pgconn = connection.pgconn
    while pgconn.flush():
        await ready(connection, writing=True)


async def receive(connection: Connection) -> PGresult | None:
    """Wait for the next result of what was sent; `None` when there are no more."""
    pgconn = connection.pgconn
    while pgconn.is_busy():
        await ready(connection)
    return pgconn.get_result()
