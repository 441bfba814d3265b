"""What is put to the test: a driver, an empty database, and the little that has to be said about the two."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from dbcore.config import Config, PoolSettings
from dbcore.database import Database, open_database
from dbcore.driver import Driver
from dbcore.errors import PoolClosed, UsageError
from dbcore.loading import Source, resolve
from dbcore.registry import find_driver
from dbcore.testing.conformance.sql import ENDLESS, ITEMS, PREFIX

__all__ = ["Items", "Subject"]

CLEANING = 10.0
"""Seconds that dropping a table may take."""


@dataclass(frozen=True, slots=True)
class Items:
    """A started database with an empty table `(id, name)`, and the statements that most promises send there."""

    database: Database
    table: str

    @property
    def insert(self) -> str:
        return f"INSERT INTO {self.table} (id, name) VALUES ($1, $2)"  # noqa: S608  # the name is ours

    @property
    def count(self) -> str:
        return f"SELECT count(*) FROM {self.table}"  # noqa: S608  # as above

    async def ids(self) -> list[int]:
        """Return the ids that are in the table, in order."""
        return await self.database.fetch_all(f"SELECT id FROM {self.table} ORDER BY id", into=int)  # noqa: S608


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A driver and an empty database for it, with what cannot be found out by looking.

    Tables named `dbcore_conformance_*` are made and dropped there. Everything but `source` has a default that a driver
    for a common database can leave as it is.
    """

    source: Source | Callable[[], AbstractAsyncContextManager[Source]] | None = None
    """The database: what `db.open` takes (a URL, a mapping, a config), or a function that makes one for each promise,
    as an asynchronous context manager. A driver's package leaves it out: its user has the database."""
    driver: Driver[Any, Any] | None = None
    """The driver, where it is not installed."""
    cannot: Mapping[str, str] = field(default_factory=dict[str, str])
    """What the database cannot do, with the reason: by the name of the promise, or for one value of the values table
    as `"float: NaN"`. What is kept after all is stale, and an error."""
    columns: Mapping[str, str] = field(default_factory=dict[str, str])
    """The column type for a kind of value (`dbcore.testing.values.KINDS`). Without one, usual types are tried."""
    unreachable: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])
    """Settings that cannot be connected with, laid over those of `source`, by what is wrong with them."""
    permanent: tuple[str, ...] = ()
    """Which of `unreachable` cannot get better by themselves, and are told at once: `retryable` is false."""
    fatal: str | None = None
    """A statement that ends the connection it runs on, as a server does that is shut down. A library that works inside
    of the process has no server, and leaves it out."""
    endless: str = ENDLESS
    """A query that does not end by itself, within hours. Try it by hand: an optimizer may answer it at once."""
    natively: Callable[[Any, str], Awaitable[object]] | None = None
    """Runs a text by the library's own means, on what `connection.native` gives, so that the driver sees nothing of it:
    `lambda native, sql: native.execute(sql)`."""
    quote: str = '"'
    """What stands around a quoted identifier."""
    temporary: str = "CREATE TEMPORARY TABLE {name} (id INTEGER)"
    """How a table is made that belongs to the session."""

    @property
    def config(self) -> Config[Any]:
        """The config of the database. A subject whose `source` makes one has none until it is `placed`."""
        if self.source is None or callable(self.source):
            raise UsageError("this subject has no database: give `source`, and use a function by `placed()`")
        return resolve(self.source, driver=self.driver)

    @property
    def vtable(self) -> Driver[Any, Any]:
        """The driver as a value."""
        return self.driver if self.driver is not None else find_driver(self.config.driver)

    @contextlib.asynccontextmanager
    async def placed(self) -> AsyncGenerator[Subject, None]:
        """Make the database if there is something to make, and give this subject with its config."""
        if callable(self.source):
            async with self.source() as source:
                yield replace(self, source=resolve(source, driver=self.driver))
        else:
            yield replace(self, source=self.config)

    # -- for promises --------------------------------------------------------------------------------------------------

    def open(
        self, *, pool: Mapping[str, Any] | None = None, settings: Mapping[str, Any] | None = None, **keys: Any
    ) -> Database:
        """Make a database of this config with some of its fields changed. Does no I/O."""
        config = self.config
        changed = replace(
            config,
            pool=_changed(config.pool, pool or {}),
            settings=config.settings.model_copy(update=dict(settings or {})),
            **keys,
        )
        return open_database(changed, driver=self.driver)

    @contextlib.asynccontextmanager
    async def items(self, **options: Any) -> AsyncGenerator[Items, None]:
        """Start a database (`options` are those of `open`) with an empty table `(id, name)`, dropped afterwards."""
        async with self.open(**options) as database, self.table(database, ITEMS) as table:
            yield Items(database, table)

    @contextlib.asynccontextmanager
    async def table(self, database: Database, columns: str) -> AsyncGenerator[str, None]:
        """Make a table of these columns, under a name that nobody has, and drop it afterwards, whatever happened."""
        name = self.unique()
        await database.execute(f"CREATE TABLE {name} ({columns})", timeout=CLEANING)
        try:
            yield name
        except BaseException:
            with contextlib.suppress(Exception):  # what went wrong before is what matters
                await self._drop(database, name)
            raise
        await self._drop(database, name)

    def unique(self) -> str:
        """Return the name of a table that is not there."""
        return f"{PREFIX}{uuid.uuid4().hex[:12]}"

    async def _drop(self, database: Database, name: str) -> None:
        sql = f"DROP TABLE {name}"
        try:
            async with asyncio.timeout(CLEANING):
                await database.execute(sql, timeout=CLEANING)
        except (PoolClosed, TimeoutError):  # stopped by the promise, or every connection of it lost
            async with self.open() as another:
                await another.execute(sql, timeout=CLEANING)


def _changed(pool: PoolSettings, changes: Mapping[str, Any]) -> PoolSettings:
    """The settings with these changes, and the smallest size never above the largest."""
    sizes: dict[str, Any] = {"min_size": min(pool.min_size, changes.get("max_size", pool.max_size))}
    if changes.get("min_size", 0) > pool.max_size:
        sizes["max_size"] = changes["min_size"]
    return pool.model_copy(update={**sizes, **changes})
