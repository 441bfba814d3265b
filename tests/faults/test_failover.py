"""A primary that dies and a standby that takes its place, while 50 tasks write."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from collections.abc import Generator

import psycopg
import pytest
from postgres_server import ENCODED, USER, Server, programs
from postgres_standby import Standby, without_standby

import dbcore as db

pytestmark = pytest.mark.skipif(without_standby() is not None, reason=str(without_standby()))

TASKS = 50
BEFORE, AFTER = 500, 500
"""Commits that are acknowledged before the primary dies, and by the new one."""


@contextlib.contextmanager
def pair() -> Generator[tuple[Server, Standby], None, None]:
    """Two servers: every commit that the first acknowledges is at the second too."""
    with Server({"synchronous_commit": "on", "max_connections": "30"}) as primary, Standby(primary) as standby:
        standby.wait_until_synchronous()
        yield primary, standby


def either(primary: Server, standby: Server) -> str:
    hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
    return f"postgresql://{USER}:{ENCODED}@{hosts}/postgres?target_session_attrs=read-write"


async def test_the_pool_finds_the_new_primary_and_no_acknowledged_commit_is_lost() -> None:
    """Laws: F1, F6, F8, N9."""
    kept: set[int] = set()
    refused: set[int] = set()
    unknown: set[int] = set()
    wrong: list[BaseException] = []
    numbers = itertools.count()
    died, done = asyncio.Event(), asyncio.Event()
    after = Counter[str]()
    with pair() as (primary, standby):
        source = {
            "url": either(primary, standby),
            "pool": {"max_size": 10, "checkout_timeout": 20, "backoff_max": 0.2, "connect_timeout": 2},
        }
        async with db.open(source) as database:
            await database.execute("CREATE TABLE written (n bigint PRIMARY KEY)")

            async def write(number: int) -> None:
                if number % 2:
                    await database.execute("INSERT INTO written VALUES ($1)", [number])
                else:
                    async with database.transaction() as tx:
                        await tx.execute("INSERT INTO written VALUES ($1)", [number])
                        await tx.fetch_value("SELECT count(*) FROM written WHERE n = $1", [number])

            async def work() -> None:
                while not done.is_set():
                    number = next(numbers)
                    try:
                        await write(number)
                    except (db.DbConnectionError, db.PoolTimeout) as error:
                        (unknown if getattr(error, "outcome_unknown", False) else refused).add(number)
                        after[type(error).__name__] += 1
                        await asyncio.sleep(0.01)
                    except Exception as error:
                        (unknown if getattr(error, "outcome_unknown", False) else wrong).append(error)  # type: ignore
                    else:
                        kept.add(number)
                        if len(kept) >= BEFORE:
                            died.set()

            tasks = [asyncio.create_task(work()) for _ in range(TASKS)]
            try:
                await died.wait()
                await asyncio.to_thread(primary.kill)
                before = len(kept)
                await asyncio.to_thread(standby.promote)
                async with asyncio.timeout(60):
                    while len(kept) < before + AFTER:
                        await asyncio.sleep(0.01)
            finally:
                done.set()
                await asyncio.gather(*tasks)
            found = {row.n for row in await database.fetch_all("SELECT n FROM written")}
            assert database.stats().size <= 10
    print(after, len(kept), len(refused), len(unknown), len(refused & found), sorted(refused & found)[:10])
    assert wrong == []
    assert kept <= found
