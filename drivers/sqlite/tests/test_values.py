"""What is written comes back: as SQLite keeps it, and equal where its type is named."""

from __future__ import annotations

import enum
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from dbcore_sqlite.bulk import insert_many
from dbcore_sqlite.streams import stream
from pydantic import TypeAdapter
from sqlite_pools import one_connection, run, value

from dbcore.statements.values import Json


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


EAST = timezone(timedelta(hours=5, minutes=30))

VALUES: list[Any] = [
    None,
    True,
    0,
    2**63 - 1,
    -(2**63),
    1.5,
    math.inf,
    -math.inf,
    "",
    "text with 'quotes', a \0 and a 𝄞",
    b"",
    b"\0\xff",
    datetime(2024, 2, 29, 12, 30, 0, 1, tzinfo=UTC),
    datetime(2024, 2, 29, 12, 30, tzinfo=EAST),
    datetime(1, 1, 1, tzinfo=EAST),
    datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
    datetime(2024, 2, 29, 12, 30),  # noqa: DTZ001 (a naive one keeps its wall time)
    date.min,
    date.max,
    time(23, 59, 59, 999999),
    timedelta(days=-1, microseconds=3),
    timedelta(days=99999, seconds=1),
    Decimal("12345678901234567890.123456789"),
    UUID("12345678-1234-5678-1234-567812345678"),
    {"a": [1, None, "x"], "b": {"c": 1.5}},
    [1, "two", None],
    Colour.RED,
    Level.HIGH,
]


@pytest.mark.parametrize("given", VALUES, ids=repr)
async def test_a_value_comes_back_equal_where_its_type_is_named(tmp_path: Path, given: Any) -> None:
    async with one_connection(tmp_path) as connection:
        await run(connection, "CREATE TABLE kept (v)")
        await run(connection, "INSERT INTO kept VALUES (?)", given)
        await insert_many(connection, ("kept",), ["v"], [(given,)])
        rows = [row async for batch in stream(connection, "SELECT v FROM kept", (), 10) for row in batch.rows]
        for (raw,) in [*rows, (await value(connection, "SELECT ?", given),)]:
            if isinstance(given, (dict, list)):
                assert TypeAdapter(Json).validate_python(raw) == Json(given)
            else:
                kind: Any = type(given)  # pyright: ignore[reportUnknownVariableType]
                assert TypeAdapter(kind).validate_python(raw) == given


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (datetime(2024, 1, 1, 12, tzinfo=EAST), "2024-01-01 06:30:00+00:00"),
        (date(2024, 1, 1), "2024-01-01"),
        (True, 1),
        (Json("x"), '"x"'),
        (Json(None), "null"),
        (Colour.RED, "red"),
        ({"when": date(2024, 1, 1)}, '{"when":"2024-01-01"}'),
    ],
)
async def test_sqlite_keeps_text_where_it_has_no_type(tmp_path: Path, given: object, kept: object) -> None:
    async with one_connection(tmp_path) as connection:
        assert await value(connection, "SELECT ?", given) == kept


async def test_moments_sort_as_their_texts_do(tmp_path: Path) -> None:
    moments = [datetime(2024, 1, 1, 12, 0, 0, micro, tzinfo=zone) for micro in (0, 1, 500000) for zone in (EAST, UTC)]
    async with one_connection(tmp_path) as connection:
        texts = [await value(connection, "SELECT ?", moment) for moment in moments]
    assert [text for _, text in sorted(zip(moments, texts, strict=True))] == sorted(texts)


async def test_five_megabytes_come_back(tmp_path: Path) -> None:
    async with one_connection(tmp_path) as connection:
        for large in ("ä" * 2_500_000, b"\0\1" * 2_500_000):
            assert await value(connection, "SELECT ?", large) == large
