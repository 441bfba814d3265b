"""Between two holders: what has to be undone, and undoing it in one hop."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from math import inf

from dbcore_sqlite.connection import Connection
from dbcore_sqlite.errors import code_of
from dbcore_sqlite.worker import Native

__all__ = ["is_clean", "is_usable", "ping", "reset", "touch"]


def is_usable(connection: Connection) -> bool:
    """Say that there is no reason for doubt."""
    return connection.is_open and not connection.broken


def is_clean(connection: Connection) -> bool:
    """Say that the next holder can have the connection as it is. Asked after every use, hence without detours."""
    job = connection.job
    if (
        (job is not None and not job.ended)
        or connection.begun
        or connection.streams
        or connection.broken
        or connection.changed
        or connection.tainted
        or (connection.touched and connection.home.reset != "transaction")
        or connection.parted
        or connection.lane.owner is connection
    ):
        return False
    native = connection.native
    try:
        # A holder may have set `isolation_level`: what the next one writes would not be committed.
        return not native.in_transaction and native.isolation_level is None
    except sqlite3.ProgrammingError:  # closed behind our back
        return False


def touch(connection: Connection) -> None:
    """Note that the native connection is in other hands."""
    connection.touched = True


async def ping(connection: Connection) -> None:
    """One hop that takes no lock."""
    await connection.run(_ping)


async def reset(connection: Connection) -> None:
    """Make the connection as if it were new; one that cannot be is left unclean, and the pool replaces it."""
    await connection.quiet()
    if not connection.is_open:
        return
    mode = connection.home.reset
    if mode == "transaction":
        connection.changed = connection.tainted = False
    touched = connection.touched and mode != "transaction"  # there what was set stays
    whole = mode == "full" or connection.changed or touched
    if connection.tainted or connection.broken or (mode == "full" and touched):
        return  # functions and collations, for one, can be added by a holder and not be listed
    if whole and connection.lane.everything:
        await connection.lane.take(connection, inf)
    query_only = connection.begun == "read"
    began = not connection.pending and connection.begun
    if whole or connection.streams or began or connection.inside or connection.touched:
        snapshot: Mapping[str, int] = connection.snapshot if whole else {}
        if not await connection.run(_reset, connection, touched, query_only, snapshot, interruptible=False):
            return
    connection.begun = ""
    connection.pending = ()
    connection.failed = connection.changed = False
    connection.touched = connection.touched and not whole
    connection.settle()


# -- in the worker -----------------------------------------------------------------------------------------------------


def _ping(native: Native) -> None:
    native.execute("SELECT 1").fetchone()


def _reset(
    native: Native, connection: Connection, touched: bool, query_only: bool, snapshot: Mapping[str, int]
) -> bool:
    for stream in tuple(connection.streams):
        stream.cut_off()
    if touched:
        native.row_factory = None
        native.text_factory = str
        native.set_authorizer(None)
        native.set_progress_handler(None, 0)
        native.set_trace_callback(None)
    if native.in_transaction:
        native.execute("ROLLBACK")
    if connection.touched:  # whatever the mode: see `is_clean`
        native.isolation_level = None  # commits what is open, so never before the rollback
    if touched and _has_open_statements(native):
        return False
    if query_only:
        native.execute("PRAGMA query_only = 0")
    if snapshot:
        _restore(native, snapshot)
    return True


def _has_open_statements(native: Native) -> bool:
    """Say whether a cursor is open that nobody here knows of: it would go on to show the database as it was.

    SQLite replaces no function while a statement runs; there is no other way to ask it.
    """
    try:
        for _ in range(2):  # the first time there may be none to replace
            native.create_function("dbcore_nothing", 0, _nothing)
    except sqlite3.Error as error:
        if code_of(error) not in {0, sqlite3.SQLITE_BUSY}:
            raise
        return True
    return False


def _nothing() -> None:
    """Stand for a function."""


def _restore(native: Native, snapshot: Mapping[str, int]) -> None:
    for _, name, _ in native.execute("PRAGMA database_list").fetchall():
        if name not in {"main", "temp"}:
            native.execute(f"DETACH {_quoted(name)}")
    for kind in ("view", "trigger", "table"):
        for (name,) in native.execute("SELECT name FROM sqlite_temp_master WHERE type = ?", (kind,)).fetchall():
            if name.startswith("sqlite_"):  # SQLite's own, such as the counters of AUTOINCREMENT
                continue
            native.execute(f"DROP {kind} IF EXISTS temp.{_quoted(name)}")
    for name, value in snapshot.items():
        native.execute(f"PRAGMA {name} = {value}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
