"""The MySQL and MariaDB driver of dbcore, over asyncmy. Install it, and a config that says `mysql://...` finds it.

It can be used without the core's face as well: `start_pool(config)` gives a pool of `Connection`.
"""

from __future__ import annotations

from dbcore.errors import DbError
from dbcore_mysql.connection import Connection
from dbcore_mysql.driver import driver, start_pool
from dbcore_mysql.settings import MysqlSettings

__all__ = ["Connection", "DbError", "MysqlSettings", "driver", "start_pool"]
