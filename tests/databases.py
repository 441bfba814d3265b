"""The databases that the tests of the face run on, in one list: the fixture `place` is each of them in turn.

A new driver is one more entry in `PLACES`: where its database is, and what its SQL says differently. Beside them is
`pgbouncer`: Postgres through a PgBouncer in transaction mode, for the files of tests that `POOLED` names.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import uuid
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from asyncpg_place import BEYOND_ASYNCPG, through_asyncpg
from mysql_place import BEYOND_MYSQL, on_mysql
from pgbouncer import Bouncer

import dbcore as db
from dbcore.events import Observer

__all__ = ["BEYOND", "PLACES", "POOLED", "UNPOOLED", "Ask", "Place", "place", "until"]

Ask = Callable[[str], list[tuple[Any, ...]]]
"""Sends one statement on a connection that no pool knows of, and returns its rows."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """An empty database of one test, and what has to be said differently there."""

    driver: str
    package: str
    """The driver's package, which nothing but a config that names it may import."""
    library: str
    """The library underneath."""
    url: str
    endless: str
    """A statement that does not end by itself."""
    lock: tuple[str, ...]
    """What an outsider says to keep everybody else from writing into `items`; `ROLLBACK` ends it."""
    impatient: Mapping[str, Any]
    """Config keys that turn waiting for such a lock into an error soon."""
    isolations: frozenset[str]
    errors_doom: bool
    """An error inside a transaction leaves nothing but a rollback."""
    names_constraints: bool
    """Errors carry the name of a unique or foreign key constraint."""
    names_tables: bool = True
    """Errors carry the table of a unique or not null constraint."""
    text: str = "TEXT"
    """The type to cast to for a text."""
    quote: str = '"'
    """What stands around an identifier."""
    outside: Callable[[], AbstractContextManager[Ask]]
    """Opens a connection of the database's own library, beside every pool."""
    seen: Callable[[], int]
    """How many connections there are, by the account of somebody outside of the pool."""
    unreachable: Mapping[str, tuple[str, str]]
    """By what is wrong: a URL that cannot be connected to for good, and a word of the reason."""
    secret: str | None
    """The password in the URL."""

    def quoted(self, name: str) -> str:
        """Return an identifier as it is written in SQL."""
        return self.quote + name.replace(self.quote, 2 * self.quote) + self.quote

    def open(
        self, *, observe: Observer | None = None, pool: Mapping[str, Any] | None = None, **keys: Any
    ) -> db.Database:
        """Make a database with these config keys. Does no I/O."""
        return db.open({"url": self.url, "pool": pool or {}, **keys}, observe=observe)

    @contextlib.asynccontextmanager
    async def items(self, **options: Any) -> AsyncGenerator[db.Database, None]:
        """Start a database that has the empty table `items (id, name)`."""
        async with self.open(**options) as database:
            await database.execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL)")
            yield database


async def until(condition: Callable[[], object]) -> None:
    """Wait for something outside of the event loop's knowledge; a test that waits in vain fails."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


# -- SQLite ------------------------------------------------------------------------------------------------------------


def _sqlite(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder: Path = request.getfixturevalue("tmp_path")
    path = folder / "test.db"
    (folder / "no_database").write_text("these are just words, and more than a hundred of them" * 100)

    @contextlib.contextmanager
    def outside() -> Generator[Ask, None, None]:
        with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as native:
            yield lambda sql: native.execute(sql).fetchall()

    def seen() -> int:
        links = [str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return links.count(str(path))

    yield Place(
        driver="sqlite",
        package="dbcore_sqlite",
        library="aiosqlite",
        url=f"sqlite:///{path}",
        endless="WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
        lock=("BEGIN IMMEDIATE",),
        impatient={"busy_timeout": 0.02},
        isolations=frozenset({"serializable"}),
        errors_doom=False,
        names_constraints=False,
        outside=outside,
        seen=seen,
        unreachable={
            "no such folder": (f"sqlite:///{folder}/nowhere/test.db", "nowhere"),
            "a folder": (f"sqlite:///{folder}", "folder"),
            "no database": (f"sqlite:///{folder}/no_database", "not a SQLite database"),
            "no such file": (f"sqlite:///{folder}/other.db?create=false", "does not exist"),
        },
        secret=None,
    )


# -- Postgres ----------------------------------------------------------------------------------------------------------


def _postgres(request: pytest.FixtureRequest) -> Generator[Place, None, None]:
    server: str = request.getfixturevalue("postgres_url")
    schema = f"test_{uuid.uuid4().hex[:12]}"
    joint = "&" if "?" in server else "?"
    search_path = quote(f"-csearch_path={schema}")

    @contextlib.contextmanager
    def outside() -> Generator[Ask, None, None]:
        with psycopg.connect(server, autocommit=True, options=f"-csearch_path={schema}") as native:
            yield partial(_ask, native)

    with psycopg.connect(server, autocommit=True) as admin:
        admin.execute(f"CREATE SCHEMA {schema}".encode())

        def seen() -> int:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s"
            (count,) = admin.execute(asked, [schema]).fetchall()[0]
            return int(count)

        parts = urlsplit(server)
        try:
            yield Place(
                driver="postgres",
                package="dbcore_postgres",
                library="psycopg",
                url=f"{server}{joint}options={search_path}&application_name={schema}",
                endless="SELECT pg_sleep(600)",
                lock=("BEGIN", "LOCK TABLE items IN EXCLUSIVE MODE"),
                impatient={"url": f"{server}{joint}options={search_path}%20-clock_timeout%3D20"},
                isolations=frozenset({"read committed", "repeatable read", "serializable"}),
                errors_doom=True,
                names_constraints=True,
                outside=outside,
                seen=seen,
                unreachable={
                    "wrong password": (_changed(server, password="wr0ng-secret"), "password authentication failed"),
                    "no such database": (_changed(server, path="/nowhere"), "nowhere"),
                    "nobody listens": (_changed(server, port=1), "refused"),
                },
                secret=parts.password,
            )
        finally:
            gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = %s"
            admin.execute(gone, [schema])
            admin.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def _ask(native: psycopg.Connection, sql: str) -> list[tuple[Any, ...]]:
    cursor = native.execute(sql.encode())
    return cursor.fetchall() if cursor.description is not None else []


@contextlib.contextmanager
def _role(admin: psycopg.Connection, name: str, **settings: str) -> Generator[None, None, None]:
    """A role whose sessions begin with these settings: a session behind a pooler has none of its own."""
    admin.execute(f"CREATE ROLE {name} SUPERUSER LOGIN PASSWORD '{name}'".encode())
    try:
        for key, value in settings.items():
            admin.execute(f"ALTER ROLE {name} SET {key} = '{value}'".encode())
        yield
    finally:
        gone = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s"
        admin.execute(gone, [name])
        admin.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def _pgbouncer(request: pytest.FixtureRequest) -> Iterator[Place]:
    bouncer: Bouncer = request.getfixturevalue("bouncer")
    schema = f"pooled_{uuid.uuid4().hex[:12]}"
    impatient = f"{schema}_impatient"
    server = _changed(bouncer.server.url, user=schema, password=schema)

    @contextlib.contextmanager
    def outside() -> Generator[Ask, None, None]:
        with psycopg.connect(server, autocommit=True) as native:
            yield partial(_ask, native)

    def seen() -> int:
        return sum(client["user"] == schema for client in bouncer.show("CLIENTS"))

    with contextlib.ExitStack() as stack:
        direct = stack.enter_context(contextlib.contextmanager(_postgres)(request))
        admin = stack.enter_context(psycopg.connect(bouncer.server.url, autocommit=True))
        stack.enter_context(_role(admin, schema, search_path=schema))
        stack.enter_context(_role(admin, impatient, search_path=schema, lock_timeout="20ms"))
        admin.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {schema}".encode())
        url = f"{_changed(bouncer.url, user=schema, password=schema)}?pooler=transaction"
        yield replace(
            direct,
            url=url,
            impatient={"url": _changed(url, user=impatient, password=impatient)},
            outside=outside,
            seen=seen,
            unreachable={},
            secret=schema,
        )


def _changed(
    url: str,
    *,
    user: str | None = None,
    password: str | None = None,
    path: str | None = None,
    port: int | None = None,
) -> str:
    parts = urlsplit(url)
    access = f"{user or parts.username}:{password or parts.password}"
    return parts._replace(
        netloc=f"{access}@{parts.hostname}:{port or parts.port}", path=parts.path if path is None else path
    ).geturl()


def _asyncpg(request: pytest.FixtureRequest) -> Iterator[Place]:
    with contextlib.contextmanager(_postgres)(request) as direct:
        yield through_asyncpg(direct)


def _mysql(request: pytest.FixtureRequest) -> Iterator[Place]:
    yield from on_mysql(request, Place)


PLACES: Mapping[str, Callable[[pytest.FixtureRequest], Iterator[Place]]] = {
    "sqlite": _sqlite,
    "postgres": _postgres,
    "asyncpg": _asyncpg,
    "mysql": _mysql,
}

BEYOND: Mapping[str, Mapping[str, str]] = {"asyncpg": BEYOND_ASYNCPG, "mysql": BEYOND_MYSQL}
"""Tests that a place cannot pass, with the reason; by name, or by the name with the rest of its id: `test_x[rest]`."""

POOLED = frozenset(
    {
        "test_statements",
        "test_rows",
        "test_many",
        "test_streams",
        "test_transactions",
        "test_timeouts",
        "test_run_transaction",
    }
)
"""The files whose tests run through PgBouncer as well."""

UNPOOLED: Mapping[str, str] = {}
"""Tests of those files that cannot, with the reason."""


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    """An empty database of every kind in turn; `tests/database/conftest.py` says of which for whom."""
    beyond = BEYOND.get(request.param, {})
    test: pytest.Function = request.node
    rest = test.name.removeprefix(f"{test.originalname}[{request.param}").removeprefix("-")
    if reason := beyond.get(test.originalname) or beyond.get(f"{test.originalname}[{rest}"):
        pytest.skip(f"{request.param}: {reason}")
    if request.param == "pgbouncer":
        yield from _pgbouncer(request)
    else:
        yield from PLACES[request.param](request)
