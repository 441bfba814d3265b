"""Parameters on their way to SQLite, which knows integers, floats, texts and blobs.

The adapters of the `sqlite3` module are not used: they belong to the whole process, and those for dates are deprecated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from itertools import chain
from types import NoneType
from typing import Any
from uuid import UUID

from dbcore.statements.values import Json, encode_duration, encode_json, plain

__all__ = ["encode", "encode_rows"]

_DIRECT = frozenset({int, str, float, bool, NoneType, bytes})
"""What the library takes as it is."""


def encode(params: Sequence[Any]) -> Sequence[Any]:
    """Return the parameters in types that SQLite has; the same object where nothing is to be done."""
    return params if _DIRECT.issuperset(map(type, params)) else [_encode(value) for value in params]


def encode_rows(rows: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
    """The same for many rows, at the price of one look at all of them."""
    if _DIRECT.issuperset(map(type, chain.from_iterable(rows))):
        return rows
    return [encode(row) for row in rows]


def _datetime(value: datetime) -> str:
    """A moment is kept in UTC, so that texts sort as moments do; a naive datetime keeps its wall time."""
    if value.tzinfo is not None:
        with suppress(OverflowError):  # within a day of year 1 or 9999: it keeps its offset
            value = value.astimezone(UTC)
    return value.isoformat(" ")


_BY_TYPE: Mapping[type, Callable[[Any], Any]] = {
    datetime: _datetime,
    date: date.isoformat,
    time: time.isoformat,
    timedelta: encode_duration,
    Decimal: str,
    UUID: str,
    dict: encode_json,
    list: encode_json,
    Json: encode_json,
}


def _encode(value: Any) -> Any:
    if isinstance(value, Enum):
        return _encode(plain(value))
    for kind in type(value).__mro__:
        if (convert := _BY_TYPE.get(kind)) is not None:
            return convert(value)
    return value
