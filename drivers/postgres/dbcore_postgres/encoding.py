"""Rows as COPY reads them: in binary by the types of the columns, or as text by the types of the values."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from psycopg.adapt import PyFormat, Transformer
from psycopg.copy import AsyncCopy
from psycopg.pq import Format

from dbcore.errors import QueryError
from dbcore.statements.values import plain
from dbcore_postgres.connection import Connection
from dbcore_postgres.errors import UNSENDABLE, not_a_parameter
from dbcore_postgres.values import unsendable

if TYPE_CHECKING:
    from psycopg._copy_base import Formatter

__all__ = ["BINARY_TYPES", "BinaryRows", "Encoder", "TextRows"]

Row = Sequence[Any]

BINARY_TYPES = {
    16: "bool", 17: "bytea", 20: "int8", 21: "int2", 23: "int4", 25: "text", 701: "float8",
    1043: "varchar", 1082: "date", 1083: "time", 1114: "timestamp", 1184: "timestamptz", 1186: "interval",
    1700: "numeric", 2950: "uuid", 3802: "jsonb",
}  # fmt: skip
"""The types, by their number, that are written in binary. A table with a column of another type is filled as text.

float4 is such a one: what is too large or too small for it becomes infinity or 0 in binary, and an error as text.
"""
_LIMITS = {21: 2**15 - 1, 23: 2**31 - 1}
"""The largest value of the types that psycopg cuts an int to without a word."""

_HEADER = 19
"""Bytes that stand before the first row of a binary COPY: `PGCOPY` and so on."""
_ESCAPED = re.compile(rb"[\b\t\n\v\f\r\\]")
_ESCAPES = {bytes([char]): b"\\" + bytes([letter]) for char, letter in zip(b"\b\t\n\v\f\r\\", b"btnvfr\\", strict=True)}


class Encoder(Protocol):
    """Turns rows into the data of a COPY."""

    format: bytes
    """The option of COPY."""
    last: bytes
    """What ends the data."""

    def encode(self, rows: list[Row]) -> bytes: ...


class BinaryRows:
    """psycopg writes by the types of the columns; values of another type are turned into that where it can be done."""

    format = b"(FORMAT BINARY)"
    last = b"\xff\xff"

    def __init__(self, connection: Connection, types: Sequence[int], columns: Sequence[str]) -> None:
        self._connection = connection
        self._types = types
        self._columns = columns
        self._formatter = self._new_formatter()
        self._narrow = [(index, _LIMITS[type_]) for index, type_ in enumerate(types) if type_ in _LIMITS]
        self._done = 0

    def _new_formatter(self) -> Formatter:
        copy = AsyncCopy(self._connection.cursor(), binary=True)
        copy.set_types(self._types)
        return copy.formatter

    def encode(self, rows: list[Row]) -> bytes:
        try:
            data = self._encode(rows)
        except (*UNSENDABLE, IndexError):
            # The formatter holds half a row now.
            self._formatter = self._new_formatter()
            data = self._encode([self._fitted(number, row) for number, row in enumerate(rows, self._done + 1)])
            if self._done:
                data = data[_HEADER:]
        self._done += len(rows)
        return data

    def _encode(self, rows: list[Row]) -> bytes:
        for index, largest in self._narrow:
            for row in rows:
                if (value := row[index]) is not None and not -largest <= value + 1 <= largest + 1:
                    raise OverflowError("an int is too large for its column")
        write, end = self._formatter.write_row, self._formatter.end
        parts = [part for row in rows if (part := write(row))]
        parts.append(end()[: -len(self.last)])
        return b"".join(parts)

    def _fitted(self, number: int, row: Row) -> Row:
        return [self._fit(number, index, value) for index, value in enumerate(row)]

    def _fit(self, number: int, index: int, value: Any) -> Any:
        if value is None:
            return None
        type_ = self._types[index]
        transformer = Transformer(self._connection)
        transformer.set_dumper_types([type_], Format.BINARY)
        try:
            fitting = _FIT[type_](plain(value), self._connection)
            transformer.dump_sequence([fitting], [PyFormat.BINARY])
            if type_ in _LIMITS and not -_LIMITS[type_] <= fitting + 1 <= _LIMITS[type_] + 1:
                raise OverflowError("an int is too large for its column")
        except UNSENDABLE as error:
            raise QueryError(
                f"row {number}, column {self._columns[index]!r}: this {type(value).__name__} does not fit "
                f"{BINARY_TYPES[type_]}, as which the rows before it were sent; nothing was inserted"
            ) from error
        return fitting


class TextRows:
    """psycopg dumps by the types of the values, and the server reads them as the columns want."""

    format = b""
    last = b""

    def __init__(self, connection: Connection, columns: Sequence[str]) -> None:
        self._formats = [PyFormat.TEXT] * len(columns)
        self._transformer = Transformer(connection)
        self._connection = connection
        self._columns = columns
        self._done = 0

    def encode(self, rows: list[Row]) -> bytes:
        formats, dump = self._formats, self._transformer.dump_sequence
        lines: list[bytes] = []
        for number, row in enumerate(rows, self._done + 1):
            try:
                values = dump(row, formats)
            except UNSENDABLE as error:
                raise self._refused(number, row, error) from error
            lines.append(b"\t".join([rb"\N" if value is None else _ESCAPED.sub(_escape, value) for value in values]))
        self._done += len(rows)
        lines.append(b"")
        return b"\n".join(lines)

    def _refused(self, number: int, row: Row, error: Exception) -> QueryError:
        index, value = unsendable(self._connection, row, PyFormat.TEXT)
        where = f"nothing was inserted: row {number}, column {self._columns[index - 1]!r}"
        return not_a_parameter(where, value, error)


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES[match[0]]


def _whole(value: Any, _: Connection) -> Any:
    if isinstance(value, (float, Decimal)) and value == int(value):
        return int(value)
    return value


def _decimal(value: Any, _: Connection) -> Any:
    return Decimal(repr(value)) if isinstance(value, float) else value


def _text(value: Any, _: Connection) -> Any:
    return str(value) if isinstance(value, (int, Decimal, UUID)) and not isinstance(value, bool) else value


def _uuid(value: Any, _: Connection) -> Any:
    return UUID(value) if isinstance(value, str) else value


def _float(value: Any, _: Connection) -> Any:
    return float(value) if isinstance(value, Decimal) else value


def _naive(value: Any, connection: Connection) -> Any:
    """As the server casts it: at the wall clock of the session's time zone."""
    value = _as_datetime(value)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(connection.info.timezone).replace(tzinfo=None)
    return value


def _aware(value: Any, connection: Connection) -> Any:
    value = _as_datetime(value)
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.replace(tzinfo=connection.info.timezone)
    return value


def _as_datetime(value: Any) -> Any:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)  # noqa: DTZ001 (a date has no time zone)
    return value


def _plain(value: Any, _: Connection) -> Any:
    return value


_FIT: dict[int, Callable[[Any, Connection], Any]] = dict.fromkeys(BINARY_TYPES, _plain) | {
    20: _whole, 21: _whole, 23: _whole, 25: _text, 701: _float, 1043: _text, 1114: _naive,
    1184: _aware, 1700: _decimal, 2950: _uuid,
}  # fmt: skip
