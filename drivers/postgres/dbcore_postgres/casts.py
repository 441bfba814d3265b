"""What an INSERT casts, value by value: what the server would make of it, for a column of another type."""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, NoReturn, TypeGuard
from uuid import UUID

from dbcore.errors import QueryError
from dbcore.statements.values import Json, encode_json
from dbcore_postgres.connection import Connection
from dbcore_postgres.oids import (
    BOOL,
    BYTEA,
    DATE,
    FLOAT4,
    FLOAT8,
    INT2,
    INT4,
    INT8,
    INTERVAL,
    JSON,
    JSONB,
    MONEY,
    NAME,
    NUMERIC,
    TIME,
    TIMESTAMP,
    TIMESTAMPTZ,
    TIMETZ,
)
from dbcore_postgres.oids import UUID as UUID_TYPE
from dbcore_postgres.values import is_list

__all__ = ["CASTS", "WRITTEN", "letter_of_bool", "refusal"]

Cast = Callable[[Any, Connection], Any]

_OIDS = (24, 26, 2202, 2203, 2204, 2205, 2206, 3734, 3769, 4089, 4096, 4191)
"""oid, regclass and its kin."""
_JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_UUID_FORM = re.compile("[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def refusal(type_: int) -> QueryError:
    """The error for a value that cannot become one of this type."""
    if type_ in (JSON, JSONB):
        return QueryError("for JSON send db.Json(...)")
    return QueryError("it cannot be cast to the type of the column; send a value of that type, or its text")


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


_UTC = frozenset({None, b"UTC", b"Etc/UTC", b"GMT", b"Etc/GMT"})
_MIDNIGHT = datetime(1, 1, 1)  # noqa: DTZ001 (of no day, and in no time zone)


def _zone(connection: Connection) -> tzinfo:
    """Return the time zone of the session. psycopg takes UTC for one that Python does not know: values would move."""
    zone = connection.info.timezone
    if zone is UTC and connection.pgconn.parameter_status(b"TimeZone") not in _UTC:
        raise QueryError("the session's TimeZone is none that Python knows; set one by its name, such as Europe/Berlin")
    return zone


def _local(value: datetime, connection: Connection) -> datetime:
    """Return the wall clock of the session's time zone, in which the server casts."""
    return value if value.tzinfo is None else value.astimezone(_zone(connection)).replace(tzinfo=None)


def _aware(value: datetime, connection: Connection) -> datetime:
    if value.tzinfo is not None:
        return value
    first, second = (value.replace(tzinfo=_zone(connection), fold=fold) for fold in (0, 1))
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
        raise refusal(TIMETZ)
    return _clock(value.astimezone(_zone(connection)))


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
        raise refusal(INTERVAL)
    return timedelta(hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond)


def _time_of_interval(value: timedelta, _: Connection) -> time:
    return (_MIDNIGHT + timedelta(seconds=value.seconds, microseconds=value.microseconds)).time()


# -- texts, as the server writes them ----------------------------------------------------------------------------------


def _text_of_bool(value: bool, _: Connection) -> str:
    return "true" if value else "false"


def letter_of_bool(value: bool, _: Connection) -> str:
    """Write a bool as it stands in an array."""
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
    moment = value if value.tzinfo is None else value.astimezone(_zone(connection))
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


CASTS: dict[type, dict[int, Cast]] = {
    bool: {BOOL: _same, NAME: letter_of_bool},
    int: {
        INT2: _same, INT4: _same, INT8: _same, FLOAT4: _text_of_int, FLOAT8: _float_of_int,
        NUMERIC: _decimal_of_int, MONEY: _text_of_int, **dict.fromkeys(_OIDS, _oid_of_int),
    },
    float: {
        INT2: _int_of_float, INT4: _int_of_float, INT8: _int_of_float, FLOAT4: _float4_of_float, FLOAT8: _same,
        NUMERIC: _decimal_of_float,
    },
    Decimal: {
        INT2: _int_of_decimal, INT4: _int_of_decimal, INT8: _int_of_decimal, FLOAT4: _text_of_decimal,
        FLOAT8: _float_of_decimal, NUMERIC: _same, MONEY: _text_of_decimal,
    },
    str: {UUID_TYPE: _uuid_of_text},
    bytes: {BYTEA: _same},
    bytearray: {BYTEA: _same},
    memoryview: {BYTEA: _same},
    date: {DATE: _same, TIMESTAMP: _midnight, TIMESTAMPTZ: _aware_midnight},
    datetime: {
        DATE: _date_of_datetime, TIME: _time_of_datetime, TIMETZ: _timetz_of_datetime, TIMESTAMP: _local,
        TIMESTAMPTZ: _aware,
    },
    time: {TIME: _time_of_time, TIMETZ: _timetz_of_time, INTERVAL: _interval_of_time},
    timedelta: {INTERVAL: _same, TIME: _time_of_interval},
    UUID: {UUID_TYPE: _same},
    dict: {JSON: _json_of_json, JSONB: _same},
    Json: {JSON: _json_of_json, JSONB: _same},
}  # fmt: skip
"""What an INSERT can cast: by the type of the value, and that of the column."""

WRITTEN: dict[type, Cast] = {
    bool: _text_of_bool, int: _text_of_int, float: _text_of_float, Decimal: _text_of_decimal, bytes: _text_of_bytes,
    bytearray: _text_of_bytes, memoryview: _text_of_bytes, date: _text_of_date, datetime: _text_of_datetime,
    time: _text_of_time, timedelta: _text_of_interval, UUID: _text_of_uuid, dict: _text_of_json, Json: _text_of_json,
}  # fmt: skip
