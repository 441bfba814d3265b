"""Rows of any origin, some at a time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from itertools import islice
from typing import TypeVar

__all__ = ["chunked"]

T = TypeVar("T")


async def chunked(rows: Iterable[T] | AsyncIterable[T], size: int) -> AsyncGenerator[list[T], None]:
    """Yield lists of `size` rows, the last one shorter, never an empty one: what `insert_many` of a driver feeds on."""
    if isinstance(rows, AsyncIterable):
        chunk: list[T] = []
        async for row in rows:
            chunk.append(row)
            if len(chunk) == size:
                yield chunk
                chunk = []
        if chunk:
            yield chunk
    else:
        source = iter(rows)
        while chunk := list(islice(source, size)):
            yield chunk
