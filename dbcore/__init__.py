"""A connection pool you can trust and raw SQL on any database, chosen by the config file.

```python
import dbcore as db

async with db.open("db.toml") as database:
    async with database.transaction() as tx:
        await tx.execute("INSERT INTO users (email) VALUES ($1)", ["ada@example.org"])
    users = await database.fetch_all("SELECT id, email FROM users WHERE id > :low", {"low": 0})
```
"""

from dbcore import driver as driver
from dbcore import events as events
from dbcore.config import Config, PoolSettings, Settings
from dbcore.connection import Connection
from dbcore.database import Database
from dbcore.database import open_database as open  # noqa: A004  # used as `db.open`, never star-imported
from dbcore.driver import Driver, Hooks, Result, Savepoints, ServerInfo, Syntax
from dbcore.errors import (
    ConfigError,
    ConflictError,
    ConstraintError,
    DbConnectionError,
    DbError,
    DecodeError,
    NotFound,
    PoolClosed,
    PoolDeadlock,
    PoolError,
    PoolExhausted,
    PoolTimeout,
    Problem,
    QueryError,
    QueryTimeout,
    TooManyRows,
    TransactionError,
    UnsupportedError,
    UsageError,
)
from dbcore.loading import load
from dbcore.pool import Checkout, Pool, PoolOps, Release
from dbcore.registry import register
from dbcore.statements import Json, Row
from dbcore.stats import Holder, Stats
from dbcore.stream import Stream
from dbcore.transaction import Transaction

__all__ = [
    "Checkout",
    "Config",
    "ConfigError",
    "ConflictError",
    "Connection",
    "ConstraintError",
    "Database",
    "DbConnectionError",
    "DbError",
    "DecodeError",
    "Driver",
    "Holder",
    "Hooks",
    "Json",
    "NotFound",
    "Pool",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolExhausted",
    "PoolOps",
    "PoolSettings",
    "PoolTimeout",
    "Problem",
    "QueryError",
    "QueryTimeout",
    "Release",
    "Result",
    "Row",
    "Savepoints",
    "ServerInfo",
    "Settings",
    "Stats",
    "Stream",
    "Syntax",
    "TooManyRows",
    "Transaction",
    "TransactionError",
    "UnsupportedError",
    "UsageError",
    "load",
    "open",
    "register",
]
