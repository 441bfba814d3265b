"""The pytest plugin of dbcore: fixtures for applications that use it. pytest loads it by itself; `-p no:dbcore` not.

It stands beside the package `dbcore`, and imports that in a fixture at the earliest: pytest loads plugins before
anything else, so what they import is missing from a measurement of coverage, and slows every run down.

The fixtures are no coroutines, so they work with any plugin for async tests, and without one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from dbcore import Database
    from dbcore.testing import FakeDatabase

__all__ = ["Sandboxes", "dbcore_sandbox", "dbcore_source", "fake_database", "virtual_runner"]


class Sandboxes(Protocol):
    """Makes a sandbox: `async with dbcore_sandbox() as database:`."""

    def __call__(
        self, source: Any = None, name: str | None = None, *, share: bool = False
    ) -> AbstractAsyncContextManager[Database]:
        """Open a sandbox over `source`, else over the fixture `dbcore_source`. See `dbcore.testing.sandbox`."""
        ...


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option `dbcore_source` for the config file of pytest."""
    text = "what the fixture dbcore_sandbox opens: a URL, or a config file, relative to the root directory of the tests"
    parser.addini("dbcore_source", text, default="")


@pytest.fixture
def dbcore_source(pytestconfig: pytest.Config) -> Any:
    """What `dbcore_sandbox` opens: anything that `dbcore.open` takes, or a `Database`. Override it in a conftest.

    It is the option `dbcore_source`; without one `None`, which is `$DBCORE_CONFIG` or `db.toml`.
    """
    given: str = pytestconfig.getini("dbcore_source")
    if not given:
        return None
    return given if "://" in given else pytestconfig.rootpath / given


@pytest.fixture
def dbcore_sandbox(dbcore_source: Any) -> Sandboxes:
    """Make sandboxes, each a database on which everything is undone at the end. See `dbcore.testing.sandbox`."""
    from dbcore.testing import sandbox

    def make(
        source: Any = None, name: str | None = None, *, share: bool = False
    ) -> AbstractAsyncContextManager[Database]:
        return sandbox(dbcore_source if source is None else source, name, share=share)

    return make


@pytest.fixture
def fake_database() -> FakeDatabase:
    """Give a database without a server, empty and not started: `async with fake_database as database:`."""
    from dbcore.testing import FakeDatabase

    return FakeDatabase()


@pytest.fixture
def virtual_runner() -> Iterator[asyncio.Runner]:
    """Run coroutines in virtual time, from a test that is none itself: `virtual_runner.run(main())`."""
    from dbcore.testing import VirtualLoop

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner
