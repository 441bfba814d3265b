"""The reader of SQL agrees with the databases: what it makes of any text is taken, each value in its place.

`DBCORE_STRESS=100000` tries a tenth as many texts on each database, other ones every time.
"""

from __future__ import annotations

import asyncio
import os

from databases import Place
from hypothesis import given, settings
from hypothesis import strategies as st
from sql_texts import SELECTS, Select

import dbcore as db

STRESS = int(os.environ.get("DBCORE_STRESS", "0")) // 10
EXAMPLES = settings(max_examples=STRESS or 300, derandomize=not STRESS, database=None, deadline=None, print_blob=True)


async def sent(database: db.Database, way: str, select: Select) -> list[tuple[object, ...]]:
    if way == "stream":
        async with database.stream(select.sql, select.params) as rows:
            return [row async for row in rows]
    if way == "batch":
        (result,) = await database.batch([(select.sql, select.params)])
        return list(result.rows)
    return list(await database.fetch_all(select.sql, select.params))


def test_the_database_takes_what_is_sent_with_every_value_in_its_place(place: Place) -> None:
    ways = st.sampled_from(["fetch_all", "batch", "stream"])
    with asyncio.Runner() as runner:
        database = place.open(pool={"max_size": 1})

        @EXAMPLES
        @given(select=SELECTS[place.driver], way=ways)
        def agrees(select: Select, way: str) -> None:
            assert runner.run(sent(database, way, select)) == [select.row]

        runner.run(database.start())
        try:
            agrees()
        finally:
            runner.run(database.stop())
