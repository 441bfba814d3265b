"""What a type given as `into` is: one that takes a row by its column names, or one that takes a single value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from types import GenericAlias, UnionType
from typing import Annotated, Any, Final, Union, cast, get_args, get_origin

from dbcore.errors import UsageError

__all__ = ["Target"]


class Target:
    """A type and its validator, whatever the columns."""

    __slots__ = ("is_row", "name", "only", "schema", "validate")

    name: str
    is_row: bool
    only: frozenset[str] | None
    """The columns that the type can be given at all; `None` where more of them are ignored by itself."""
    schema: Any
    """pydantic's own description of a list of these."""
    validate: Callable[[list[Any]], list[Any]]

    def __init__(self, into: Any) -> None:
        # Imported by the first `into`: a program that reads Rows never needs it.
        from pydantic import ConfigDict, PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter

        self.name = into.__qualname__ if isinstance(into, type) else repr(into)
        bare = _bare(into)
        self.is_row = _takes_a_row(bare)
        self.only = frozenset(bare._fields) if _is_named_tuple(bare) else None
        try:
            # As a list: whole batches are checked in one call, and a model by itself could not be given this config.
            listed: Any = GenericAlias(list, (into,))
            adapter = TypeAdapter[list[Any]](listed, config=ConfigDict(hide_input_in_errors=True, allow_inf_nan=True))
            if not getattr(adapter, "pydantic_complete", True):  # from 2.10 on it puts off what it cannot resolve
                adapter.rebuild(raise_errors=True)
            self.schema = adapter.core_schema
        except (PydanticUserError, PydanticUndefinedAnnotation) as error:
            what = (error.message or "its annotations cannot be resolved").split("\n")[0].rstrip(".")
            raise UsageError(
                f"into={self.name} cannot be checked: {what}; give a dataclass, pydantic model, TypedDict, NamedTuple "
                "or the type of one value"
            ) from error
        self.validate = adapter.validate_python


_UNIONS: Final = (Union, UnionType)


def _bare(into: Any) -> Any:
    """Take off what only surrounds a type: `Annotated`, the name that a `type` statement gave it, its parameters."""
    origin = get_origin(into)
    if origin is Annotated:
        return _bare(into.__origin__)
    value = getattr(into if origin is None else origin, "__value__", None)
    if value is not None and not isinstance(into, type):
        return _bare(value)
    return into if origin is None or origin in _UNIONS else origin


def _takes_a_row(bare: Any) -> bool:
    if get_origin(bare) in _UNIONS:
        members = [member for member in get_args(bare) if member is not type(None)]
        return all(_takes_a_row(_bare(member)) for member in members)
    if not isinstance(bare, type):
        return False
    from pydantic import BaseModel, RootModel

    if BaseModel in bare.__mro__:
        return RootModel not in bare.__mro__
    return is_dataclass(cast("Any", bare)) or _is_named_tuple(bare) or _is_typed_dict(bare)


def _is_named_tuple(bare: Any) -> bool:
    return isinstance(bare, type) and tuple in bare.__mro__ and "_fields" in dir(cast("Any", bare))


def _is_typed_dict(bare: Any) -> bool:
    # One of `typing` or of `typing_extensions`, which is why neither is asked.
    return dict in bare.__mro__ and "__required_keys__" in vars(bare)
