"""The capability to share: one-shot statements of many tasks on one connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import psycopg

from dbcore.config import Config
from dbcore.driver import Report, Sharing
from dbcore.statements import reader
from dbcore_postgres.cancelling import CANCEL_SECONDS, cut_off
from dbcore_postgres.connection import Connection, abort, use
from dbcore_postgres.harmless import HARMLESS
from dbcore_postgres.prepared import SYNTAX
from dbcore_postgres.settings import PostgresSettings
from dbcore_postgres.trip import SharedTrip
from dbcore_postgres.wire import lost

__all__ = ["interrupt", "may", "run", "share"]

logger = logging.getLogger("dbcore.postgres")

_sql = reader(SYNTAX)

_READS = frozenset({"SELECT", "VALUES", "TABLE", "WITH"})
_NEVER = frozenset({"INSERT", "UPDATE", "DELETE", "MERGE", "INTO", "SHARE", "PG_TEMP"})
"""Words of statements that write, lock rows (`FOR UPDATE`, `FOR KEY SHARE`) or need what only this session has."""


def may(sql: str) -> bool:
    """Say whether a text only reads, locks nothing, and calls no function but those that are known to be harmless."""
    words = _sql.words(sql)
    return bool(words) and words[0] in _READS and _NEVER.isdisjoint(words) and _sql.calls(sql) <= HARMLESS


async def run(connection: Connection, statements: Sequence[tuple[str, Sequence[Any]]], report: Report) -> None:
    """Run statements of many tasks in one trip, each a transaction of its own.

    `report` gets the outcome of each as soon as it is known, in order: a `Result`, its own error, or `None` for one
    that was interrupted. Raises only when the connection is lost; what was not reported by then may have been done.
    Cancelled, it drops the connection, and tells the server.
    """
    use(connection)
    try:
        connection.pgconn.enter_pipeline_mode()
    except psycopg.OperationalError as error:
        lost(connection, error)
    trip = SharedTrip(connection, statements, report)
    try:
        try:
            trip.begin()
            await trip.ended
        finally:
            trip.leave()
    except psycopg.OperationalError as error:
        connection.pgconn.finish()
        lost(connection, error, sent=True)
    except BaseException:
        await cut_off(connection)
        raise
    connection.pgconn.exit_pipeline_mode()
    await trip.settle()


async def interrupt(connection: Connection) -> None:
    """Stop the statement that runs now, and return when it has ended; the rest of the trip goes on.

    If it has just ended, the next one may be hit; that one reports `None`. One that cannot be stopped within
    `CANCEL_SECONDS` loses its connection, as with `query`.
    """
    trip = connection.trip
    if trip is None:
        return
    try:
        async with asyncio.timeout(CANCEL_SECONDS):
            await trip.stop_running()
    except Exception as error:  # whatever failed: what runs there could run on for ever
        if connection.trip is trip:
            logger.warning("a statement could not be stopped, its connection is dropped: %r", error)
            abort(connection)


_SHARING: Sharing[Connection] = Sharing(may=may, run=run, interrupt=interrupt)


def share(config: Config[PostgresSettings]) -> Sharing[Connection] | None:
    """Offer trips where a session may go on from one statement to the next, and is one and the same for all of them."""
    return None if config.settings.pooler == "transaction" or config.pool.reset == "full" else _SHARING
