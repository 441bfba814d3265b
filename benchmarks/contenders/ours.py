"""dbcore, through its public face alone."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import dbcore as db
from benchmarks.contenders.contender import Contender, Opened, Rows
from benchmarks.server import ALL, BULK_COLUMNS, NOTE, ONE, Databases, Kind

__all__ = ["CONTENDERS"]


async def _open(kind: Kind, where: Databases, size: int, patience: float) -> Opened:
    pool = {"min_size": size, "max_size": size, "checkout_timeout": patience}
    database = db.open({"url": where.urls[kind], "pool": pool})
    await database.start()

    async def fetch_one(key: int) -> Any:
        return await database.fetch_one(ONE, (key,))

    async def fetch_all() -> list[Any]:
        return await database.fetch_all(ALL)

    async def fetch_dicts() -> list[Mapping[str, Any]]:
        return [row.as_dict() for row in await database.fetch_all(ALL)]

    async def insert_many(rows: Rows) -> None:
        await database.insert_many("bulk", BULK_COLUMNS, rows)

    async def insert_one(key: int) -> None:
        async with database.transaction() as tx:
            await tx.execute(NOTE, (key, "value"))

    async def slow() -> None:
        await database.fetch_value(where.slow[kind])

    return Opened(
        close=database.stop,
        checkout=database.connection,
        impatient=database.connection,
        gives_up=db.PoolTimeout,
        fetch_one=[fetch_one],
        fetch_all=fetch_all,
        fetch_dicts=fetch_dicts,
        insert_many=insert_many,
        insert_one=[insert_one],
        slow=slow,
    )


HOW = "statements on `Database`; rows are `Row`, dicts come by `as_dict()`; otherwise as it comes"

CONTENDERS = (
    Contender(name="dbcore (postgres)", on="postgres", role="ours", how=HOW, open=partial(_open, "postgres")),
    Contender(name="dbcore (sqlite)", on="sqlite", role="ours", how=HOW, open=partial(_open, "sqlite")),
)
