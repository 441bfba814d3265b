"""The databases of a run: a Postgres in a temporary folder, and a SQLite file, in memory where that can be."""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from postgres_server import Server  # found by the line above
from servers import ServerMissing  # as above

__all__ = [
    "ALL",
    "BULK",
    "BULK_COLUMNS",
    "COLUMNS",
    "NOTE",
    "ONE",
    "Databases",
    "Kind",
    "databases",
    "own_postgres",
    "styled",
]

Kind = Literal["postgres", "sqlite"]

ITEMS = 1_000

COLUMNS = ("id", "name", "score", "at", "ok")
BULK_COLUMNS = ("a", "b", "c", "d")

ONE = "SELECT id, name, score, at, ok FROM items WHERE id = $1"
ALL = "SELECT id, name, score, at, ok FROM items"
BULK = "INSERT INTO bulk (a, b, c, d) VALUES ($1, $2, $3, $4)"
NOTE = "INSERT INTO notes (k, v) VALUES ($1, $2)"

SETTINGS = {"max_connections": "200", "shared_buffers": "128MB", "jit": "off"}
"""Beside those of the tests, which turn off what survives a crash: the disk is not what is compared."""

PRAGMAS = ("PRAGMA journal_mode = wal", "PRAGMA synchronous = normal", "PRAGMA busy_timeout = 5000")
"""What the SQLite driver sets, for the contenders that set nothing."""

TABLES = {
    "postgres": (
        "CREATE TABLE items (id int PRIMARY KEY, name text, score float8, at timestamp, ok bool)",
        "CREATE TABLE bulk (a int, b text, c float8, d bool)",
        "CREATE TABLE notes (k bigint, v text)",
    ),
    "sqlite": (
        "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, score REAL, at TEXT, ok INTEGER)",
        "CREATE TABLE bulk (a INTEGER, b TEXT, c REAL, d INTEGER)",
        "CREATE TABLE notes (k INTEGER, v TEXT)",
    ),
}

COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT count(*) FROM n"
CALIBRATION = 500_000


def styled(text: str, mark: Literal["?", "%s"]) -> str:
    """Write a text's placeholders as another library wants them."""
    return re.sub(r"\$\d", mark, text)


@dataclass(frozen=True, kw_only=True)
class Databases:
    """Where the databases are, and a way to look into them that no contender has a hand in."""

    urls: dict[Kind, str]
    """Postgres is missing where its programs are."""
    slow: dict[Kind, str]
    """A statement that takes `Effort.slow` seconds and returns one row."""

    @property
    def sqlite(self) -> Path:
        return Path(self.urls["sqlite"].removeprefix("sqlite:///"))

    def ask(self, kind: Kind, text: str) -> list[tuple[Any, ...]]:
        """Run one statement on a connection of its own and return its rows."""
        if kind == "postgres":
            with psycopg.connect(self.urls[kind], autocommit=True) as connection:
                cursor = connection.execute(text.encode())
                return cursor.fetchall() if cursor.description else []
        with contextlib.closing(sqlite3.connect(self.sqlite, timeout=20, isolation_level=None)) as connection:
            return connection.execute(text).fetchall()

    def count(self, kind: Kind, table: str) -> int:
        ((count,),) = self.ask(kind, f"SELECT count(*) FROM {table}")
        return int(count)

    def clear(self, kind: Kind, table: str) -> None:
        """Empty a table; what is left to be tidied after it is done at once, and not while somebody is measured."""
        if kind == "postgres":
            self.ask(kind, f"TRUNCATE {table}")
        else:
            self.ask(kind, f"DELETE FROM {table}")
            self.ask(kind, "PRAGMA wal_checkpoint(TRUNCATE)")


def item(kind: Kind, number: int) -> tuple[Any, ...]:
    """Return a row of `items` as the database gives it: SQLite keeps a timestamp as text, a bool as a number."""
    at = dt.datetime(2026, 1, 1, 12) + dt.timedelta(minutes=number, microseconds=number)  # noqa: DTZ001  # no zone
    ok = number % 2 == 0
    kept: tuple[Any, ...] = (at, ok) if kind == "postgres" else (at.isoformat(" "), int(ok))
    return number, f"item number {number}", number * 1.25, *kept


def bulk_rows(count: int) -> list[tuple[Any, ...]]:
    return [(number, f"bulk row number {number}", number * 0.5, number % 3 == 0) for number in range(count)]


@contextlib.contextmanager
def own_postgres() -> Generator[str | None, None, None]:
    """Start a Postgres and give its URL, without TCP in between; `None` where its programs are missing."""
    try:
        server = Server(SETTINGS)
    except ServerMissing:
        yield None
        return
    with server:
        yield server.socket_url


@contextlib.contextmanager
def databases(slow: float, postgres: str | None) -> Generator[Databases, None, None]:
    """Make SQLite's file, and the tables there and in an empty Postgres if there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        urls: dict[Kind, str] = {"sqlite": f"sqlite:///{folder}/bench.db"}
        if postgres is not None:
            urls["postgres"] = postgres
        found = Databases(urls=urls, slow={"postgres": f"SELECT pg_sleep({slow})", "sqlite": _counting(slow)})
        for kind in urls:
            _fill(found, kind)
        yield found


def _fill(found: Databases, kind: Kind) -> None:
    if kind == "sqlite":
        found.ask(kind, PRAGMAS[0])  # the file remembers
    for text in TABLES[kind]:
        found.ask(kind, text)
    rows: Sequence[tuple[Any, ...]] = [item(kind, number) for number in range(ITEMS)]
    if kind == "postgres":
        with psycopg.connect(found.urls[kind], autocommit=True) as connection:
            connection.cursor().executemany(b"INSERT INTO items VALUES (%s, %s, %s, %s, %s)", rows)
            connection.execute("VACUUM ANALYZE items")
    else:
        with contextlib.closing(sqlite3.connect(found.sqlite)) as native, native:
            native.executemany("INSERT INTO items VALUES (?, ?, ?, ?, ?)", rows)


def _counting(seconds: float) -> str:
    """Write a query that keeps SQLite busy for about so long on this machine."""
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        started = time.perf_counter()
        connection.execute(COUNTING.format(CALIBRATION)).fetchall()
        took = time.perf_counter() - started
    return COUNTING.format(max(1, round(CALIBRATION * seconds / took)))
