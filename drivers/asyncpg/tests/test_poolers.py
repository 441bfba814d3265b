"""Behind a PgBouncer: `pooler` decides what is prepared, sent at the start, and reset."""

from __future__ import annotations

import pytest
from pgbouncer import Bouncer, bouncer

import dbcore as db

__all__ = ["bouncer"]


def url_of(bouncer: Bouncer, pooler: str) -> str:  # the fixture of that name gives one
    return f"{bouncer.url.replace('postgresql:', 'postgresql+asyncpg:', 1)}?pooler={pooler}"


async def test_in_transaction_mode_everything_runs_and_nothing_is_kept_prepared(bouncer: Bouncer) -> None:
    async with db.open({"url": url_of(bouncer, "transaction"), "pool": {"max_size": 3}}) as database:
        await database.execute("DROP TABLE IF EXISTS pooled_by_asyncpg")
        await database.execute("CREATE TABLE pooled_by_asyncpg (id int PRIMARY KEY, name text)")
        try:
            insert = "INSERT INTO pooled_by_asyncpg VALUES ($1, $2)"
            for number in range(20):
                await database.execute(insert, [number, str(number)])
            assert await database.execute_many(insert, [[100, "a"], [101, 5]]) == 2
            assert await database.insert_many("pooled_by_asyncpg", ["id", "name"], [(200, "x"), (201, "y")]) == 2
            async with database.stream("SELECT * FROM pooled_by_asyncpg WHERE id >= $1", [100], batch_size=2) as rows:
                assert len([row async for row in rows]) == 4
            async with database.transaction("serializable") as tx:
                assert await tx.fetch_value("SELECT count(*) FROM pooled_by_asyncpg") == 24
            with pytest.raises(db.ConstraintError):
                await database.execute(insert, [1, "again"])
            assert await database.fetch_value("SELECT count(*) FROM pg_prepared_statements") == 0
        finally:
            await database.execute("DROP TABLE pooled_by_asyncpg")


async def test_a_pooler_that_is_not_announced_is_named_in_the_error(bouncer: Bouncer) -> None:
    with pytest.raises(db.DbConnectionError, match="pooler"):
        async with db.open(url_of(bouncer, "none")):
            pass
