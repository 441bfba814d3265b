"""A text read once, and its parameters put in order many times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from operator import itemgetter
from types import NoneType
from typing import Any, NoReturn, cast, overload

from dbcore.driver import Syntax
from dbcore.errors import QueryError
from dbcore.statements.scan import Placeholder, Scan, scan
from dbcore.statements.values import INT_MAX, INT_MIN, is_large

__all__ = ["Params", "Statement", "build"]

Params = Sequence[Any] | Mapping[str, Any]
"""Parameters of one statement: a sequence for `$1, $2, ...`, a mapping for `:name`."""

_MOST = 65_535
"""The highest placeholder: above what any database takes, and low enough to list what is missing."""
_NO_INTS = frozenset({str, float, bool, NoneType, bytes})
_LISTED = 8


class Statement:
    """One statement, ready for its parameters. Made by `compile_sql`; immutable, shared by all who send this text."""

    __slots__ = ("_count", "_known", "_names", "_order", "sql", "text")

    sql: str
    """What the user wrote."""
    text: str
    """What the driver gets: the placeholders as its library wants them."""

    def __init__(
        self,
        sql: str,
        text: str,
        *,
        count: int = 0,
        names: tuple[str, ...] | None = None,
        order: Callable[[Any], Sequence[Any]] | None = None,
    ) -> None:
        self.sql = sql
        self.text = text
        self._count = count
        self._names = names
        self._known: AbstractSet[str] = frozenset(names or ())
        self._order = order

    @overload
    def bind(self, params: Sequence[Any] = ...) -> tuple[str, Sequence[Any]]: ...
    @overload
    def bind(self, params: Mapping[str, Any]) -> tuple[str, Sequence[Any]]: ...
    def bind(self, params: Any = ()) -> tuple[str, Sequence[Any]]:
        """Return the text and the sequence to send with it.

        A tuple or list that is in order already is handed on as it is. Raises `QueryError`, before anything is sent,
        for parameters of the wrong kind, missing or unused ones, and an int beyond 64 bits.
        """
        kind: Any = params.__class__
        if (kind is not tuple and kind is not list) or len(params) != self._count or self._names is not None:
            params = self._fit(params)
        for value in params:
            kind = value.__class__
            if kind is int:
                if not INT_MIN <= value <= INT_MAX:
                    raise self._too_large(params)
            elif kind not in _NO_INTS and is_large(value):
                raise self._too_large(params)
        if self._order is not None:
            params = self._order(params)
        return self.text, params

    def _fit(self, params: Any) -> Sequence[Any]:
        if params.__class__ is dict and self._names:
            return self._by_name(params, self._names)
        if isinstance(params, (str, bytes, bytearray, memoryview)):
            raise self._error("the parameters are one text; put it into a list: [value]")
        if isinstance(params, Mapping):
            mapping = cast("Mapping[str, Any]", params)
            return self._by_name(mapping, self._names or ()) if self._names or not self._count else self._wrong_kind()
        if not isinstance(params, Sequence):
            raise self._error(
                f"the parameters are a {type(params).__name__}; give a sequence such as [value] for $1, $2, ... "
                "or a mapping for :name"
            )
        given = cast("Sequence[Any]", params)  # type: ignore[redundant-cast]  # pyright needs it
        if self._names is not None:
            return self._wrong_kind() if given else self._by_name({}, self._names)
        if len(given) != self._count:
            fewer, more = sorted((len(given), self._count))
            numbers = _listed(f"${number}" for number in range(fewer + 1, more + 1))
            what = f"no parameter for {numbers}" if len(given) < self._count else f"no placeholder {numbers}"
            cure = "; a placeholder is $1, $2, ... or :name" if not self._count else ""
            raise self._error(f"{what}: the text takes {self._count}, given were {len(given)}{cure}")
        return given if isinstance(given, (tuple, list)) else tuple(given)

    def _by_name(self, params: Mapping[str, Any], names: tuple[str, ...]) -> tuple[Any, ...]:
        if params.keys() == self._known:
            return tuple([params[name] for name in names])
        missing = [f":{name}" for name in names if name not in params]
        unused = [f":{name}" for name in params if name not in names]
        parts = [f"no parameter for {_listed(missing)}"] if missing else []
        parts += [f"no placeholder for the parameter {_listed(unused)}"] if unused else []
        raise self._error("; ".join(parts))

    def _wrong_kind(self) -> NoReturn:
        if self._names is None:
            raise self._error(
                "the text has $1 and the parameters are a mapping; give a sequence such as [value], or write :name"
            )
        name = self._names[0]
        raise self._error(
            f"the text has :{name} and the parameters are a sequence; "
            f'give a mapping such as {{"{name}": value}}, or write $1'
        )

    def _too_large(self, params: Sequence[Any]) -> QueryError:
        at = next(place for place, value in enumerate(params) if is_large(value))
        name = f"${at + 1}" if self._names is None else f":{self._names[at]}"
        return self._error(f"the int given for {name} does not fit into 64 bits; send a Decimal or a str")

    def _error(self, message: str) -> QueryError:
        return QueryError(message, sql=self.sql)


def _listed(names: Any) -> str:
    every = [str(name) for name in names]
    rest = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + rest


def build(sql: str, syntax: Syntax) -> Statement:
    """Read one text. Raises `QueryError` for one that can never be sent."""
    found = scan(sql, syntax)
    trouble = _trouble(found, syntax)
    if trouble is not None:
        raise QueryError(trouble, sql=sql)
    spots = found.placeholders
    if not spots:
        return Statement(sql, sql)
    keys = list(dict.fromkeys(spot.key for spot in spots))
    names = tuple(key for key in keys if isinstance(key, str)) or None
    positions = {key: place for place, key in enumerate(names or sorted(keys, key=int))}
    numbered = syntax.placeholder == "$1"
    if numbered and names is None:
        return Statement(sql, sql, count=len(keys))
    texts = [f"${positions[spot.key] + 1}" if numbered else syntax.placeholder for spot in spots]
    text = _replace(sql, spots, texts, double_percent=syntax.placeholder == "%s")
    wanted = range(len(keys)) if numbered else [positions[spot.key] for spot in spots]
    order = None if list(wanted) == list(range(len(keys))) else _picker(wanted)
    return Statement(sql, text, count=len(keys), names=names, order=order)


def _picker(places: Sequence[int]) -> Callable[[Any], Sequence[Any]]:
    # Only reached with two places or more: itemgetter would return a bare value for one, but one is in order.
    return itemgetter(*places)


def _replace(sql: str, spots: Sequence[Placeholder], texts: Sequence[str], *, double_percent: bool) -> str:
    parts: list[str] = []
    position = 0
    for spot, text in zip(spots, texts, strict=True):
        between = sql[position : spot.start]
        parts += (between.replace("%", "%%") if double_percent else between, text)
        position = spot.end
    rest = sql[position:]
    parts.append(rest.replace("%", "%%") if double_percent else rest)
    return "".join(parts)


def _trouble(found: Scan, syntax: Syntax) -> str | None:
    if len(found.statements) > 1:
        return "the text holds more than one statement; use execute_script, or batch with one text for each"
    if found.junk is not None:
        return f"{found.junk} is no placeholder; put a space behind the number"
    names = [spot.key for spot in found.placeholders if isinstance(spot.key, str)]
    numbers = {spot.key for spot in found.placeholders if isinstance(spot.key, int)}
    if names and numbers:
        return f"the text has ${min(numbers)} and :{names[0]}; use $1 with a sequence, or :name with a mapping"
    if numbers and min(numbers) == 0:
        return "$0 is no placeholder; they count from $1"
    if numbers and max(numbers) > _MOST:
        return f"${max(numbers)} is beyond ${_MOST}, the last placeholder there can be"
    gaps = sorted(set(range(1, max(numbers, default=0))) - numbers)
    if gaps:
        missing = _listed(f"${number}" for number in gaps)
        return f"the text has ${max(numbers)} and no {missing}; number the placeholders without a gap"
    if found.placeholders and found.question_mark and syntax.placeholder == "?":
        return "the text has a ? beside $1 or :name, and here each ? is a placeholder; write $1 or :name in its place"
    return None
