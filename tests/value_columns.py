"""Which column keeps which portable value: by driver, by kind of value, by type of column, what it does not keep.

The first column of each kind is the one for it. What is not kept is either refused or comes back as something else;
docs/values.md, written by `tools/values_table.py`, says which.
"""

from __future__ import annotations

from collections.abc import Mapping

from mysql_values import MYSQL_CASTS, MYSQL_COLUMNS

from dbcore.testing.values import KINDS

__all__ = ["CASTS", "COLUMNS"]

_ALL: Mapping[str, frozenset[str]] = {name: frozenset(kind.values) for name, kind in KINDS.items()}


def _of(kind: str, **columns: tuple[str, ...] | frozenset[str]) -> Mapping[str, frozenset[str]]:
    lost = {column.replace("_", " ").replace(" array", "[]"): frozenset(names) for column, names in columns.items()}
    unknown = {name for names in lost.values() for name in names} - _ALL[kind]
    assert not unknown, f"{kind} has no {unknown}"
    return lost


_WIDE = ("one more than 32 bits", "beyond 53 bits", "highest of 64 bits", "lowest of 64 bits")
_BEYOND_53 = _WIDE[1:]
_BEYOND_16 = ("16 bits", "highest of 32 bits", "lowest of 32 bits", *_WIDE)
_LONG_DIGITS = ("19 digits", "100 digits")

_COLUMNS: Mapping[str, Mapping[str, Mapping[str, frozenset[str]]]] = {
    "sqlite": {
        "bool": _of("bool", INTEGER=(), BOOLEAN=(), TEXT=()),
        "int": _of("int", INTEGER=(), NUMERIC=(), TEXT=(), REAL=_BEYOND_53),
        "float": _of("float", REAL=("NaN",), NUMERIC=("NaN",), TEXT=("17 digits", "largest", "NaN")),
        "str": _of("str", TEXT=(), NUMERIC=("digits", "number with exponent")),
        "bytes": _of("bytes", BLOB=(), TEXT=()),
        "datetime, aware": _of("datetime, aware", TEXT=(), TIMESTAMP=()),
        "datetime, naive": _of("datetime, naive", TEXT=(), TIMESTAMP=()),
        "date": _of("date", TEXT=(), DATE=()),
        "time": _of("time", TEXT=()),
        "timedelta": _of("timedelta", TEXT=()),
        "Decimal": _of("Decimal", TEXT=(), NUMERIC=_LONG_DIGITS, REAL=_LONG_DIGITS),
        "UUID": _of("UUID", TEXT=()),
        "dict": _of("dict", TEXT=()),
        "db.Json": _of("db.Json", TEXT=()),
        "list of int": _of("list of int", TEXT=()),
        "list of str": _of("list of str", TEXT=()),
        "list with None": _of("list with None", TEXT=()),
        "list of lists": _of("list of lists", TEXT=()),
        "Enum of str": _of("Enum of str", TEXT=()),
        "Enum of int": _of("Enum of int", INTEGER=(), TEXT=_ALL["Enum of int"]),
        "IntEnum": _of("IntEnum", INTEGER=()),
        "StrEnum": _of("StrEnum", TEXT=()),
    },
    "postgres": {
        "bool": _of("bool", boolean=()),
        "int": _of("int", bigint=(), integer=_WIDE, smallint=_BEYOND_16, numeric=(), text=()),
        "float": _of(
            "float", double_precision=(), real=("17 digits", "largest", "smallest"), numeric=("17 digits", "largest")
        ),
        "str": _of("str", text=("NUL",), varchar=("NUL",)),
        "bytes": _of("bytes", bytea=()),
        "datetime, aware": _of(
            "datetime, aware", timestamptz=(), timestamp=_ALL["datetime, aware"], text=_ALL["datetime, aware"]
        ),
        "datetime, naive": _of("datetime, naive", timestamp=(), timestamptz=_ALL["datetime, naive"]),
        "date": _of("date", date=(), timestamp=()),
        "time": _of("time", time=()),
        "timedelta": _of("timedelta", interval=()),
        "Decimal": _of("Decimal", numeric=(), double_precision=_LONG_DIGITS, text=()),
        "UUID": _of("UUID", uuid=(), text=()),
        "dict": _of("dict", jsonb=("NUL",), json=("NUL",), text=("NUL",)),
        "db.Json": _of("db.Json", jsonb=(), json=()),
        "list of int": _of("list of int", bigint_array=(), integer_array=("wide",), jsonb=_ALL["list of int"]),
        "list of str": _of("list of str", text_array=(), varchar_array=()),
        "list with None": _of("list with None", bigint_array=()),
        "list of lists": _of("list of lists", bigint_array=()),
        "Enum of str": _of("Enum of str", text=(), varchar=()),
        "Enum of int": _of("Enum of int", bigint=(), integer=("wide",)),
        "IntEnum": _of("IntEnum", integer=(), bigint=(), smallint=()),
        "StrEnum": _of("StrEnum", text=()),
    },
}

# The server is the same. asyncpg has the last word about float4 and numeric, and takes the first and the last datetime
# for infinity.
_ASYNCPG: Mapping[str, Mapping[str, frozenset[str]]] = {
    **_COLUMNS["postgres"],
    "float": _of("float", double_precision=(), real=("a fraction", "17 digits", "largest", "smallest"), numeric=()),
    "datetime, naive": _of("datetime, naive", timestamp=(), timestamptz=_ALL["datetime, naive"] - {"first", "last"}),
    "dict": _of("dict", jsonb=("NUL",), json=(), text=("NUL",)),
    "list of int": _of("list of int", bigint_array=(), integer_array=("wide",), jsonb=()),
}

COLUMNS = {**_COLUMNS, "asyncpg": _ASYNCPG, "mysql": MYSQL_COLUMNS}

CASTS: Mapping[str, Mapping[str, str | None]] = {"mysql": MYSQL_CASTS}
"""By driver: what to cast to for a type of column, where that has another name; `None` where there is no cast."""
