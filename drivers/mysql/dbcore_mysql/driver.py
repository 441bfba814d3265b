"""The driver as a value, and its pool."""

from __future__ import annotations

from dbcore.config import Config, connect_with
from dbcore.driver import Driver, Hooks
from dbcore.engine import start_pool as start_engine
from dbcore.pool import PoolOps
from dbcore_mysql.connecting import Connector, beside
from dbcore_mysql.connection import (
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
from dbcore_mysql.errors import to_error
from dbcore_mysql.inserting import insert_many
from dbcore_mysql.resetting import Resetting, ping
from dbcore_mysql.settings import MysqlSettings, endpoint, from_url
from dbcore_mysql.statements import batch, execute_many, query, script
from dbcore_mysql.streaming import stream
from dbcore_mysql.transactions import begin, commit, rollback
from dbcore_mysql.words import SYNTAX

__all__ = ["driver", "make_hooks", "start_pool"]


def make_hooks(config: Config[MysqlSettings]) -> Hooks[Connection]:
    """Return what the engine needs to keep connections of this config."""
    pool = config.pool
    connector = Connector(open_another=connect_with(config, beside), full_reset=pool.reset == "full")
    return Hooks(
        connect=connect_with(config, connector),
        close=close,
        reset=Resetting(pool=config.name, mode=pool.reset),
        is_usable=is_usable,
        is_clean=is_clean,
        ping=ping,
        abort=abort,
        in_transaction=in_transaction,
    )


async def start_pool(config: Config[MysqlSettings]) -> PoolOps[Connection]:
    """Start a pool of asyncmy connections. What its holders do with asyncmy's own interface is undone on release."""
    return await start_engine(
        make_hooks(config), config.pool, name=config.name, startup=config.startup, observe=config.observe
    )


driver = Driver(
    name="mysql",
    schemes=frozenset({"mysql", "mariadb"}),
    settings=MysqlSettings,
    start_pool=start_pool,
    query=query,
    to_error=to_error,
    from_url=from_url,
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
"""Everything that dbcore knows about MySQL and MariaDB."""
