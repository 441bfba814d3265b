"""Values on their way to the database: what drivers share where their library lacks a portable type."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import Any, final

from pydantic_core import PydanticSerializationError, core_schema, from_json, to_json

from dbcore.errors import QueryError

__all__ = ["INT_MAX", "INT_MIN", "Json", "JsonString", "encode_duration", "encode_json", "is_large", "plain"]

INT_MIN, INT_MAX = -(2**63), 2**63 - 1


@final
class Json:
    """Send `value` as JSON, whatever it is: `Json([1, 2])`, `Json("text")`, `Json(None)`. A `dict` needs no wrapper.

    As `into`, it gives the value back in its wrapper: a text is read as JSON then, and as itself where it is none.
    Immutable; equal when the values are; hashable when the value is.
    """

    # No dataclass: as one it would be written out as an object with a field "value" where it stands inside of JSON.
    __slots__ = ("value",)

    value: Any

    def __init__(self, value: Any) -> None:
        object.__setattr__(self, "value", value)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Json is immutable: {name} cannot be set; make a new one", name=name, obj=self)

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a Json is immutable: {name} cannot be deleted", name=name, obj=self)

    def __eq__(self, other: object) -> bool:
        return self.value == other.value if isinstance(other, Json) else NotImplemented

    def __hash__(self) -> int:
        return hash((Json, self.value))

    def __repr__(self) -> str:
        return f"Json({self.value!r})"

    def __reduce__(self) -> tuple[type[Json], tuple[Any]]:
        return Json, (self.value,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        """Let pydantic read a column, or a field, of this type."""
        return core_schema.no_info_plain_validator_function(
            _read_json, serialization=core_schema.plain_serializer_function_ser_schema(_unwrapped)
        )


def _unwrapped(value: Any) -> Any:
    if isinstance(value, Json):
        return value.value
    raise TypeError(f"no JSON form for {type(value).__qualname__}")


class JsonString(str):
    """A string that a driver's library took out of JSON. A text like any other, but `into` reads no JSON in it again.

    For drivers whose library hands JSON over decoded: without it the JSON string `"12"` would become the number 12.
    """

    __slots__ = ()


def _read_json(raw: Any) -> Json:
    if isinstance(raw, Json):
        return raw
    if isinstance(raw, JsonString):
        return Json(str(raw))
    if isinstance(raw, str):
        try:
            return Json(from_json(raw))
        except ValueError:
            return Json(raw)
    return Json(raw)


def encode_json(value: Any) -> str:
    """Return the JSON text of a `Json` or of any value that JSON has a form for.

    Inside, `Decimal` and `UUID` become strings, dates, times and durations ISO 8601 strings (offsets to the minute),
    `bytes` UTF-8 strings, enums their value, dataclasses and models objects, tuples and sets arrays, keys strings:
    `into` reads them back as equal where it names their types. NaN and the infinities become `NaN` and `Infinity`,
    for the database to accept or refuse. Raises `QueryError` for what has no form.
    """
    try:
        return to_json(value, fallback=_unwrapped).decode()
    except PydanticSerializationError as error:
        raise QueryError(
            "a parameter has no JSON form: it holds an object of an unknown type, bytes or text that is not UTF-8, "
            "or itself; turn it into dicts, lists and plain values first"
        ) from error


def encode_duration(value: timedelta) -> str:
    """Return ISO 8601, exact to the microsecond: `P1DT2.000003S`, `-P1DT0.000000S`. pydantic reads it back equal."""
    size = abs(value)
    sign = "-" if value < timedelta(0) else ""
    return f"{sign}P{size.days}DT{size.seconds}.{size.microseconds:06}S"


def plain(value: Any) -> Any:
    """Return what is sent for `value`: the value of an enum member, everything else as it is."""
    while isinstance(value, Enum):
        value = value.value
    return value


def is_large(value: Any) -> bool:
    """Say whether a value, or that of an enum member, is an int beyond 64 bits, which no driver sends."""
    value = plain(value)
    return isinstance(value, int) and not INT_MIN <= value <= INT_MAX
