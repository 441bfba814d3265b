"""A PostgreSQL driver of dbcore, over asyncpg and its own pool. A config that says `postgresql+asyncpg://...` finds it.

It can be used without the core's face as well: `start_pool(config)` gives a pool of asyncpg connections.
"""

from __future__ import annotations

from dbcore.errors import DbError
from dbcore_asyncpg.connection import Connection
from dbcore_asyncpg.driver import driver, start_pool
from dbcore_asyncpg.settings import AsyncpgSettings

__all__ = ["AsyncpgSettings", "Connection", "DbError", "driver", "start_pool"]
