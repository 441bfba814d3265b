"""`into`: rows as the caller's own types, checked by pydantic, whole batches at a time."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar, cast, overload

from pydantic_core import ValidationError, from_json

from dbcore.errors import DecodeError
from dbcore.statements.explain import describe
from dbcore.statements.rows import Row, row_shape
from dbcore.statements.targets import Target
from dbcore.statements.values import JsonString

__all__ = ["Decoder", "decoder"]

T = TypeVar("T")
Rows = Sequence[tuple[Any, ...]]

_BATCH: Final = 1_000
"""Rows validated together. pydantic collects every error before it raises, so this bounds what a wrong type costs."""

_WANTS_JSON: Final = frozenset(
    {
        "arguments_type",
        "counter_type",
        "dataclass_type",
        "deque_type",
        "dict_type",
        "frozen_dict_type",
        "frozen_set_type",
        "list_type",
        "mapping_type",
        "model_attributes_type",
        "model_type",
        "named_tuple_type",
        "ordered_dict_type",
        "sequence_str",
        "set_type",
        "tuple_type",
    }
)
"""What pydantic calls it when a text stands where an object or array should be."""


class Decoder(Protocol[T]):
    """Turns rows into values. `first` is the number of the first of them, counted from 1, for the text of an error."""

    def __call__(self, rows: Rows, first: int = 1) -> list[T]: ...


@overload
def decoder(into: None, columns: tuple[str, ...]) -> Decoder[Row]: ...
@overload
def decoder(into: type[T], columns: tuple[str, ...]) -> Decoder[T]: ...
@overload
def decoder(into: Any, columns: tuple[str, ...]) -> Decoder[Any]: ...
def decoder(into: Any, columns: tuple[str, ...]) -> Decoder[Any]:
    """Return what turns rows with these columns into `into`; `None` gives `Row`s.

    A dataclass, pydantic model, TypedDict or NamedTuple (or a union of them) takes a row by column names. Columns that
    it has no field for are ignored, unless the type itself forbids them; of several columns with one name the last one
    counts. Every other type takes the value of the only column. Values may come as the database's library made them or
    as what stands for them: ISO 8601 text for dates, times and durations, digits for `Decimal`, hex for `UUID`, 0 and
    1 for `bool`, an enum's value, and JSON text where the type is an object or array; a type that also allows `str`,
    or `Any`, takes a text as it is. Cached, and bounded.

    Raises `DecodeError` for a value type and more or less than one column, and, from the decoder, for the first row
    that does not fit (`row 1` is the first one); `UsageError` for a type that pydantic cannot check.
    """
    if into is None or into is Row:
        return _rows(columns)
    if isinstance(into, type):
        return _cached(into, "", columns)
    if _is_hashable(into):
        # The spelling, since `date | datetime == datetime | date`, and for a text it matters which one is asked first.
        return _cached(into, repr(into), columns)
    return _Decoder(Target(into), columns)


def _is_hashable(into: Hashable) -> bool:
    try:
        hash(into)
    except TypeError:
        return False
    return True


@lru_cache(maxsize=512)
def _rows(columns: tuple[str, ...]) -> Decoder[Row]:
    shape = row_shape(columns)

    def as_rows(rows: Rows, first: int = 1) -> list[Row]:
        if rows and rows[0].__class__ is shape and isinstance(rows, list):
            return cast("list[Row]", rows)  # the driver has made them so
        return list(map(shape, rows))

    return as_rows


@lru_cache(maxsize=512)
def _cached(into: Any, spelling: str, columns: tuple[str, ...]) -> Decoder[Any]:
    return _Decoder(_target(into, spelling), columns)


@lru_cache(maxsize=256)
def _target(into: Any, spelling: str) -> Target:
    return Target(into)


class _Decoder(Generic[T]):
    """A target for certain columns, and what has been learnt: which of the columns come as JSON text.

    That is not known from the type alone (it may have a validator of its own), nor asked of each row: a batch that
    fails for a text in place of an object is tried once more with that column parsed, and so is every later one.
    """

    __slots__ = ("_columns", "_json", "_shape", "_target")

    def __init__(self, target: Target, columns: tuple[str, ...]) -> None:
        if not target.is_row and len(columns) != 1:
            raise DecodeError(_not_one_column(target.name, columns))
        self._target = target
        self._columns = columns
        self._json: frozenset[int | None] = frozenset()
        self._shape = _row_shaper(columns, target.only) if target.is_row else _only_values

    def __call__(self, rows: Rows, first: int = 1) -> list[T]:
        if len(rows) <= _BATCH:
            return self._decode(rows, first)
        decoded: list[T] = []
        for start in range(0, len(rows), _BATCH):
            decoded += self._decode(rows[start : start + _BATCH], first + start)
        return decoded

    def _decode(self, rows: Rows, first: int) -> list[T]:
        while True:
            try:
                return self._target.validate(self._shape(self._parsed(rows) if self._json else rows))
            except ValidationError as error:
                problems: Sequence[Any] = error.errors(include_url=False, include_input=False)
                texts = {self._text_place(problem, rows) for problem in problems} - self._json - {None}
                if not texts:
                    text = describe(problems, self._target, self._columns, first)
                    raise DecodeError(f"{text} (reading {self._target.name})") from error
                self._json |= texts

    def _text_place(self, problem: Any, rows: Rows) -> int | None:
        """Return the column whose text stands where an object or array should be, if that is the problem."""
        if problem["type"] not in _WANTS_JSON:
            return None
        row, *loc = problem["loc"]
        place = 0
        if self._target.is_row:
            # Of a union of models, the label of the member comes first.
            name = next((part for part in loc[:2] if part in self._columns), None)
            if name is None:
                return None
            place = len(self._columns) - 1 - self._columns[::-1].index(name)
        return place if _may_be_json(rows[row][place]) else None

    def _parsed(self, rows: Rows) -> Rows:
        return [
            tuple([_from_text(value) if place in self._json else value for place, value in enumerate(row)])
            for row in rows
        ]


# A row may be a `Row`, whose own `[0]` costs much more than a tuple's.


def _only_values(rows: Rows) -> list[Any]:
    return [value for (value,) in rows]


def _row_shaper(columns: tuple[str, ...], only: frozenset[str] | None) -> Callable[[Rows], list[Any]]:
    if only is None or only.issuperset(columns):
        return lambda rows: [dict(zip(columns, row, strict=True)) for row in rows]
    wanted = [(name, place) for place, name in enumerate(columns) if name in only]
    return lambda rows: [{name: row[place] for name, place in wanted} for row in map(tuple, rows)]


def _may_be_json(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, JsonString)


def _from_text(value: Any) -> Any:
    if not _may_be_json(value):
        return value
    try:
        return from_json(value)
    except ValueError:
        return value  # No JSON: the type will say what it wants instead.


def _not_one_column(name: str, columns: tuple[str, ...]) -> str:
    if not columns:
        return f"into={name} takes one column and the statement returns none; add RETURNING, or use execute"
    return (
        f"into={name} takes one column and the rows have {len(columns)}: {', '.join(columns)}; select one, or give a "
        "dataclass, pydantic model, TypedDict or NamedTuple (without into, row.as_dict() is a dict)"
    )
