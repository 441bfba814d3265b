"""What would be refused as a parameter, found in rows for COPY: that turns a value into what its column likes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from operator import itemgetter
from types import NoneType
from typing import Any

from dbcore.errors import QueryError
from dbcore.statements.values import Json, is_large, plain
from dbcore_postgres.errors import not_a_parameter

__all__ = ["Misfits"]

Row = Sequence[Any]

_JSON = frozenset({114, 3802})
_INTS = frozenset({20, 21, 23})
"""Columns that refuse a large int in any case."""


@dataclass(frozen=True, slots=True)
class _Check:
    suspects: Callable[[type], bool]
    """Whether a value of that type may be a misfit."""
    finds: Callable[[Any], bool]
    cure: str


def _is_no_json(value: Any) -> bool:
    return not isinstance(plain(value), _GOES_AS_JSON)


_GOES_AS_JSON = (dict, Json, str, NoneType)
_NO_JSON = _Check(lambda kind: not issubclass(kind, _GOES_AS_JSON), _is_no_json, "for JSON send db.Json(...)")
_LARGE = _Check(
    lambda kind: issubclass(kind, (int, Enum)) and kind is not bool,
    is_large,
    "it does not fit into 64 bits; send a Decimal or a str",
)


class Misfits:
    """Looks at rows before they become bytes. First at the types of a whole column, for that is cheap."""

    def __init__(self, types: Sequence[int], columns: Sequence[str]) -> None:
        self._columns = columns
        self._checks = [
            (index, _NO_JSON if type_ in _JSON else _LARGE) for index, type_ in enumerate(types) if type_ not in _INTS
        ]
        self._done = 0

    def refuse(self, rows: list[Row]) -> None:
        """Raise a `QueryError` that names row and column if there is one in these rows, which come after the last."""
        for index, check in self._checks:
            if any(map(check.suspects, set(map(type, map(itemgetter(index), rows))))):
                self._look(rows, index, check)
        self._done += len(rows)

    def _look(self, rows: list[Row], index: int, check: _Check) -> None:
        for number, row in enumerate(rows, self._done + 1):
            if check.finds(row[index]):
                where = f"nothing was inserted: row {number}, column {self._columns[index]!r}"
                raise not_a_parameter(where, row[index], QueryError(check.cure))
