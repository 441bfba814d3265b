"""Which column of MySQL keeps which portable value; for `value_columns`, which says what the tables mean."""

from __future__ import annotations

from collections.abc import Mapping

from dbcore.testing.values import KINDS

__all__ = ["MYSQL_CASTS", "MYSQL_COLUMNS"]

_NONE: tuple[str, ...] = ()
_NOT_FINITE = ("infinity", "-infinity", "NaN")
_WIDE = ("one more than 32 bits", "beyond 53 bits", "highest of 64 bits", "lowest of 64 bits")
_BEYOND_EPOCH = ("year 1", "year 9999")
_LONG = ("years", "longest", "longest negative")
_INEXACT = ("100 digits", "large exponent", "small exponent")

_LOST: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "bool": {"BOOLEAN": _NONE, "INTEGER": _NONE, "VARCHAR(10)": _NONE},
    "int": {"BIGINT": _NONE, "INTEGER": _WIDE, "DECIMAL(20,0)": _NONE, "VARCHAR(30)": _NONE},
    "float": {"DOUBLE": _NOT_FINITE, "FLOAT": ("17 digits", "largest", "smallest", *_NOT_FINITE)},
    "str": {"LONGTEXT": _NONE, "VARCHAR(500)": _NONE},
    "bytes": {"LONGBLOB": _NONE, "VARBINARY(500)": _NONE},
    "datetime, aware": {"TIMESTAMP(6)": _BEYOND_EPOCH, "DATETIME(6)": tuple(KINDS["datetime, aware"].values)},
    "datetime, naive": {
        "DATETIME(6)": _NONE,
        "DATETIME": ("microseconds", "last"),
        "TIMESTAMP(6)": tuple(KINDS["datetime, naive"].values),
    },
    "date": {"DATE": _NONE, "DATETIME": _NONE},
    "time": {"TIME(6)": _NONE, "VARCHAR(30)": _NONE},
    "timedelta": {"TIME(6)": _LONG, "VARCHAR(30)": _LONG},
    "Decimal": {
        "DECIMAL(65,30)": (*_INEXACT, *_NOT_FINITE),
        "VARCHAR(200)": _NOT_FINITE,
        "DOUBLE": ("19 digits", "100 digits", *_NOT_FINITE),
    },
    "UUID": {"CHAR(36)": _NONE, "LONGTEXT": _NONE},
    "dict": {"JSON": _NONE, "LONGTEXT": _NONE},
    "db.Json": {"JSON": _NONE, "LONGTEXT": _NONE},
    "list of int": {"JSON": _NONE},
    "list of str": {"JSON": _NONE},
    "list with None": {"JSON": _NONE},
    "list of lists": {"JSON": _NONE},
    "Enum of str": {"VARCHAR(30)": _NONE},
    "Enum of int": {"BIGINT": _NONE, "INTEGER": ("wide",)},
    "IntEnum": {"INTEGER": _NONE},
    "StrEnum": {"VARCHAR(30)": _NONE},
}

MYSQL_COLUMNS: Mapping[str, Mapping[str, frozenset[str]]] = {
    kind: {column: frozenset(lost) for column, lost in columns.items()} for kind, columns in _LOST.items()
}

MYSQL_CASTS: Mapping[str, str | None] = {
    "BOOLEAN": "SIGNED",
    "BIGINT": "SIGNED",
    "INTEGER": "SIGNED",
    "LONGTEXT": "CHAR",
    "LONGBLOB": "BINARY",
    "VARCHAR(30)": "CHAR",
    "JSON": "CHAR",
    "TIMESTAMP(6)": None,
}
"""MySQL casts to some types by another name than their columns have, and to others not at all."""
