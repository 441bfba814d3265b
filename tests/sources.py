"""Where each driver finds an empty database, for programs that are no tests: the servers are those of the tests."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager
from functools import partial

import mysql_server
import postgres_server
from servers import PrivateServer

__all__ = ["SOURCES"]


@contextlib.contextmanager
def _sqlite() -> Generator[str, None, None]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/scratch.db"


@contextlib.contextmanager
def _server(variable: str, make: Callable[[], PrivateServer]) -> Generator[str, None, None]:
    if url := os.environ.get(variable):
        yield url
    else:
        with make() as server:
            yield server.url


_postgres = partial(_server, postgres_server.VARIABLE, postgres_server.Server)


@contextlib.contextmanager
def _asyncpg() -> Generator[str, None, None]:
    with _postgres() as url:
        yield url.replace("postgresql:", "asyncpg:", 1)


SOURCES: Mapping[str, Callable[[], AbstractContextManager[str]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "asyncpg": _asyncpg,
    "mysql": partial(_server, mysql_server.VARIABLE, mysql_server.Server),
}
"""By the name of the driver: an empty database, by its URL."""
