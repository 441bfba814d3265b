"""Whole programs, each in a process of its own: the same text on every database, what is imported, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from databases import PLACES, Place

SECONDS = 30
"""A program that takes longer hangs."""


def run(
    folder: Path, text: str, url: str = "", *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    program = folder / "program.py"
    program.write_text(text)
    return subprocess.run(
        [sys.executable, *arguments, program],
        env={**os.environ, "DATABASE_URL": url, **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


# -- one program, every database ---------------------------------------------------------------------------------------

CONFIG = """
default = "main"

[connections.main]
url = "${DATABASE_URL}"
pool.max_size = 3
"""

PROGRAM = """
import asyncio
import sys
from dataclasses import dataclass
from decimal import Decimal

import dbcore as db


@dataclass
class Account:
    id: int
    owner: str
    balance: Decimal


async def move(database, amount, source, target):
    async def work(tx):
        await tx.execute("UPDATE accounts SET cents = cents - $2 WHERE id = $1", [source, amount])
        await tx.execute("UPDATE accounts SET cents = cents + :amount WHERE id = :id", {"id": target, "amount": amount})
    await database.run_transaction(work)


async def main():
    async with db.open("db.toml") as database:
        await database.execute_script('''
            CREATE TABLE accounts (id INTEGER PRIMARY KEY, owner TEXT NOT NULL UNIQUE, cents INTEGER NOT NULL);
            CREATE TABLE audit (what TEXT);
        ''')
        await database.insert_many("accounts", ["id", "owner", "cents"], [(n, f"owner {n}", 1000) for n in range(10)])
        await asyncio.gather(*(move(database, n, n % 10, (n * 7 + 1) % 10) for n in range(100)))
        print(await database.fetch_value("SELECT sum(cents) FROM accounts", into=int))
        try:
            async with database.transaction() as tx:
                async with tx.transaction():
                    await tx.execute("INSERT INTO audit VALUES ('inner')")
                await tx.execute("INSERT INTO accounts VALUES ($1, $2, $3)", [99, "owner 1", 0])
        except db.ConstraintError as error:
            print(type(error).__name__, error.kind)
        print(await database.fetch_value("SELECT count(*) FROM audit"))
        async with database.stream("SELECT id FROM accounts ORDER BY id", batch_size=3) as rows:
            print([row.id async for row in rows])
        print(await database.execute_many("UPDATE accounts SET cents = $2 WHERE id = $1", [(1, 5), (2, 6)]))
        account = await database.fetch_one(
            "SELECT id, owner, CAST(cents AS DECIMAL) AS balance FROM accounts WHERE id = :id", {"id": 1}, into=Account
        )
        print(account)
        (first, second) = await database.batch([("SELECT 1 AS one", ()), ("SELECT $1 AS two", ["zwei"])])
        print(first.columns, first.rows, second.columns, second.rows)
        try:
            await database.fetch_one("SELECT * FROM accounts WHERE id = 1000")
        except db.NotFound:
            print("not found")
        stats = database.stats()
        print(stats.in_use, stats.size <= 3)


asyncio.run(main())
libraries = {"psycopg", "aiosqlite", "asyncpg", "asyncmy"}
libraries |= {"dbcore_postgres", "dbcore_sqlite", "dbcore_asyncpg", "dbcore_mysql"}
print(sorted(libraries & set(sys.modules)), file=sys.stderr)
"""

PRINTED = """\
10000
ConstraintError unique
0
[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
2
Account(id=1, owner='owner 1', balance=Decimal('5'))
('one',) [Row(one=1)] ('two',) [Row(two='zwei')]
not found
0 True
"""


def test_one_program_runs_unchanged_with_another_url(place: Place, tmp_path: Path) -> None:
    (tmp_path / "db.toml").write_text(CONFIG)
    done = run(tmp_path, PROGRAM, place.url, "-W", "error")
    assert done.stdout == PRINTED, done.stderr
    assert done.stderr == f"{sorted([place.package, place.library])}\n", "the other library was loaded, or a warning"
    assert done.returncode == 0


# -- what is imported --------------------------------------------------------------------------------------------------

LOADED = """
import json, sys
{statement}
names = {"psycopg", "aiosqlite", "asyncpg", "asyncmy"}
names |= {"dbcore_postgres", "dbcore_sqlite", "dbcore_asyncpg", "dbcore_mysql"}
print(json.dumps(sorted(names & set(sys.modules))))
"""


def test_importing_the_core_loads_no_driver_and_no_library(tmp_path: Path) -> None:
    done = run(tmp_path, LOADED.replace("{statement}", "import dbcore"))
    assert done.stdout == "[]\n", done.stderr


def test_a_config_loads_the_driver_that_it_names_and_no_other(place: Place, tmp_path: Path) -> None:
    (tmp_path / "db.toml").write_text(CONFIG)
    done = run(tmp_path, LOADED.replace("{statement}", "import dbcore; dbcore.load('db.toml')"), place.url)
    loaded: set[str] = set(json.loads(done.stdout))
    assert place.package in loaded, done.stderr
    assert {name.removeprefix("dbcore_") for name in loaded if name.startswith("dbcore_")} == {place.driver}
    assert loaded <= {place.package, place.library}


@pytest.mark.parametrize("name", PLACES)
def test_a_config_of_several_connections_loads_each_driver_it_names(tmp_path: Path, name: str) -> None:
    connections = {"sqlite": "sqlite:///app.db", "postgres": "postgres://localhost/app"}
    others = {other: url for other, url in connections.items() if other != name}
    text = "".join(f'[connections.{other}]\nurl = "{url}"\n' for other, url in others.items())
    (tmp_path / "db.toml").write_text(text)
    done = run(tmp_path, LOADED.replace("{statement}", "import dbcore; dbcore.load('db.toml')"))
    assert f"dbcore_{name}" not in done.stdout, done.stderr
    assert all(f"dbcore_{other}" in done.stdout for other in others), done.stderr


# -- how a program ends ------------------------------------------------------------------------------------------------

FORGETFUL = """
import asyncio
import os
import dbcore as db

async def main():
    database = db.open(os.environ["DATABASE_URL"])
    await database.start()
    print(await database.fetch_value("SELECT 1"))
    return database

kept = asyncio.run(main())
print("end")
"""

IN_USE = """
import asyncio
import os
import dbcore as db

async def main():
    database = db.open(os.environ["DATABASE_URL"])
    await database.start()
    connection = database.connection()
    await connection.__aenter__()
    transaction = connection.transaction()
    await transaction.__aenter__()
    print(await connection.fetch_value("SELECT 1"))
    return database, connection, transaction

kept = asyncio.run(main())
print("end")
"""

UNFINISHED = """
import asyncio
import os
import dbcore as db

async def main():
    database = db.open(os.environ["DATABASE_URL"])
    await database.start()
    print(await database.fetch_value("SELECT 1"))
    running = asyncio.create_task(database.fetch_value(os.environ["ENDLESS"]))
    await asyncio.sleep(0.05)
    return database, running

kept = asyncio.run(main())
print("end")
"""


@pytest.mark.parametrize("program", [FORGETFUL, IN_USE, UNFINISHED], ids=["idle", "in use", "in a statement"])
def test_a_program_that_never_stops_ends_by_itself_and_is_told_where_it_opened(
    place: Place, tmp_path: Path, program: str
) -> None:
    done = run(tmp_path, program, place.url, ENDLESS=place.endless)
    assert done.stdout == "1\nend\n", done.stderr
    assert done.returncode == 0
    opened = program.splitlines().index('    database = db.open(os.environ["DATABASE_URL"])') + 1
    assert f"program.py:{opened}, was never stopped" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Task was destroyed" not in done.stderr


RESETTING = """
import asyncio
import os
import dbcore as db

async def main():
    database = db.open(os.environ["DATABASE_URL"])
    await database.start()
    async with database.connection() as connection:
        connection.native
    print(1)

asyncio.run(main())
"""


def test_a_program_that_ends_in_the_middle_of_a_reset_says_no_more_than_that_it_was_never_stopped(
    place: Place, tmp_path: Path
) -> None:
    """What the end of the loop cancels is not begun anew in a loop that will not run it."""
    done = run(tmp_path, RESETTING, place.url)
    assert (done.stdout, done.returncode) == ("1\n", 0)
    lines = done.stderr.splitlines()
    assert len(lines) == 1
    assert "was never stopped" in lines[0]


STOPPED_LATE = """
import asyncio
import os
import dbcore as db

runner = asyncio.Runner()
runner.get_loop().slow_callback_duration = 60  # a machine that is busy with something else says nothing of the code
database = db.open(os.environ["DATABASE_URL"])
runner.run(database.start())
print(runner.run(database.fetch_value("SELECT 1")))
runner.run(database.stop())
runner.close()
"""


def test_a_program_that_stops_is_silent(place: Place, tmp_path: Path) -> None:
    """Laws: J18."""
    done = run(tmp_path, STOPPED_LATE, place.url, "-W", "error", "-X", "dev")
    assert (done.stdout, done.stderr, done.returncode) == ("1\n", "", 0)


INTERRUPTED = """
import asyncio
import os
import signal
import threading
import dbcore as db

async def main():
    async with db.open(os.environ["DATABASE_URL"]) as database:
        async with database.transaction() as tx:
            print(await tx.fetch_value("SELECT 1"), flush=True)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
            await tx.execute(os.environ["ENDLESS"])

asyncio.run(main())
"""


def test_ctrl_c_ends_a_program_in_the_middle_of_a_statement(place: Place, tmp_path: Path) -> None:
    done = run(tmp_path, INTERRUPTED, place.url, ENDLESS=place.endless)
    assert done.stdout == "1\n", done.stderr
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt", done.stderr
    assert "never stopped" not in done.stderr
