"""The PostgreSQL driver of dbcore, over psycopg 3. Install it, and a config that says `postgresql://...` finds it.

It can be used without the core's face as well: `start_pool(config)` gives a pool of psycopg connections.
"""

from __future__ import annotations

from dbcore.errors import DbError
from dbcore_postgres.connection import Connection
from dbcore_postgres.driver import driver, start_pool
from dbcore_postgres.settings import PostgresSettings

__all__ = ["Connection", "DbError", "PostgresSettings", "driver", "start_pool"]
