"""Parameters as literals in the text: what the server gets is one text, in one trip.

asyncmy can fill texts in itself, but it puts lone surrogates onto the wire as bytes, sends an aware datetime as its
wall time and infinity as a word, and refuses nothing. So it is done here, and asyncmy gets finished bytes.

A literal is safe where the server reads it as it was meant: strings in single quotes in which a backslash escapes, in
UTF-8. The session is set so (no NO_BACKSLASH_ESCAPES, `SET NAMES utf8mb4`), a statement that would change that is
refused (`words`), and so is a parameter where the server says that it was changed all the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Any
from uuid import UUID

from dbcore.errors import QueryError
from dbcore.statements import Json, encode_json, plain

__all__ = ["LONGEST_TIME", "fill", "literal", "name", "string"]

LONGEST_TIME = timedelta(hours=838, minutes=59, seconds=59)
"""What a TIME can hold, in either direction."""
_MOST_DIGITS, _MOST_PLACES = 65, 30
"""What a decimal literal can hold; MySQL makes a double of a longer one."""


def fill(sql: str, params: Sequence[Any]) -> bytes:
    """Put parameters into a text, in which each `%s` stands for one and every other percent sign is doubled."""
    try:
        text = sql.encode()
    except UnicodeEncodeError:
        raise QueryError("the text of the statement holds a lone surrogate, which UTF-8 has no form for") from None
    if not params:
        return text
    literals: list[bytes] = []
    for value in params:
        try:
            literals.append(literal(value))
        except QueryError as error:
            raise QueryError(
                f"parameter {len(literals) + 1} (a {type(value).__name__}) cannot be sent: {error}"
            ) from error
    return text % tuple(literals)


def literal(value: Any) -> bytes:
    """Return what stands for a value in SQL. Raises `QueryError` for one that MySQL has no form for."""
    write = _BY_TYPE.get(value.__class__)
    if write is not None:
        return write(value)
    if isinstance(value, Enum):
        return literal(plain(value))
    for base in value.__class__.__mro__:
        if (write := _BY_TYPE.get(base)) is not None:
            return write(value)
    raise QueryError("there is no form for it in MySQL; send a plain value, or db.Json(...) for JSON")


def string(value: str) -> bytes:
    """Return a string literal."""
    try:
        data = value.encode()
    except UnicodeEncodeError:
        raise QueryError("it holds a lone surrogate (half of a character), which UTF-8 has no form for") from None
    return b"'" + _escaped(data) + b"'"


def name(identifier: str) -> bytes:
    """Return a quoted identifier."""
    if "\0" in identifier:
        raise QueryError("a name holds a NUL character, which no identifier can")
    try:
        return b"`" + identifier.replace("`", "``").encode() + b"`"
    except UnicodeEncodeError:
        raise QueryError("a name holds a lone surrogate, which UTF-8 has no form for") from None


def _escaped(data: bytes) -> bytes:
    if b"\\" in data:
        data = data.replace(b"\\", b"\\\\")
    if b"'" in data:
        data = data.replace(b"'", b"\\'")
    if b"\0" in data:
        data = data.replace(b"\0", b"\\0")
    return data


def _null(_: None) -> bytes:
    return b"NULL"


def _bool(value: bool) -> bytes:
    return b"TRUE" if value else b"FALSE"


def _int(value: int) -> bytes:
    if not -(2**63) <= value < 2**63:
        raise QueryError("it does not fit into 64 bits; send a Decimal or a str")
    return b"%d" % value


def _float(value: float) -> bytes:
    if not math.isfinite(value):
        raise QueryError("MySQL has no infinity and no NaN")
    text = float.__repr__(value)
    return (text if "e" in text else f"{text}e0").encode()


def _bytes(value: bytes | bytearray | memoryview) -> bytes:
    return b"_binary'" + _escaped(bytes(value)) + b"'"


def _decimal(value: Decimal) -> bytes:
    if not value.is_finite():
        raise QueryError("MySQL has no infinity and no NaN")
    _, digits, exponent = value.as_tuple()
    places = max(0, -int(exponent))
    if places > _MOST_PLACES or max(len(digits) + max(0, int(exponent)), places) > _MOST_DIGITS:
        return string(str(value))  # a column of texts keeps it; a number is for the server to judge
    return format(value, "f").encode()


def _datetime(value: datetime) -> bytes:
    if value.tzinfo is not None:
        try:
            value = value.astimezone(UTC).replace(tzinfo=None)
        except OverflowError:
            raise QueryError("in UTC it is before year 1 or after year 9999") from None
    return b"TIMESTAMP'" + datetime.isoformat(value, " ").encode() + b"'"


def _date(value: date) -> bytes:
    return b"DATE'" + date.isoformat(value).encode() + b"'"


def _time(value: time) -> bytes:
    if value.tzinfo is not None:
        raise QueryError("MySQL has no time of day with a time zone; send a datetime, or the time without it")
    return b"TIME'" + time.isoformat(value).encode() + b"'"


def _timedelta(value: timedelta) -> bytes:
    size = abs(value)
    if size > LONGEST_TIME:
        raise QueryError("a TIME of MySQL holds no more than 838:59:59; send a number of seconds, or a text")
    hours, seconds = divmod(size.days * 86400 + size.seconds, 3600)
    sign = "-" if value < timedelta(0) else ""
    fraction = f".{size.microseconds:06}" if size.microseconds else ""
    return f"TIME'{sign}{hours:02}:{seconds // 60:02}:{seconds % 60:02}{fraction}'".encode()


def _uuid(value: UUID) -> bytes:
    return b"'" + str(value).encode() + b"'"


def _json(value: object) -> bytes:
    return string(encode_json(value))


_BY_TYPE: Mapping[type, Callable[[Any], bytes]] = {
    NoneType: _null,
    bool: _bool,
    int: _int,
    float: _float,
    str: string,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
    Decimal: _decimal,
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
    UUID: _uuid,
    dict: _json,
    list: _json,
    Json: _json,
}
