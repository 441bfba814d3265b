"""Waiting for the socket of a connection, and nothing else."""

from __future__ import annotations

import asyncio
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
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()
    connection.waiter = waiter
    connection.eager = writing
    connection.ear.listen(connection.hear)
    file = -1
    if writing:
        file = connection.pgconn.socket
        loop.add_writer(file, _wake, waiter)
    try:
        if writing:
            await waiter
        else:
            connection.doubts = await connection.awake.wait(waiter, connection.doubts)
    finally:
        # `abort` saw to all this already: the number of the file may be somebody else's by now.
        if connection.waiter is waiter:
            connection.waiter = None
            connection.ear.hush()
            if writing:
                loop.remove_writer(file)


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
