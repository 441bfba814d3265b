"""Values on their way to the server and back: where psycopg's own dumpers and loaders do not do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import time
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeGuard

import psycopg
from psycopg.abc import Buffer, DumperKey
from psycopg.adapt import AdaptersMap, Dumper, PyFormat, Transformer
from psycopg.pq import Format
from psycopg.types import array
from psycopg.types import json as native_json
from psycopg.types.numeric import Int4, Int8

from dbcore.errors import QueryError
from dbcore.statements.values import Json, JsonString, encode_json, plain
from dbcore_postgres.errors import UNSENDABLE

if TYPE_CHECKING:
    from psycopg.abc import AdaptContext

__all__ = ["ADAPTERS", "is_list", "sendable", "unsendable"]

_JSONB = 3802
_BOOL = 16
_DEEPEST = 6
"""Dimensions that an array can have at the server."""
_INT4_MIN, _INT4_MAX = -(2**31), 2**31 - 1

ADAPTERS = AdaptersMap(psycopg.adapters)
"""psycopg's adapters with ours laid over them; every connection has a copy."""


def sendable(value: Any) -> Any:
    """Return what is sent for `value`: the value of an enum member, everything else as it is."""
    found = plain(value)
    if found is None and value is not None:
        raise QueryError("a member of an enum whose value is None stands for nothing that could be sent; send None")
    return found


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Say whether a value goes as an array."""
    return isinstance(value, list)


class IntDumper(Dumper):
    """Ints go as int4 or int8.

    psycopg's own dumper takes the narrowest of four types, by value: each would be one more prepared variant of a
    statement, for each parameter.
    """

    _format = PyFormat.TEXT

    def get_key(self, obj: int, format: PyFormat) -> type:  # noqa: A002 (psycopg's name)
        return Int4 if _INT4_MIN <= obj <= _INT4_MAX else Int8

    def upgrade(self, obj: int, format: PyFormat) -> Dumper:  # noqa: A002 (psycopg's name)
        cls = self.get_key(obj, format)
        dumper: Any = ADAPTERS.get_dumper(cls, self._format)(cls)
        return dumper  # type: ignore[no-any-return]  # declared as a protocol that Dumper fulfils

    def dump(self, obj: int) -> Buffer:
        raise AssertionError("bug: an int is dumped by the dumper of its width")


class IntBinaryDumper(IntDumper):
    format = Format.BINARY
    _format = PyFormat.BINARY


class BoolBinaryDumper(Dumper):
    """Refuses what is no bool: COPY dumps by the type of the column, and 2 must not become true in silence."""

    format = Format.BINARY
    oid = _BOOL

    def dump(self, obj: object) -> Buffer:
        if obj is True:
            return b"\x01"
        if obj is False:
            return b"\x00"
        raise TypeError("not a bool")


class JsonDumper(Dumper):
    """`dict` and `Json` go as jsonb. A text that COPY puts into a JSON column is JSON already, as it is for INSERT."""

    oid = _JSONB

    def dump(self, obj: object) -> Buffer:
        if isinstance(obj, str):
            return obj.encode()
        return encode_json(obj).encode()


class JsonBinaryDumper(JsonDumper):
    format = Format.BINARY

    def dump(self, obj: object) -> Buffer:
        return b"\x01" + bytes(super().dump(obj))


class EnumDumper(Dumper):
    """An enum goes as its value, by the dumper of that value's type."""

    _format = PyFormat.TEXT

    def __init__(self, cls: type, context: Any = None) -> None:
        super().__init__(cls, context)
        self._transformer = Transformer.from_context(context)
        self._inner: Any = None

    def get_key(self, obj: Enum, format: PyFormat) -> DumperKey:  # noqa: A002 (psycopg's name)
        value = sendable(obj)
        return (self.cls, self._transformer.get_dumper(value, self._format).get_key(value, format))

    def upgrade(self, obj: Enum, format: PyFormat) -> Dumper:  # noqa: A002 (psycopg's name)
        value = sendable(obj)
        inner = self._transformer.get_dumper(value, self._format)
        dumper = type(self)(self.cls, self._transformer)
        dumper._inner = inner  # noqa: SLF001 (another of the same class)
        dumper.oid = inner.oid
        dumper.format = inner.format
        return dumper

    def dump(self, obj: Enum) -> Buffer | None:
        dumped: Buffer | None = self._inner.dump(plain(obj))
        return dumped


class EnumBinaryDumper(EnumDumper):
    # The format asked of the value's own dumper; text of unknown type is what a str is sent as.
    _format = PyFormat.AUTO
    format = Format.BINARY


class ListDumper(array.ListDumper):
    """Hands psycopg's dumper plain values; an empty list it sends so that no other type than an array takes it.

    psycopg looks for the largest item only among those of the type `int` itself. Among enums, and ints of another
    class, it goes by the last one, and cuts the others to the width of that. So it does with times, and their zones.

    An empty list goes without a type, since nothing says of what it is a list, and `{}` would be an empty object where
    JSON is wanted. A form feed is white space to the reader of arrays, and an error to that of JSON.
    """

    def _find_list_element(self, L: list[Any], format: PyFormat) -> Any:  # noqa: A002, N803 (psycopg's names)
        found = _telling_item(L)
        return super()._find_list_element(_plain_items(L), format) if found is None else found

    def dump(self, obj: list[Any]) -> Buffer | None:
        return _dump(self, _plain_items(obj)) if obj else b"\f{}"


class ListBinaryDumper(array.ListBinaryDumper):
    """The same, in binary."""

    def _find_list_element(self, L: list[Any], format: PyFormat) -> Any:  # noqa: A002, N803 (psycopg's names)
        found = _telling_item(L)
        return super()._find_list_element(_plain_items(L), format) if found is None else found

    def upgrade(self, obj: list[Any], format: PyFormat) -> array.BaseListDumper:  # noqa: A002 (psycopg's name)
        upgraded = super().upgrade(obj, format)
        return ListDumper(self.cls, self._tx) if isinstance(upgraded, array.ListDumper) else upgraded

    def dump(self, obj: list[Any]) -> Buffer | None:
        return _dump_binary(self, _plain_items(obj))


_dump, _dump_binary = array.ListDumper.dump, array.ListBinaryDumper.dump
"""Bound here, for they are called for every list that is sent."""

_ALIKE = frozenset({bool, float, str, bytes})
"""Types of items of which one is as good as the other to go by."""
_PLAIN = frozenset({bool, int, float, str, bytes, type(None)})
"""Types of items that need no closer look."""


def _telling_item(items: list[Any]) -> Any:
    """Return the item by which psycopg would choose the dumper, for the usual lists, and sooner; else `None`."""
    kinds = set(map(type, items))
    if len(kinds) == 1 and int in kinds:
        return max(max(items), -1 - min(items))
    return items[-1] if len(kinds) == 1 and kinds <= _ALIKE else None


def _plain_items(items: list[Any]) -> list[Any]:
    if _PLAIN.issuperset(map(type, items)):
        return items
    zoned: set[bool] = set()
    found = _plain_list(items, 0, zoned)
    if len(zoned) > 1:
        raise QueryError("a list has times with and without a time zone; give one to all of them, or to none")
    return found


def _plain_list(items: list[Any], depth: int, zoned: set[bool]) -> list[Any]:
    if depth == _DEEPEST:
        raise QueryError(f"a list has more than {_DEEPEST} dimensions, or holds itself; for JSON send db.Json(...)")
    found: list[Any] = []
    for item in items:
        value = sendable(item)
        if is_list(value):
            value = _plain_list(value, depth + 1, zoned)
        elif isinstance(value, int) and not isinstance(value, bool):
            value = int(value)
        elif isinstance(value, time):
            zoned.add(value.tzinfo is not None)
        found.append(value)
    return found


class TupleDumper(Dumper):
    """Refuses. psycopg would send a tuple as a composite value, `(1,2)`, which hardly anybody means."""

    def dump(self, obj: tuple[Any, ...]) -> Buffer:
        raise QueryError("a tuple has no form of its own in Postgres; use a list for an array, db.Json(...) for JSON")


class TupleBinaryDumper(TupleDumper):
    format = Format.BINARY


class JsonLoader(native_json.JsonLoader):
    def load(self, data: Buffer) -> Any:
        return _marked(super().load(data))


class JsonBinaryLoader(native_json.JsonBinaryLoader):
    def load(self, data: Buffer) -> Any:
        return _marked(super().load(data))


class JsonbBinaryLoader(native_json.JsonbBinaryLoader):
    def load(self, data: Buffer) -> Any:
        return _marked(super().load(data))


def _marked(value: Any) -> Any:
    return JsonString(value) if type(value) is str else value


for _name, _loaders in (("json", (JsonLoader, JsonBinaryLoader)), ("jsonb", (JsonLoader, JsonbBinaryLoader))):
    for _loader in _loaders:
        ADAPTERS.register_loader(_name, _loader)

# The last one registered for a type is psycopg's choice where a parameter does not say: binary.
for _cls, _dumpers in (
    (int, (IntDumper, IntBinaryDumper)),
    (bool, (BoolBinaryDumper,)),
    (dict, (JsonDumper, JsonBinaryDumper)),
    (Json, (JsonDumper, JsonBinaryDumper)),
    (Enum, (EnumDumper, EnumBinaryDumper)),
    (list, (ListDumper, ListBinaryDumper)),
    (tuple, (TupleDumper, TupleBinaryDumper)),
):
    for _dumper in _dumpers:
        ADAPTERS.register_dumper(_cls, _dumper)


def unsendable(context: AdaptContext, values: Sequence[Any], form: PyFormat) -> tuple[int, Any]:
    """Find the first of the values that psycopg cannot turn into `form`; count from 1."""
    for number, value in enumerate(values, 1):
        try:
            Transformer(context).dump_sequence([value], [form])
        except UNSENDABLE:
            return number, value
    raise AssertionError("bug: every one of the values can be sent by itself")
