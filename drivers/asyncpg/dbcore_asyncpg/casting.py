"""Parameters of a Python type that asyncpg does not take for what the server wants there: the server casts them.

asyncpg asks the server for the type of each parameter and refuses what is not of the Python type that goes with it,
an int for a text, say, or the text of a date. So such a placeholder is sent as `($1::int8)`: it has the type of its
value then, and the server does with that what it does with any such value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from types import NoneType
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbcore.errors import QueryError
from dbcore.statements.scan import scan
from dbcore.statements.values import Json, is_large, plain
from dbcore_asyncpg.texts import SYNTAX

if TYPE_CHECKING:
    from asyncpg.types import Type

__all__ = ["Casts", "Fitter", "Row", "in_common", "with_casts"]

Row = Sequence[Any]
Casts = tuple[tuple[int, str], ...]
"""The numbers of placeholders, and what each is cast to."""

_INTS, _TEXTS, _FLOATS = (int,), (str,), (float, int)
_TAKEN: Mapping[str, tuple[type, ...]] = {
    "bool": (bool,), "bytea": (bytes, bytearray, memoryview), "bpchar": _TEXTS, "date": (date,), "float4": _FLOATS,
    "float8": _FLOATS, "int2": _INTS, "int4": _INTS, "int8": _INTS, "interval": (timedelta,), "name": _TEXTS,
    "numeric": (Decimal, int), "text": _TEXTS, "time": (time,), "timetz": (time,), "uuid": (UUID,), "varchar": _TEXTS,
    "json": (dict, list, Json, str), "jsonb": (dict, list, Json, str),
}  # fmt: skip
"""The Python types that asyncpg takes, exactly these, for types of the server; what is not here is left to it."""
_INTEGERS = frozenset({"int2", "int4", "int8"})
"""Types of the server that refuse a large int in any case."""
_TIMESTAMPS = frozenset({"timestamp", "timestamptz"})
_OWN: Mapping[type, str] = {
    bool: "bool", int: "int8", float: "float8", str: "text", bytes: "bytea", bytearray: "bytea", memoryview: "bytea",
    date: "date", time: "time", timedelta: "interval", Decimal: "numeric", UUID: "uuid", dict: "jsonb", Json: "jsonb",
}  # fmt: skip
"""The type of the server that has the values of a Python type."""


class Fitter:
    """Looks at rows of values for parameters, or columns, of given types."""

    def __init__(self, types: Sequence[Type]) -> None:
        self.names = tuple(type_.name if type_.schema == "pg_catalog" else "" for type_ in types)
        self._taken = [frozenset({NoneType, *_TAKEN.get(name, ())}) for name in self.names]
        self._at_once = [
            taken if name in _INTEGERS else taken - {int} for name, taken in zip(self.names, self._taken, strict=True)
        ]
        """As taken, less what needs a closer look."""

    def fit(self, row: Row) -> tuple[Row, Casts]:
        """Return the row as asyncpg takes it, enums as their values, and what has to be cast for that.

        Raises `QueryError` for an int beyond 64 bits.
        """
        for value, at_once in zip(row, self._at_once, strict=True):
            if type(value) not in at_once:
                return self._fit(row)
        return row, ()

    def _fit(self, row: Row) -> tuple[Row, Casts]:
        values: list[Any] = []
        casts: list[tuple[int, str]] = []
        for number, (given, name, taken) in enumerate(zip(row, self.names, self._taken, strict=True), 1):
            value = _plain(given)
            if isinstance(value, int) and is_large(value):
                raise QueryError(f"value {number} is an int beyond 64 bits; send a Decimal or a str")
            if name == "numeric" and type(value) is float:
                value = Decimal(repr(value))  # or the server would get a float's last bit in 50 digits
            values.append(value)
            if type(value) not in taken and (target := _target(value, name)) is not None:
                casts.append((number, target))
        return values, tuple(casts)


def _plain(value: Any) -> Any:
    kind = value.__class__
    return [_plain(each) for each in value] if kind is list else plain(value)


def _target(value: Any, wanted: str) -> str | None:
    """What to cast a value to that is of no Python type for `wanted`; `None` for nothing."""
    own = _own(value)
    array = wanted.endswith("[]")
    if own is None or own == wanted or not (array or wanted in _TAKEN or wanted in _TIMESTAMPS):
        return None
    if (own, wanted) == ("date", "timestamp") or (array and own.endswith("[]")):
        return None  # asyncpg takes it as it is
    return f"text::{wanted}" if own == "text" else own  # a text as if it stood in the SQL, in quotes


def _own(value: Any) -> str | None:
    if isinstance(value, datetime):
        return "timestamp" if value.tzinfo is None else "timestamptz"
    kind = value.__class__
    if kind is list:
        element = _own(next((each for each in value if each is not None), None))
        return None if element is None else f"{element.removesuffix('[]')}[]"
    return next((_OWN[base] for base in kind.__mro__ if base in _OWN), None)


def in_common(casts: Sequence[Casts], rows: Sequence[Row]) -> Casts | None:
    """Return the casts that do for all of the rows; `None` if each needs its own. NULL goes with any type."""
    found = dict(each for one in casts for each in one)
    for one, row in zip(casts, rows, strict=True):
        here = dict(one)
        if here != found and any(
            here.get(number) != target and row[number - 1] is not None for number, target in found.items()
        ):
            return None
    return tuple(sorted(found.items()))


@lru_cache(maxsize=512)
def with_casts(sql: str, casts: Casts) -> str:
    """Return the text with those placeholders cast."""
    wanted = dict(casts)
    parts: list[str] = []
    position = 0
    for place in scan(sql, SYNTAX).placeholders:
        if (target := wanted.get(int(place.key))) is not None:
            parts += sql[position : place.start], f"(${place.key}::{target})"
            position = place.end
    return "".join([*parts, sql[position:]])
