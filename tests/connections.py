"""What the tests of the drivers share: a connection without a pool, as the engine would open it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from urllib.parse import urlsplit

from dbcore.config import Config, Settings
from dbcore.driver import Driver, Hooks, Isolation
from dbcore.errors import DbError
from dbcore.loading import resolve

__all__ = ["Bare", "changed", "until"]

S = TypeVar("S", bound=Settings)
C = TypeVar("C")


@dataclass(frozen=True)
class Bare(Generic[S, C]):
    """A driver, used without a pool."""

    driver: Driver[S, C]
    make_hooks: Callable[[Config[S]], Hooks[C]]
    begin: Callable[[C, Isolation | None, bool], Awaitable[None]]

    def configured(self, url: str, *, pool: Mapping[str, Any] | None = None, **keys: Any) -> Config[S]:
        config: Config[S] = resolve({"url": url, "pool": pool or {}, **keys}, driver=self.driver)
        return config

    @contextlib.asynccontextmanager
    async def connected(
        self, url: str, *, pool: Mapping[str, Any] | None = None, **keys: Any
    ) -> AsyncGenerator[tuple[Hooks[C], C], None]:
        """Open a connection as the engine would, and drop it at the end."""
        hooks = self.make_hooks(self.configured(url, pool=pool, **keys))
        connection = await hooks.connect()
        try:
            yield hooks, connection
        finally:
            await hooks.close(connection)

    async def rows(self, connection: C, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        return list((await self.driver.query(connection, sql, params)).rows)

    async def start(self, connection: C, isolation: Isolation | None = None, *, read_only: bool = False) -> None:
        """Begin a transaction."""
        await self.begin(connection, isolation, read_only)

    async def failure(self, work: Awaitable[object]) -> DbError:
        """Await what must fail, and return the error that the core would raise."""
        (outcome,) = await asyncio.gather(work, return_exceptions=True)
        assert isinstance(outcome, BaseException), "it did not fail"
        known = outcome if isinstance(outcome, DbError) else self.driver.to_error(outcome)
        assert known is not None, f"{outcome!r} is not known to the driver"
        return known


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    """Wait for something that the server does in its own time; a test that waits in vain fails."""
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.002)


def changed(url: str, **parts: str | int | None) -> str:
    """The same URL with another user, password, host, port or path."""
    old = urlsplit(url)
    user = parts.get("user", old.username)
    password = parts.get("password", old.password)
    host, port = parts.get("host", old.hostname), parts.get("port", old.port)
    access = f"{user}@" if password is None else f"{user}:{password}@"
    path = str(parts.get("path", old.path))
    return old._replace(netloc=f"{access}{host}:{port}", path=path).geturl()
