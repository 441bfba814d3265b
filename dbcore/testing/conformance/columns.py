"""Which column keeps which portable value, found out by trying the usual types."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from dbcore.connection import Connection
from dbcore.errors import QueryError
from dbcore.testing.conformance.subject import Subject
from dbcore.testing.values import KINDS, Fate, Kept, Kind, tried

__all__ = ["Column", "column_for", "values_table"]

_TEXT: Final = ("TEXT", "LONGTEXT", "VARCHAR(4000)")
_JSON: Final = ("JSONB", "JSON", *_TEXT)

USUAL: Final[Mapping[str, tuple[str, ...]]] = {
    "bool": ("BOOLEAN", "SMALLINT"),
    "int": ("BIGINT", "INTEGER"),
    "float": ("DOUBLE PRECISION", "DOUBLE", "REAL"),
    "str": _TEXT,
    "bytes": ("BYTEA", "LONGBLOB", "BLOB", "VARBINARY(4000)"),
    "datetime, aware": ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP(6)", "DATETIME(6)", *_TEXT),
    "datetime, naive": ("TIMESTAMP(6)", "DATETIME(6)", *_TEXT),
    "date": ("DATE", *_TEXT),
    "time": ("TIME(6)", "TIME", *_TEXT),
    "timedelta": ("INTERVAL", "TIME(6)", *_TEXT),
    "Decimal": ("NUMERIC", "DECIMAL(38, 10)", *_TEXT),
    "UUID": ("UUID", *_TEXT),
    "dict": _JSON,
    "db.Json": _JSON,
    "list of int": ("BIGINT[]", *_JSON),
    "list of str": ("TEXT[]", "VARCHAR[]", *_JSON),
    "list with None": ("BIGINT[]", *_JSON),
    "list of lists": ("BIGINT[][]", "BIGINT[]", *_JSON),
    "Enum of str": _TEXT,
    "Enum of int": ("BIGINT", "INTEGER"),
    "IntEnum": ("INTEGER",),
    "StrEnum": _TEXT,
}
"""Types that columns have somewhere, the best first."""


@dataclass(frozen=True, slots=True)
class Column:
    """What became of the values of one kind in the column that keeps most of them."""

    kind: str
    column: str
    fates: Mapping[str, Mapping[str, Fate]]
    """By the name of the value, and the way it was written."""

    @property
    def lost(self) -> Mapping[str, Mapping[str, Fate]]:
        """The values that are not kept, with the ways and what became of them there."""
        lost = {
            value: {way: fate for way, fate in ways.items() if not isinstance(fate, Kept)}
            for value, ways in self.fates.items()
        }
        return {value: ways for value, ways in lost.items() if ways}


async def column_for(
    subject: Subject, connection: Connection[Any], name: str, kind: Kind, ways: Iterable[str] = ("parameter",)
) -> Column:
    """The column that the subject says, else the first of the usual ones that keeps most of the values."""
    found: list[Column] = []
    for column in (subject.columns[name],) if name in subject.columns else USUAL[name]:
        try:
            fates = await tried(connection, column, kind, ways, table=subject.unique())
        except QueryError:  # there is no such type
            continue
        found.append(Column(name, column, fates))
        if not found[-1].lost:
            break
    if not found:
        types = subject.columns.get(name) or ", ".join(USUAL[name])
        raise AssertionError(f"no column of these types can be made for {name}: {types}. Say one in `Subject.columns`")
    return min(found, key=lambda each: len(each.lost))


async def values_table(subject: Subject) -> list[Column]:
    """What becomes of each portable value, in the column for its type."""
    async with subject.placed() as place, place.open() as database, database.connection() as connection:
        return [await column_for(place, connection, name, kind) for name, kind in KINDS.items()]
