"""Rows: tuples that know the names of their columns. One class for each shape of result."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, SupportsIndex, overload

__all__ = ["Row", "row_shape"]

_OWN = frozenset({"as_dict"})
_WIDEST = 64
_item: Callable[[tuple[Any, ...], Any], Any] = tuple[Any, ...].__getitem__
_named_tuple: Callable[[str, list[str]], type[Any]] = namedtuple  # noqa: PYI024  # the names are made at run time


class Row(tuple[Any, ...]):
    """One row of a result: a tuple whose values also have names.

    `row[0]`, slices, unpacking, `==` and `hash` are those of the tuple. `row["email"]` and `row.email` take a column by
    name; a column named like something that a tuple has (`count`, `index`) wins. By `row["..."]` only: names that are
    no identifiers, names that start with `__`, and `as_dict`. Of several columns with one name, the last one has it.
    Immutable; can be pickled and copied. No such column: `KeyError`, `AttributeError`, with the names there are.
    """

    __slots__ = ()

    # Set by row_shape. A column cannot hide these, since names that start with "__" are no attributes of a row.
    __columns__: Final[tuple[str, ...]] = ()
    __places__: Final[dict[str, int]] = {}

    if TYPE_CHECKING:
        # A column may have these names; a row of any shape is all that a type checker knows.
        count: Any
        index: Any

    @overload
    def __getitem__(self, key: SupportsIndex | str, /) -> Any: ...
    @overload
    def __getitem__(self, key: slice, /) -> tuple[Any, ...]: ...
    def __getitem__(self, key: SupportsIndex | slice | str, /) -> Any:
        if not isinstance(key, str):
            return _item(self, key)
        try:
            return _item(self, self.__places__[key])
        except KeyError:
            raise KeyError(self.__no_column__(key)) from None

    def __getattr__(self, name: str) -> Any:
        # Only reached for what is no column.
        raise AttributeError(self.__no_column__(name), name=name, obj=self)

    def as_dict(self) -> dict[str, Any]:
        """Return a new dict of column name to value, in the order of the columns."""
        return dict(zip(self.__columns__, self, strict=True))  # most shapes have a faster one

    def __no_column__(self, name: str) -> str:
        return f"no column {name}; the row has: {', '.join(self.__columns__)}"

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in zip(self.__columns__, self, strict=True))})"

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.__columns__, tuple(self))


def _restore(columns: tuple[str, ...], values: tuple[Any, ...]) -> Row:
    return row_shape(columns)(values)


@lru_cache(maxsize=16)
def _getters(count: int) -> tuple[Any, ...]:
    """Return attributes that read item 0, 1, ... of any tuple, at the speed of a named tuple's: they are its own."""
    names = [f"item{place}" for place in range(count)]
    # Held until the end: a class that is garbage is emptied when it is collected, whoever still has its `vars`.
    made = _named_tuple("Getters", names)
    return tuple(vars(made)[name] for name in names)


@lru_cache(maxsize=_WIDEST)
def _dict_maker(count: int) -> Callable[..., Callable[[Row], dict[str, Any]]]:
    """Return what makes `as_dict` for rows of so many columns, from their names.

    The text is made of the number alone. A display with as many places as there are columns takes half the time of
    `dict(zip(...))`.
    """
    names = [f"n{place}" for place in range(count)]
    values = [f"v{place}" for place in range(count)]
    pairs = ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
    namespace: dict[str, Any] = {}
    exec(  # noqa: S102  # no text from outside is in it
        f"def maker({', '.join(names)}):\n"
        "    def as_dict(self):\n"
        '        """Return a new dict of column name to value, in the order of the columns."""\n'
        f"        {', '.join(values)}, = self\n"
        f"        return {{{pairs}}}\n"
        "    return as_dict\n",
        namespace,
    )
    maker: Callable[..., Callable[[Row], dict[str, Any]]] = namespace["maker"]
    return maker


@lru_cache(maxsize=512)
def row_shape(columns: tuple[str, ...]) -> type[Row]:
    """Return the class of rows with these columns: `list(map(row_shape(columns), rows))` makes them from tuples."""
    places = {name: place for place, name in enumerate(columns)}
    # Powers of two, so that few sets of getters serve results of every width.
    getters = _getters(1 << max(4, len(columns).bit_length()))
    namespace: dict[str, Any] = {
        name: getters[place]
        for name, place in places.items()
        if name.isidentifier() and not name.startswith("__") and name not in _OWN
    }
    if 0 < len(columns) <= _WIDEST:
        namespace["as_dict"] = _dict_maker(len(columns))(*columns)
    namespace |= {"__slots__": (), "__columns__": columns, "__places__": places, "__module__": Row.__module__}
    return type("Row", (Row,), namespace)
