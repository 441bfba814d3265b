"""The driver as a value, and its pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dbcore.config import Config
from dbcore.driver import Driver
from dbcore.errors import ConfigError, Problem
from dbcore.pool import PoolOps
from dbcore_asyncpg.connection import Connection, server_info, touch, transaction_status
from dbcore_asyncpg.copying import insert_many
from dbcore_asyncpg.errors import to_error
from dbcore_asyncpg.pool import start
from dbcore_asyncpg.settings import FILES, AsyncpgSettings, endpoint, from_url
from dbcore_asyncpg.statements import batch, execute_many, query, script
from dbcore_asyncpg.streaming import stream
from dbcore_asyncpg.texts import SYNTAX
from dbcore_asyncpg.transactions import begin, commit, rollback

__all__ = ["check", "driver", "start_pool"]

NAME = "asyncpg"

NEVER: Mapping[str, Any] = {
    "max_lifetime": None,
    "max_waiting": None,
    "keepalive": None,
    "ping_after": None,
    "leak_warning": None,
    "order": "lifo",
}
"""What the native pool does about keys that it does not have."""
_BACKOFF = ("backoff_min", "backoff_max")


def check(config: Config[AsyncpgSettings]) -> Iterator[Problem]:
    """Tell which keys of the pool asyncpg's own cannot honour, and what contradicts the settings."""
    pool = config.pool
    cure = 'Leave it out, or use driver = "postgres", whose pool can.'
    for key, value in NEVER.items():
        if getattr(pool, key) != value:
            yield Problem(f"pool.{key}", "asyncpg's own pool has no such thing", cure)
    for key in _BACKOFF:
        if key in pool.model_fields_set:
            yield Problem(f"pool.{key}", "asyncpg's own pool does not pause between connects", cure)
    for key in FILES:
        if (file := getattr(config.settings, key)) and not Path(file).is_file():
            yield Problem(
                key, f"there is no file {file!r}", "Correct it; a relative path starts at the working directory."
            )
    if config.settings.pooler == "transaction" and pool.reset == "full":
        yield Problem(
            "pool.reset",
            'it is "full", and pooler = "transaction" leaves no session that could be reset',
            "Leave it out; the pooler resets what it lends.",
        )


async def start_pool(config: Config[AsyncpgSettings]) -> PoolOps[Connection]:
    """Start asyncpg's own pool. What its holders do with asyncpg's own interface is undone on release."""
    if problems := tuple(check(config)):
        raise ConfigError(problems=problems, driver=NAME)
    pool = await start(config)
    return PoolOps(
        checkout=pool.checkout,
        stop=pool.stop,
        stats=pool.books.stats,
        holders=pool.books.holders,
        drain=pool.drain,
    )


driver = Driver(
    name=NAME,
    schemes=frozenset({NAME, "postgres+asyncpg", "postgresql+asyncpg"}),
    settings=AsyncpgSettings,
    start_pool=start_pool,
    query=query,
    to_error=to_error,
    from_url=from_url,
    check=check,
    pool_defaults={"max_lifetime": None, "ping_after": None},
    syntax=SYNTAX,
    begin=begin,
    commit=commit,
    rollback=rollback,
    transaction_status=transaction_status,
    execute_many=execute_many,
    batch=batch,
    script=script,
    stream=stream,
    insert_many=insert_many,
    touch=touch,
    server_info=server_info,
    endpoint=endpoint,
)
"""Everything that dbcore knows about PostgreSQL by way of asyncpg."""
