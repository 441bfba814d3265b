"""What an INSERT would put into a column for a value of another type; for COPY, which casts nothing by itself.

A parameter goes to the server with the type of its value, and the server casts it to that of the column, or refuses.
COPY takes any bytes of the right length in binary, and as text whatever reads like a value. So what does not have the
type of its column comes through here first.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Collection
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from ipaddress import IPv4Interface, IPv6Interface
from itertools import chain
from typing import Any, NoReturn, TypeGuard
from uuid import UUID

from psycopg.adapt import PyFormat, Transformer

from dbcore.errors import QueryError
from dbcore.statements.values import Json, encode_json, is_large
from dbcore_postgres.connection import Connection
from dbcore_postgres.values import is_list, sendable

__all__ = ["BINARY_TYPES", "STRICT", "as_inserted", "goes_as_binary", "goes_as_text", "is_of"]

Cast = Callable[[Any, Connection], Any]

_BOOL, _BYTEA, _NAME, _INT8, _INT2, _INT4, _TEXT, _JSON, _CIDR = 16, 17, 19, 20, 21, 23, 25, 114, 650
_FLOAT4, _FLOAT8, _MONEY, _INET, _VARCHAR, _DATE, _TIME, _TIMESTAMP = 700, 701, 790, 869, 1043, 1082, 1083, 1114
_TIMESTAMPTZ, _INTERVAL, _TIMETZ, _NUMERIC, _UUID, _JSONB = 1184, 1186, 1266, 1700, 2950, 3802

BINARY_TYPES = {
    _BOOL: "bool", _BYTEA: "bytea", _INT8: "int8", _INT2: "int2", _INT4: "int4", _TEXT: "text", _FLOAT8: "float8",
    _VARCHAR: "varchar", _DATE: "date", _TIME: "time", _TIMESTAMP: "timestamp", _TIMESTAMPTZ: "timestamptz",
    _INTERVAL: "interval", _NUMERIC: "numeric", _UUID: "uuid", _JSONB: "jsonb",
}  # fmt: skip
"""The types, by their number, that are written in binary. A table with a column of another type is filled as text.

float4 is such a one: what is too large or too small for it becomes infinity or 0 in binary, and an error as text.
"""
_INT_LIMITS = {_INT2: 2**15 - 1, _INT4: 2**31 - 1, _INT8: 2**63 - 1}
"""The largest value of the types of integers: psycopg cuts an int to the narrower ones without a word."""
_LIKE_TEXT = frozenset({_NAME, _TEXT, 1042, _VARCHAR})
"""name, text, char(n), varchar: they take a value of any type, by its text."""
_OIDS = (24, 26, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191)
"""oid, regclass and its kin."""
_FIRST_OF_USERS = 16384
"""Types from here on were made by somebody; which of them are arrays, and of what, is not known here."""

_NONE = type(None)
_LISTS = frozenset({_NONE, list})

_TAKES: dict[int, frozenset[type]] = {
    type_: frozenset({_NONE, *kinds})
    for type_, kinds in {
        _BOOL: (bool,), _BYTEA: (bytes, bytearray, memoryview), _INT8: (int,), _INT2: (int,), _INT4: (int,),
        _TEXT: (str,), _FLOAT8: (float,), _VARCHAR: (str,), _DATE: (date,), _TIME: (time,), _TIMESTAMP: (datetime,),
        _TIMESTAMPTZ: (datetime,), _INTERVAL: (timedelta,), _NUMERIC: (Decimal,), _UUID: (UUID,),
        _JSONB: (dict, Json, str),
    }.items()
}  # fmt: skip
"""The types of values that psycopg's dumper of a column is meant for.

Its dumpers in C do not look: given anything else, some write what stands in memory where they expect a field.
"""
STRICT = frozenset({_TEXT, _VARCHAR, _TIMESTAMP, _TIMESTAMPTZ})
"""Columns whose binary dumpers do look, and raise: at the time zone, too."""
_TEXT_TAKES = {type_: kinds | {str} for type_, kinds in _TAKES.items()}
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_UUID_FORM = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_NOTHING_ELSE = frozenset({_NONE, str})
"""A text is read by the server, for an INSERT as for COPY."""


def goes_as_binary(type_: int, values: Collection[Any]) -> bool:
    """Say whether the binary dumper of a column, not a `STRICT` one, makes of all these values what an INSERT would."""
    if not _TAKES[type_].issuperset(map(type, values)):
        return False
    if type_ == _TIME:
        return _are_naive(values)
    largest = _INT_LIMITS.get(type_)
    if largest is None or type_ == _INT8:  # there the dumper looks
        return True
    given: list[int] = [*filter(None, values)]
    return not given or (max(given) <= largest and min(given) >= -largest - 1)


def goes_as_text(type_: int, values: Collection[Any], connection: Connection) -> bool:
    """Say whether the server makes of the texts of all these values what an INSERT would."""
    if _TEXT_TAKES.get(type_, _NOTHING_ELSE).issuperset(map(type, values)):
        return type_ not in (_TIME, _TIMESTAMP) or _are_naive(values)
    item = _item_type(type_, connection)
    if item in (None, _TIMESTAMPTZ) or not _LISTS.issuperset(map(type, values)):
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
    function = _CASTS[kind].get(type_)
    if function is None:
        if kind is str:
            return value
        if kind not in _WRITTEN or type_ not in _LIKE_TEXT:
            raise _refusal(type_)
        function = _WRITTEN[kind]
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


def _refusal(type_: int) -> QueryError:
    if type_ in (_JSON, _JSONB):
        return QueryError("for JSON send db.Json(...)")
    return QueryError("it cannot be cast to the type of the column; send a value of that type, or its text")


def _cast_list(value: list[Any], type_: int, connection: Connection) -> Any:
    if type_ in (_JSON, _JSONB):
        raise _refusal(type_)
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
    raise _refusal(type_)


def _map(value: Any, function: Callable[[Any], Any]) -> Any:
    return [_map(item, function) for item in value] if is_list(value) else function(value)


def _in_array(value: Any, connection: Connection) -> Any:
    """Return how the server writes an element of an array that becomes a text."""
    value = sendable(value)
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return _letter_of_bool(value, connection)
    return as_inserted(value, _TEXT, connection)


def _cast_foreign(value: Any, type_: int, connection: Connection) -> Any:
    """Cast what psycopg has a dumper for and Python no literal: addresses, ranges, numpy's numbers."""
    own = Transformer(connection).get_dumper(value, PyFormat.AUTO).oid
    if own in _PLAIN:
        return as_inserted(_PLAIN[own](value), type_, connection)
    if own == _INET and type_ == _CIDR and isinstance(value, (IPv4Interface, IPv6Interface)):
        return value.network
    if own in (0, type_) or {own, type_} == {_INET, _CIDR}:
        return value
    raise _refusal(type_)


_PLAIN: dict[int, type] = {_BOOL: bool, _INT2: int, _INT4: int, _INT8: int, _FLOAT8: float}


# -- numbers -----------------------------------------------------------------------------------------------------------


def _same(value: Any, _: Connection) -> Any:
    return value


def _int_of_float(value: float, _: Connection) -> int:
    return round(value)  # halves to the even one, as the server does with float8 ...


def _int_of_decimal(value: Decimal, _: Connection) -> int:
    if not value.is_finite():
        raise ValueError("not a whole number")
    return int(value.to_integral_value(ROUND_HALF_UP))  # ... and away from zero with numeric


def _float_of_int(value: int, _: Connection) -> float:
    return float(value)


def _float_of_decimal(value: Decimal, _: Connection) -> float:
    if value.is_nan():
        return math.nan
    found = float(value) or 0.0  # numeric knows no -0
    if value.is_finite() and (math.isinf(found) or bool(found) != bool(value)):
        raise OverflowError("beyond the range of float8")
    return found


def _float4_of_float(value: float, _: Connection) -> float:
    # To the nearest float4 here: by way of the text it would be rounded twice. What becomes 0 is left to the server.
    return float(struct.unpack("<f", struct.pack("<f", value))[0]) or value


def _decimal_of_int(value: int, _: Connection) -> Decimal:
    return Decimal(value)


def _decimal_of_float(value: float, _: Connection) -> Decimal:
    return Decimal(f"{value:.15g}")  # the digits that the server keeps


# -- days and times ----------------------------------------------------------------------------------------------------


_MIDNIGHT = datetime(1, 1, 1)  # noqa: DTZ001 (of no day, and in no time zone)


def _local(value: datetime, connection: Connection) -> datetime:
    """Return the wall clock of the session's time zone, in which the server casts."""
    return value if value.tzinfo is None else value.astimezone(connection.info.timezone).replace(tzinfo=None)


def _aware(value: datetime, connection: Connection) -> datetime:
    if value.tzinfo is not None:
        return value
    first, second = (value.replace(tzinfo=connection.info.timezone, fold=fold) for fold in (0, 1))
    # Of an hour that there is twice, or not at all, the server takes the smaller offset.
    return min(first, second, key=lambda moment: moment.utcoffset() or timedelta(0))


def _midnight(value: date, _: Connection) -> datetime:
    return datetime(value.year, value.month, value.day)  # noqa: DTZ001 (a date has no time zone)


def _aware_midnight(value: date, connection: Connection) -> datetime:
    return _aware(_midnight(value, connection), connection)


def _date_of_datetime(value: datetime, connection: Connection) -> date:
    return _local(value, connection).date()


def _time_of_datetime(value: datetime, connection: Connection) -> time:
    return _local(value, connection).time()


def _timetz_of_datetime(value: datetime, connection: Connection) -> str:
    if value.tzinfo is None:
        raise _refusal(_TIMETZ)
    return _clock(value.astimezone(connection.info.timezone))


def _fixed(value: time) -> time:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise QueryError("its time zone has no offset without a date; give it a fixed one")
    return value


def _time_of_time(value: time, _: Connection) -> time:
    return _fixed(value).replace(tzinfo=None)


def _timetz_of_time(value: time, _: Connection) -> time:
    return _fixed(value)


def _interval_of_time(value: time, _: Connection) -> timedelta:
    if value.tzinfo is not None:
        raise _refusal(_INTERVAL)
    return timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)


def _time_of_interval(value: timedelta, _: Connection) -> time:
    return (_MIDNIGHT + timedelta(seconds=value.seconds, microseconds=value.microseconds)).time()


# -- texts, as the server writes them ----------------------------------------------------------------------------------


def _text_of_bool(value: bool, _: Connection) -> str:
    return "true" if value else "false"


def _letter_of_bool(value: bool, _: Connection) -> str:
    return "t" if value else "f"


def _oid_of_int(value: int, _: Connection) -> str:
    return str(value + 2**32 if -(2**31) <= value < 0 else int(value))


def _text_of_int(value: int, _: Connection) -> str:
    return int.__repr__(value)


def _text_of_float(value: float, _: Connection) -> str:
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    digits = Decimal(float.__repr__(value)).normalize() if value else Decimal(str(value)).quantize(Decimal(1))
    if -4 <= digits.adjusted() < 15:
        return format(digits, "f")
    mantissa, exponent = format(digits, "e").split("e")
    return f"{mantissa}e{int(exponent):+03}"


def _text_of_decimal(value: Decimal, _: Connection) -> str:
    if value.is_nan():
        return "NaN"
    return format(value or abs(value), "f")


def _text_of_bytes(value: bytes | bytearray | memoryview, _: Connection) -> str:
    return "\\x" + bytes(value).hex()


def _uuid_of_text(value: str, _: Connection) -> UUID | str:
    """Read the usual form. Of others Python reads some that the server does not, and the other way round."""
    return UUID(value) if _UUID_FORM.fullmatch(value) else value


def _text_of_uuid(value: UUID, _: Connection) -> str:
    return str(value)


def _text_of_date(value: date, connection: Connection) -> str:
    _need_styles(connection)
    return value.isoformat()


def _text_of_datetime(value: datetime, connection: Connection) -> str:
    _need_styles(connection)
    moment = value if value.tzinfo is None else value.astimezone(connection.info.timezone)
    return f"{moment.date().isoformat()} {_clock(moment)}"


def _text_of_time(value: time, connection: Connection) -> str:
    _need_styles(connection)
    return _clock(_fixed(value))


def _text_of_interval(value: timedelta, connection: Connection) -> str:
    _need_styles(connection)
    rest = timedelta(seconds=value.seconds, microseconds=value.microseconds)
    clock = ("+" if value.days < 0 else "") + _clock(_MIDNIGHT + rest)
    if not value.days:
        return clock
    days = f"{value.days} day{'' if value.days == 1 else 's'}"
    return f"{days} {clock}" if rest else days


def _text_of_json(value: object, _: Connection) -> str:
    return _jsonb(json.loads(encode_json(value), parse_float=Decimal, parse_constant=_no_jsonb))


def _jsonb(value: Any) -> str:
    """Write JSON as jsonb does: short keys first, and numbers without an exponent."""
    if _is_object(value):
        names = sorted(value, key=lambda name: (len(name.encode()), name.encode()))
        return "{" + ", ".join(f"{_jsonb(name)}: {_jsonb(value[name])}" for name in names) + "}"
    if is_list(value):
        return "[" + ", ".join(map(_jsonb, value)) + "]"
    if isinstance(value, Decimal):
        return format(value or abs(value), "f")
    if isinstance(value, str) and "\0" in value:
        _no_jsonb(value)
    return json.dumps(value, ensure_ascii=False)


def _is_object(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _json_of_json(value: object, _: Connection) -> str:
    text = encode_json(value)
    if _JSON_NUL.search(text):
        _no_jsonb(text)  # json would hold it, but a parameter goes as jsonb
    return text


def _no_jsonb(_: str) -> NoReturn:
    raise QueryError("jsonb holds neither NaN, nor an infinity, nor a text with a NUL character")


def _clock(value: datetime | time) -> str:
    text = f"{value:%H:%M:%S}"
    if value.microsecond:
        text += f".{value.microsecond:06}".rstrip("0")
    offset = value.utcoffset()
    if offset is None:
        return text
    minutes, seconds = divmod(abs(offset) // timedelta(seconds=1), 60)
    parts = [minutes // 60, minutes % 60, seconds]
    while len(parts) > 1 and not parts[-1]:
        parts.pop()
    return text + ("-" if offset < timedelta(0) else "+") + ":".join(f"{part:02}" for part in parts)


def _need_styles(connection: Connection) -> None:
    _, dates, intervals = connection.read_styles()
    if dates is None or not dates.startswith(b"ISO") or intervals != b"postgres":
        raise QueryError("the session writes dates or intervals in a style of its own; send a str")


# ----------------------------------------------------------------------------------------------------------------------

_CASTS: dict[type, dict[int, Cast]] = {
    bool: {_BOOL: _same, _NAME: _letter_of_bool},
    int: {
        _INT2: _same, _INT4: _same, _INT8: _same, _FLOAT4: _text_of_int, _FLOAT8: _float_of_int,
        _NUMERIC: _decimal_of_int, _MONEY: _text_of_int, **dict.fromkeys(_OIDS, _oid_of_int),
    },
    float: {
        _INT2: _int_of_float, _INT4: _int_of_float, _INT8: _int_of_float, _FLOAT4: _float4_of_float, _FLOAT8: _same,
        _NUMERIC: _decimal_of_float,
    },
    Decimal: {
        _INT2: _int_of_decimal, _INT4: _int_of_decimal, _INT8: _int_of_decimal, _FLOAT4: _text_of_decimal,
        _FLOAT8: _float_of_decimal, _NUMERIC: _same, _MONEY: _text_of_decimal,
    },
    str: {_UUID: _uuid_of_text},
    bytes: {_BYTEA: _same},
    bytearray: {_BYTEA: _same},
    memoryview: {_BYTEA: _same},
    date: {_DATE: _same, _TIMESTAMP: _midnight, _TIMESTAMPTZ: _aware_midnight},
    datetime: {
        _DATE: _date_of_datetime, _TIME: _time_of_datetime, _TIMETZ: _timetz_of_datetime, _TIMESTAMP: _local,
        _TIMESTAMPTZ: _aware,
    },
    time: {_TIME: _time_of_time, _TIMETZ: _timetz_of_time, _INTERVAL: _interval_of_time},
    timedelta: {_INTERVAL: _same, _TIME: _time_of_interval},
    UUID: {_UUID: _same},
    dict: {_JSON: _json_of_json, _JSONB: _same},
    Json: {_JSON: _json_of_json, _JSONB: _same},
}  # fmt: skip
"""What an INSERT can cast: by the type of the value, and that of the column."""

_WRITTEN: dict[type, Cast] = {
    bool: _text_of_bool, int: _text_of_int, float: _text_of_float, Decimal: _text_of_decimal, bytes: _text_of_bytes,
    bytearray: _text_of_bytes, memoryview: _text_of_bytes, date: _text_of_date, datetime: _text_of_datetime,
    time: _text_of_time, timedelta: _text_of_interval, UUID: _text_of_uuid, dict: _text_of_json, Json: _text_of_json,
}  # fmt: skip

_KINDS = frozenset({*_CASTS, list})
