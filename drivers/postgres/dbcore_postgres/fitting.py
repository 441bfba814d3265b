"""What an INSERT would put into a column for a value of another type; for COPY, which casts nothing by itself.

A parameter goes to the server with the type of its value, and the server casts it to that of the column, or refuses.
COPY takes any bytes of the right length in binary, and as text whatever reads like a value. So what does not have the
type of its column comes through here first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface
from itertools import chain
from typing import Any
from uuid import UUID

from psycopg.adapt import PyFormat, Transformer

from dbcore.errors import QueryError
from dbcore.statements.values import Json, is_large
from dbcore_postgres.casts import CASTS, WRITTEN, letter_of_bool, refusal
from dbcore_postgres.connection import Connection
from dbcore_postgres.oids import (
    BOOL,
    BYTEA,
    CIDR,
    DATE,
    FLOAT8,
    INET,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    JSON,
    JSONB,
    NAME,
    NUMERIC,
    TEXT,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    VARCHAR,
)
from dbcore_postgres.oids import UUID as UUID_TYPE
from dbcore_postgres.values import is_list, sendable

__all__ = ["BINARY_TYPES", "STRICT", "as_inserted", "goes_as_binary", "goes_as_text", "is_of"]

BINARY_TYPES = {
    BOOL: "bool", BYTEA: "bytea", INT8: "int8", INT2: "int2", INT4: "int4", TEXT: "text", FLOAT8: "float8",
    VARCHAR: "varchar", DATE: "date", TIME: "time", TIMESTAMP: "timestamp", TIMESTAMPTZ: "timestamptz",
    INTERVAL: "interval", NUMERIC: "numeric", UUID_TYPE: "uuid", JSONB: "jsonb",
}  # fmt: skip
"""The types, by their number, that are written in binary. A table with a column of another type is filled as text.

float4 is such a one: what is too large or too small for it becomes infinity or 0 in binary, and an error as text.
"""
_INT_LIMITS = {INT2: 2**15 - 1, INT4: 2**31 - 1, INT8: 2**63 - 1}
"""The largest value of the types of integers: psycopg cuts an int to the narrower ones without a word."""
_LIKE_TEXT = frozenset({NAME, TEXT, 1042, VARCHAR})
"""name, text, char(n), varchar: they take a value of any type, by its text."""
_FIRST_OF_USERS = 16384
"""Types from here on were made by somebody; which of them are arrays, and of what, is not known here."""

_NONE = type(None)
_LISTS = frozenset({_NONE, list})

_TAKES: dict[int, frozenset[type]] = {
    type_: frozenset({_NONE, *kinds})
    for type_, kinds in {
        BOOL: (bool,), BYTEA: (bytes, bytearray, memoryview), INT8: (int,), INT2: (int,), INT4: (int,),
        TEXT: (str,), FLOAT8: (float,), VARCHAR: (str,), DATE: (date,), TIME: (time,), TIMESTAMP: (datetime,),
        TIMESTAMPTZ: (datetime,), INTERVAL: (timedelta,), NUMERIC: (Decimal,), UUID_TYPE: (UUID,),
        JSONB: (dict, Json, str),
    }.items()
}  # fmt: skip
"""The types of values that psycopg's dumper of a column is meant for.

Its dumpers in C do not look: given anything else, some write what stands in memory where they expect a field.
"""
STRICT = frozenset({TEXT, VARCHAR, TIMESTAMP, TIMESTAMPTZ})
"""Columns whose binary dumpers do look, and raise: at the time zone, too."""
_TEXT_TAKES = {type_: kinds | {str} for type_, kinds in _TAKES.items()}
_NOTHING_ELSE = frozenset({_NONE, str})
"""A text is read by the server, for an INSERT as for COPY."""


def goes_as_binary(type_: int, values: Collection[Any]) -> bool:
    """Say whether the binary dumper of a column, not a `STRICT` one, makes of all these values what an INSERT would."""
    if not _TAKES[type_].issuperset(map(type, values)):
        return False
    if type_ == TIME:
        return _are_naive(values)
    largest = _INT_LIMITS.get(type_)
    if largest is None or type_ == INT8:  # there the dumper looks
        return True
    given: list[int] = [*filter(None, values)]
    return not given or (max(given) <= largest and min(given) >= -largest - 1)


def goes_as_text(type_: int, values: Collection[Any], connection: Connection) -> bool:
    """Say whether the server makes of the texts of all these values what an INSERT would."""
    if _TEXT_TAKES.get(type_, _NOTHING_ELSE).issuperset(map(type, values)):
        return type_ not in (TIME, TIMESTAMP) or _are_naive(values)
    item = _item_type(type_, connection)
    if item in (None, TIMESTAMPTZ) or not _LISTS.issuperset(map(type, values)):
        return False
    items = tuple(chain.from_iterable(filter(None, values)))
    # Of two types or more, they may be mixed within one list; and of one, nothing is left to look at.
    return len({*map(type, items)} - {_NONE}) == 1 and goes_as_text(item, items, connection)


def _are_naive(values: Collection[Any]) -> bool:
    return all(getattr(value, "tzinfo", None) is None for value in values)


def _item_type(type_: int, connection: Connection) -> int | None:
    info = connection.adapters.types.get(type_)
    return info.oid if info is not None and info.array_oid == type_ else None


def is_of(type_: int, value: Any) -> bool:
    """Say whether a value that was cast can go in binary: a text that only the server can read cannot."""
    return (type(None) if value is None else _kind(value)) in _TAKES[type_]


def as_inserted(value: Any, type_: int, connection: Connection) -> Any:
    """Return what an INSERT would put into a column of this type, or the text of which the server makes that.

    Raises `QueryError` where the INSERT would refuse, and where nobody but the server can tell what it would store.
    """
    value = sendable(value)
    if value is None:
        return None
    kind = _kind(value)
    if kind is None:
        return _cast_foreign(value, type_, connection)
    if kind is int and type_ not in _INT_LIMITS and is_large(value):
        raise QueryError("it does not fit into 64 bits; send a Decimal or a str")
    if kind is list:
        return _cast_list(value, type_, connection)
    function = CASTS[kind].get(type_)
    if function is None:
        if kind is str:
            return value
        if kind not in WRITTEN or type_ not in _LIKE_TEXT:
            raise refusal(type_)
        function = WRITTEN[kind]
    found = function(value, connection)
    largest = _INT_LIMITS.get(type_)
    if largest is not None and not -largest - 1 <= found <= largest:
        raise OverflowError("an int is too large for its column")
    return found


def _kind(value: object) -> type | None:
    """Return the type for whose values psycopg dumps this one, if that is one of Python's own or ours."""
    cls: type = type(value)
    return _kind_of(cls)


@lru_cache(maxsize=256)
def _kind_of(cls: type) -> type | None:
    return next((base for base in cls.__mro__ if base in _KINDS), None)


def _cast_list(value: list[Any], type_: int, connection: Connection) -> Any:
    if type_ in (JSON, JSONB):
        raise refusal(type_)
    # What is no array for an INSERT (of mixed types, ragged) might well be one as a text.
    transformer = Transformer(connection)
    transformer.dump_sequence([value], [PyFormat.AUTO])
    if transformer.types == (0,):  # nothing says what it is a list of: it goes as a text
        return value
    item = _item_type(type_, connection)
    if item is not None:
        return _map(value, lambda each: as_inserted(each, item, connection))
    if type_ in _LIKE_TEXT or type_ >= _FIRST_OF_USERS:
        return _map(value, lambda each: _in_array(each, connection))
    raise refusal(type_)


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    return [_map(item, function) for item in value] if is_list(value) else function(value)


def _in_array(value: Any, connection: Connection) -> Any:
    """Return how the server writes an element of an array that becomes a text."""
    value = sendable(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return letter_of_bool(value, connection)
    return as_inserted(value, TEXT, connection)


def _cast_foreign(value: Any, type_: int, connection: Connection) -> Any:
    """Cast what psycopg has a dumper for and Python no literal: addresses, ranges, numpy's numbers."""
    own = Transformer(connection).get_dumper(value, PyFormat.AUTO).oid
    if own in _PLAIN:
        return as_inserted(_PLAIN[own](value), type_, connection)
    if own == INET and type_ == CIDR and isinstance(value, (IPv4Interface, IPv6Interface)):
        return value.network
    if own in (0, type_) or {own, type_} == {INET, CIDR}:
        return value
    raise refusal(type_)


_KINDS = frozenset({*CASTS, list})
_PLAIN: dict[int, type] = {BOOL: bool, INT2: int, INT4: int, INT8: int, FLOAT8: float}
