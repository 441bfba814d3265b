"""From a config to a running pool of SQLite connections."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import replace

from dbcore import engine
from dbcore.config import Config, connect_with
from dbcore.driver import Hooks, ServerInfo
from dbcore.errors import ConfigError
from dbcore.pool import PoolOps
from dbcore_sqlite.bell import Bell
from dbcore_sqlite.connecting import Home, connect
from dbcore_sqlite.connection import Connection
from dbcore_sqlite.lane import Gate, Lane, Line
from dbcore_sqlite.memory import open_memory
from dbcore_sqlite.opening import place_of
from dbcore_sqlite.session import is_clean, is_usable, ping, reset
from dbcore_sqlite.settings import SqliteSettings
from dbcore_sqlite.transactions import transaction_status

__all__ = ["make_home", "make_hooks", "server_info", "start_pool"]

_LAST_THREADS = 1.0
"""Seconds that `stop` waits for threads that an abort has told to end."""


async def start_pool(config: Config[SqliteSettings]) -> PoolOps[Connection]:
    """Start a pool of connections to one database.

    The writers of the pool line up: `PoolOps.admit` before the checkout of a write transaction. An in-memory database
    lives until `stop`.
    """
    home, gate, finish = make_home(config)
    try:
        ops = await engine.start_pool(
            make_hooks(config, home), config.pool, name=config.name, startup=config.startup, observe=config.observe
        )
    except BaseException:
        await finish()
        raise
    gate.report_with(ops.stats, ops.holders)

    loop = asyncio.get_running_loop()

    async def stop() -> None:
        if asyncio.get_running_loop() is loop:  # in another one the pool refuses to stop
            gate.close()
        await ops.stop()
        await finish()

    return replace(ops, stop=stop, admit=gate.admit)


def make_home(config: Config[SqliteSettings]) -> tuple[Home, Gate, Callable[[], Awaitable[None]]]:
    """Make what the connections of a pool share, the gate before them, and what ends it all when they are gone."""
    settings = config.settings
    keeper: sqlite3.Connection | None = None
    if settings.in_memory:
        place, keeper = open_memory()
    else:
        place = place_of(settings, config.folder)
    timeout = config.pool.checkout_timeout
    lane_line = Line(1, name=config.name, timeout=timeout)
    gate_line = Line(settings.writers, name=config.name, timeout=timeout)
    lane = Lane(lane_line, gate_line, everything=settings.exclusive)
    home = Home(place, lane, Bell(asyncio.get_running_loop()), config.pool.reset)

    async def finish() -> None:
        gate_line.close()
        lane_line.close()
        if keeper is not None:
            keeper.close()
        await home.ended(_LAST_THREADS)

    return home, Gate(lane), finish


def make_hooks(config: Config[SqliteSettings], home: Home) -> Hooks[Connection]:
    """What the engine needs to keep connections."""

    async def open_one(settings: SqliteSettings) -> Connection:
        if settings.path != config.settings.path:
            raise ConfigError("credentials gave another path; a pool has one database: leave path out of them")
        return await connect(home, settings)

    def is_free(connection: Connection) -> bool:
        """Asked at the release first, and only while nobody holds the connection."""
        if is_clean(connection):
            return True
        home.lane.let_go(connection)
        return False

    return Hooks(
        connect=connect_with(config, open_one),
        close=Connection.close,
        reset=reset,
        is_usable=is_usable,
        is_clean=is_free,
        ping=ping,
        abort=Connection.abort,
        in_transaction=in_transaction,
    )


def in_transaction(connection: Connection) -> bool:
    return transaction_status(connection) != "idle"


async def server_info(connection: Connection) -> ServerInfo:
    """Tell the version of SQLite; it is a library in this process, so there is nobody to ask."""
    return ServerInfo(version=f"SQLite {sqlite3.sqlite_version}")
