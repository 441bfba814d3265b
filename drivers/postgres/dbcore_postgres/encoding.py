"""Rows as COPY reads them: in binary by the types of the columns, or as text by the types of the values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from psycopg.adapt import PyFormat, Transformer
from psycopg.copy import AsyncCopy
from psycopg.pq import Format

from dbcore.errors import QueryError
from dbcore_postgres.connection import Connection
from dbcore_postgres.errors import UNSENDABLE, not_a_parameter
from dbcore_postgres.fitting import BINARY_TYPES, STRICT, as_inserted, goes_as_binary, goes_as_text, is_of
from dbcore_postgres.values import unsendable

if TYPE_CHECKING:
    from psycopg import abc
    from psycopg._copy_base import Formatter

__all__ = ["BinaryRows", "Encoder", "TextRows"]

Row = Sequence[Any]
Values = Sequence[Any]
"""Those of one column."""

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
        self._looked_at = [(index, itemgetter(index)) for index, type_ in enumerate(types) if type_ not in STRICT]
        self._done = 0

    def _new_formatter(self) -> Formatter:
        copy = AsyncCopy(self._connection.cursor(), binary=True)
        copy.set_types(self._types)
        return copy.formatter

    def encode(self, rows: list[Row]) -> bytes:
        types = self._types
        others = [index for index, get in self._looked_at if not goes_as_binary(types[index], [*map(get, rows)])]
        fitting = self._fitted(rows, others) if others else rows
        try:
            data = self._encode(fitting)
        except UNSENDABLE:
            # The formatter holds half a row now.
            self._formatter = self._new_formatter()
            data = self._encode(self._fitted(rows, range(len(types))))
            if self._done:
                data = data[_HEADER:]
        self._done += len(rows)
        return data

    def _encode(self, rows: Iterable[Row]) -> bytes:
        formatter = self._formatter
        return b"".join(filter(None, map(formatter.write_row, rows))) + formatter.end()[: -len(self.last)]

    def _fitted(self, rows: list[Row], indexes: Iterable[int]) -> Iterable[Row]:
        """Return the rows with every value of these columns as its dumper wants it."""
        columns: list[Values] = list(zip(*rows, strict=True))
        for index in indexes:
            transformer = Transformer(self._connection)
            transformer.set_dumper_types([self._types[index]], Format.BINARY)
            columns[index] = [
                self._fit(transformer, number, index, value) for number, value in enumerate(columns[index], 1)
            ]
        return zip(*columns, strict=True)

    def _fit(self, transformer: abc.Transformer, number: int, index: int, value: Any) -> Any:
        type_ = self._types[index]
        try:
            fitting = as_inserted(value, type_, self._connection)
            if not is_of(type_, fitting):
                raise TypeError("only the server can read it")
            transformer.dump_sequence([fitting], _BINARY)
        except UNSENDABLE as error:
            row, column = self._done + number, self._columns[index]
            if isinstance(error, QueryError):
                raise _refused(row, column, value, error) from error
            raise QueryError(
                f"row {row}, column {column!r}: this {type(value).__name__} does not fit {BINARY_TYPES[type_]}, as "
                "which the rows before it were sent; nothing was inserted"
            ) from error
        return fitting


class TextRows:
    """psycopg dumps by the types of the values, and the server reads them as the columns want."""

    format = b""
    last = b""

    def __init__(self, connection: Connection, types: Sequence[int], columns: Sequence[str]) -> None:
        self._formats = [PyFormat.TEXT] * len(columns)
        self._transformer = Transformer(connection)
        self._connection = connection
        self._types = types
        self._columns = columns
        self._done = 0

    def encode(self, rows: list[Row]) -> bytes:
        formats, dump = self._formats, self._transformer.dump_sequence
        lines: list[bytes] = []
        for number, row in enumerate(self._readable(rows), self._done + 1):
            try:
                values = dump(row, formats)
            except UNSENDABLE as error:
                index, value = unsendable(self._connection, row, PyFormat.TEXT)
                raise _refused(number, self._columns[index - 1], value, error) from error
            lines.append(b"\t".join([rb"\N" if value is None else _ESCAPED.sub(_escape, value) for value in values]))
        self._done += len(rows)
        lines.append(b"")
        return b"\n".join(lines)

    def _readable(self, rows: list[Row]) -> Iterable[Row]:
        """Return the rows with every value so that the server makes of its text what it is to be."""
        connection = self._connection
        columns: list[Values] = list(zip(*rows, strict=True))
        others = [
            index for index, type_ in enumerate(self._types) if not goes_as_text(type_, columns[index], connection)
        ]
        for index in others:
            columns[index] = [self._cast(number, index, value) for number, value in enumerate(columns[index], 1)]
        return zip(*columns, strict=True) if others else rows

    def _cast(self, number: int, index: int, value: Any) -> Any:
        try:
            return as_inserted(value, self._types[index], self._connection)
        except UNSENDABLE as error:
            raise _refused(self._done + number, self._columns[index], value, error) from error


def _refused(row: int, column: str, value: Any, error: Exception) -> QueryError:
    return not_a_parameter(f"nothing was inserted: row {row}, column {column!r}", value, error)


def _escape(match: re.Match[bytes]) -> bytes:
    return _ESCAPES[match[0]]


_BINARY = [PyFormat.BINARY]
