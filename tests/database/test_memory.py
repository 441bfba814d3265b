"""A stream holds a few batches in memory, however many rows it gives.

`DBCORE_STRESS=100000` takes ten rows for each.
"""

from __future__ import annotations

import gc
import os
import tracemalloc

from databases import Place

ROWS = int(os.environ.get("DBCORE_STRESS", "20000")) * 10
HEAP = 20
"""Bytes of Python's heap for each row that such a stream may take at most; all of the rows are four times as much."""

COUNTING = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1) SELECT i FROM n"
SERIES = {
    "sqlite": COUNTING,
    "mysql": COUNTING,
    "postgres": "SELECT i FROM generate_series(1, $1::int) AS n(i)",
    "asyncpg": "SELECT i FROM generate_series(1, $1::int) AS n(i)",
}


async def test_a_stream_of_many_rows_stays_small(place: Place) -> None:
    async with place.open(pool={"max_size": 1}) as database:
        await database.fetch_all(SERIES[place.driver], [10])  # what stays for good is there now
        gc.collect()
        tracemalloc.start()
        try:
            count = total = 0
            async with database.stream(SERIES[place.driver], [ROWS]) as rows:
                async for (number,) in rows:
                    count += 1
                    total += number
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (count, total) == (ROWS, ROWS * (ROWS + 1) // 2)
    assert peak < HEAP * ROWS
