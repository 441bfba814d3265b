"""Rows of any origin, some at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from itertools import islice
from typing import Any

from dbcore.errors import QueryError

__all__ = ["chunked"]

Row = Sequence[Any]

_PLAIN = frozenset({tuple, list})


async def chunked(rows: Iterable[Row] | AsyncIterable[Row], size: int, width: int) -> AsyncGenerator[list[Row], None]:
    """Yield lists of `size` rows, the last one shorter, never an empty one: what `insert_many` of a driver feeds on.

    Each row is a sequence of `width` values. Another one ends it with a `QueryError` that names the row, counted from
    1: a mapping, a set or a text has a length too, and would be stored as something that nobody meant.
    """
    done = 0
    if isinstance(rows, AsyncIterable):
        chunk: list[Row] = []
        async for row in rows:
            chunk.append(_kept(row))
            if len(chunk) == size:
                _check(chunk, done, width)
                yield chunk
                done += size
                chunk = []
        if chunk:
            _check(chunk, done, width)
            yield chunk
    else:
        source = iter(rows) if isinstance(rows, (list, tuple)) else map(_kept, rows)
        while chunk := list(islice(source, size)):
            _check(chunk, done, width)
            yield chunk
            done += size


def _kept(row: Row) -> Row:
    """Who yields rows may fill the same list for each of them."""
    return tuple(row) if row.__class__ is list else row


def _is_row(row: object) -> bool:
    return isinstance(row, Sequence) and not isinstance(row, (str, bytes))


def _check(chunk: list[Row], done: int, width: int) -> None:
    if _PLAIN.issuperset(map(type, chunk)) and set(map(len, chunk)) == {width}:
        return
    for number, row in enumerate(chunk, done + 1):
        kind = type(row)
        if kind is not tuple and kind is not list and not _is_row(row):
            raise QueryError(f"row {number} is no sequence of values but a {kind.__name__}; nothing was inserted")
        if len(row) != width:
            raise QueryError(f"row {number} has {len(row)} values for {width} columns; nothing was inserted")
