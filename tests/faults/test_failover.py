"""A primary that dies and a standby that takes its place, while 50 tasks write."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Generator

import pytest
from postgres_server import Server
from postgres_standby import Standby, without_standby
from servers import ENCODED, USER

import dbcore as db

pytestmark = pytest.mark.skipif(without_standby() is not None, reason=str(without_standby()))

TASKS = 50
BEFORE, AFTER = 500, 500
"""Commits that are acknowledged before the primary dies, and by the new one."""


@contextlib.contextmanager
def pair() -> Generator[tuple[Server, Standby], None, None]:
    """A primary and its standby: every commit that the first acknowledges is at the second too."""
    with Server({"synchronous_commit": "on", "max_connections": "30"}) as primary, Standby(primary) as standby:
        standby.wait_until_synchronous()
        yield primary, standby


def either(primary: Server, standby: Server) -> str:
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    return f"postgresql://{USER}:{ENCODED}@{hosts}/postgres?target_session_attrs=read-write"


async def test_the_pool_finds_the_new_primary_and_no_acknowledged_commit_is_lost() -> None:
    """Laws: F1, F6, F8, N9."""
    numbers = itertools.count()
    kept: set[int] = set()
    refused: set[int] = set()
    wrong: list[Exception] = []
    enough, done = asyncio.Event(), asyncio.Event()
    with pair() as (primary, standby):
        source = {"url": either(primary, standby), "pool": {"max_size": 10, "checkout_timeout": 20, "backoff_max": 0.2}}
        async with db.open(source) as database:
            await database.execute("CREATE TABLE written (n bigint PRIMARY KEY)")

            async def write(number: int) -> None:
                if number % 2:
                    await database.execute("INSERT INTO written VALUES ($1)", [number])
                else:
                    async with database.transaction() as tx:
                        await tx.execute("INSERT INTO written VALUES ($1)", [number])
                        assert await tx.fetch_value("SELECT count(*) FROM written WHERE n = $1", [number]) == 1

            async def work() -> None:
                while not done.is_set():
                    number = next(numbers)
                    try:
                        await write(number)
                    except (db.DbConnectionError, db.PoolTimeout) as error:
                        if not error.outcome_unknown:
                            refused.add(number)
                        await asyncio.sleep(0)
                    except Exception as error:  # whatever else comes is the finding
                        wrong.append(error)
                        return
                    else:
                        kept.add(number)
                        if len(kept) >= wanted:
                            enough.set()

            wanted = BEFORE
            tasks = [asyncio.create_task(work()) for _ in range(TASKS)]
            try:
                await enough.wait()
                await asyncio.to_thread(primary.kill)
                enough.clear()
                wanted = len(kept) + AFTER
                await asyncio.to_thread(standby.promote)
                await enough.wait()
            finally:
                done.set()
                await asyncio.gather(*tasks)
            found = {row.n for row in await database.fetch_all("SELECT n FROM written")}
            assert database.stats().size <= 10
    assert wrong == []
    assert kept <= found
    assert not refused & found


async def test_a_demoted_server_is_left() -> None:
    """Laws: F1, F6. It still answers, and says that it is read-only."""
    with pair() as (primary, standby):
        async with db.open({"url": either(primary, standby), "pool": {"max_size": 3}}) as database:
            await database.execute("CREATE TABLE written (n bigint)")
            async with database.connection() as one, database.connection() as two:
                for connection in (one, two):
                    assert await connection.fetch_value("SELECT inet_server_port()") == primary.port
            # Nobody follows it any more: it must not wait for that, either.
            primary.set(default_transaction_read_only="on", synchronous_standby_names="")
            await asyncio.to_thread(standby.promote)
            refusals: list[str | None] = []
            while await database.fetch_value("SELECT inet_server_port()") != standby.port:
                try:
                    await database.execute("INSERT INTO written VALUES (1)")
                except db.QueryError as error:
                    refusals.append(error.sqlstate)
            assert refusals in ([], ["25006"])  # the first refusal, or a look before it, puts both to the question
            assert await database.fetch_value("SELECT inet_server_port()") == standby.port
