"""A database for one test: real, and as it was when the test is over."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from dbcore.config import Config
from dbcore.database import Database, open_database
from dbcore.driver import Driver
from dbcore.errors import UsageError
from dbcore.events import Observer
from dbcore.registry import find_driver
from dbcore.testing.savepoints import InSavepoints
from dbcore.testing.turns import Turns

__all__ = ["sandbox"]


@asynccontextmanager
async def sandbox(
    source: str | Path | Config[Any] | Mapping[str, Any] | Database | None = None,
    name: str | None = None,
    *,
    driver: Driver[Any, Any] | None = None,
    observe: Observer | None = None,
    share: bool = False,
) -> AsyncGenerator[Database, None]:
    """Open a database for a block, and undo all that was done to it when the block is left.

    Use it as `async with sandbox("db.toml") as database:`. It has one connection with one transaction, rolled back when
    the block is left; each transaction of the application is a savepoint in it, and so is each statement outside of
    one. All else is as ever.

    `source`, `name`, `driver` and `observe` are those of `db.open`. A `Database` may be given too: one that runs lends
    the sandbox a connection and goes on; one that does not is started, and stopped at the end (`driver` then is the
    one that it was opened with, if it was opened with one).

    One task at a time uses it, though that one may check out several connections, which all are this one. A second
    task meanwhile gets a `UsageError` that names both; with `share=True` it waits for its turn instead, first come,
    first served, up to `pool.checkout_timeout`. A task that has ended is no rival.

    What a savepoint cannot give: `isolation` is checked and otherwise as the outer transaction has it (within the
    sandbox, work is serial in any case); `read_only` refuses texts that write, and rolls the rest back. BEGIN, COMMIT
    and ROLLBACK as texts are a `UsageError`. A stream reads all its rows at once. Deferred constraints are never
    checked. When the database ends the outer transaction itself, every further use is a `TransactionError`.
    """
    if isinstance(source, Database):
        outer, runs = source, _runs(source)
        config = source.config if observe is None else replace(source.config, observe=observe)
    else:
        config = open_database(source, name, driver=driver, observe=observe).config
        one = config.pool.model_copy(update={"min_size": min(1, config.pool.min_size), "max_size": 1})
        outer, runs = open_database(replace(config, pool=one), driver=driver), False
    real = find_driver(config.driver) if driver is None else driver
    async with AsyncExitStack() as stack:
        if not runs:
            await stack.enter_async_context(outer)
        native, release = await outer.pool.checkout()
        stack.callback(release)
        turns = Turns(native, config, share=share)
        savepoints = InSavepoints(real, config, turns)
        stack.push_async_callback(savepoints.end)
        await savepoints.begin()
        yield await stack.enter_async_context(Database(config, savepoints.driver()))


def _runs(database: Database) -> bool:
    try:
        _ = database.pool
    except UsageError:  # not started; one that was stopped raises PoolClosed, which goes through
        return False
    return True
