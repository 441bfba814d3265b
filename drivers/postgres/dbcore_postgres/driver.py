"""The driver as a value, and its pool."""

from __future__ import annotations

from collections.abc import Iterator

from dbcore.config import Config, connect_with
from dbcore.driver import Driver, Hooks
from dbcore.engine import start_pool as start_engine
from dbcore.errors import ConfigError, Problem
from dbcore.pool import PoolOps
from dbcore_postgres.awake import Awake
from dbcore_postgres.connecting import Connector
from dbcore_postgres.connection import (
    Connection,
    abort,
    close,
    in_transaction,
    is_clean,
    is_usable,
    server_info,
    touch,
    transaction_status,
)
from dbcore_postgres.copying import insert_many
from dbcore_postgres.errors import to_error
from dbcore_postgres.prepared import SYNTAX
from dbcore_postgres.resetting import Resetting, ping
from dbcore_postgres.settings import PostgresSettings, endpoint, from_url
from dbcore_postgres.sharing import share
from dbcore_postgres.statements import batch, execute_many, query, script
from dbcore_postgres.streaming import stream
from dbcore_postgres.transactions import begin, commit, rollback

__all__ = ["driver", "make_hooks", "start_pool"]

NAME = "postgres"


def check(config: Config[PostgresSettings]) -> Iterator[Problem]:
    """Tell what the pool's settings and the driver's own say against each other."""
    if config.settings.pooler == "transaction" and config.pool.reset == "full":
        yield Problem(
            "pool.reset",
            'it is "full", and pooler = "transaction" leaves no session that could be reset',
            "Leave it out; the pooler resets what it lends.",
        )


def make_hooks(config: Config[PostgresSettings]) -> Hooks[Connection]:
    """Return what the engine needs to keep connections of this config."""
    pool = config.pool
    transaction_pooler = config.settings.pooler == "transaction"
    if problems := tuple(check(config)):
        raise ConfigError(problems=problems, driver=NAME)
    connector = Connector(
        timeout=pool.connect_timeout, full_reset=pool.reset == "full", awake=Awake(config.settings.busy_poll)
    )
    return Hooks(
        connect=connect_with(config, connector),
        close=close,
        reset=Resetting(pool=config.name, mode="transaction" if transaction_pooler else pool.reset),
        is_usable=is_usable,
        is_clean=is_clean,
        ping=ping,
        abort=abort,
        in_transaction=in_transaction,
    )


async def start_pool(config: Config[PostgresSettings]) -> PoolOps[Connection]:
    """Start a pool of psycopg connections. What its holders do with psycopg's own interface is undone on release."""
    return await start_engine(
        make_hooks(config), config.pool, name=config.name, startup=config.startup, observe=config.observe
    )


driver = Driver(
    name=NAME,
    schemes=frozenset({"postgres", "postgresql"}),
    settings=PostgresSettings,
    start_pool=start_pool,
    query=query,
    to_error=to_error,
    from_url=from_url,
    check=check,
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
    share=share,
)
"""Everything that dbcore knows about PostgreSQL."""
