"""The SQLite driver of dbcore, over aiosqlite. Install it, and a config that says `sqlite://...` finds it.

It can be used without the core's face as well: `start_pool(config)` gives a pool of `Connection`.
"""

from __future__ import annotations

from dbcore.errors import DbError
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.driver import driver
from dbcore_sqlite.pool import start_pool
from dbcore_sqlite.settings import SqliteSettings

__all__ = ["Connection", "DbError", "SqliteSettings", "driver", "start_pool"]
