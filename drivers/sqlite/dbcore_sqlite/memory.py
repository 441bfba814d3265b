"""`:memory:` as one database for the whole pool."""

from __future__ import annotations

import sqlite3
from itertools import count

from dbcore.errors import UnsupportedError
from dbcore_sqlite.opening import NEED_LOCK, Place

__all__ = ["open_memory"]

_OLDEST = (3, 36, 0)
_numbers = count(1)


def open_memory() -> tuple[Place, sqlite3.Connection]:
    """Make a new database in memory, with the connection that keeps it while no connection of the pool is open."""
    if sqlite3.sqlite_version_info < _OLDEST:
        raise UnsupportedError(
            f"an in-memory database that a pool can share needs SQLite 3.36, and this is {sqlite3.sqlite_version}; "
            "use a file, or a newer Python"
        )
    # The slash makes the name one for the whole process; without it each connection has a database of its own.
    uri = f"file:/dbcore-{next(_numbers)}?vfs=memdb"
    keeper = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
    # Nobody else has the database yet, so nobody can have locked it.
    known = {name: keeper.execute(f"PRAGMA {name}").fetchone()[0] for name in NEED_LOCK}
    return Place(uri, None, known), keeper
