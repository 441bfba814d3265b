"""`into`: every type, from what a database hands over decoded and from what stands for it as text or number."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, TypeVar
from uuid import UUID

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, field_validator
from typing_extensions import TypedDict

from dbcore.errors import DecodeError, UsageError
from dbcore.statements import Row, decoder, encode_duration, encode_json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class UserData:
    id: int
    email: str
    tags: list[str] = field(default_factory=list[str])


class UserModel(BaseModel):
    id: int
    email: str
    tags: list[str] = []


class UserDict(TypedDict):
    id: int
    email: str


class UserTuple(NamedTuple):
    id: int
    email: str
    tags: Sequence[str] = ()


class Level(IntEnum):
    LOW = 1


class Color(Enum):
    RED = "red"


UserId = NewType("UserId", int)


@dataclass
class Box(Generic[T]):
    value: T


COLUMNS = ("id", "email")


def one(into: Any, value: Any) -> Any:
    (decoded,) = decoder(into, ("value",))([(value,)])
    return decoded


def refusal(into: Any, columns: tuple[str, ...], rows: list[tuple[Any, ...]], first: int = 1) -> str:
    with pytest.raises(DecodeError) as caught:
        decoder(into, columns)(rows, first)
    return str(caught.value)


# -- rows ------------------------------------------------------------------------------------------------------------


def test_without_a_type_there_are_rows() -> None:
    (row,) = decoder(None, COLUMNS)([(1, "a")])
    assert row.email == "a"
    assert decoder(Row, COLUMNS)([(1, "a")]) == [row]


@pytest.mark.parametrize(
    ("into", "expected"),
    [
        (UserData, UserData(1, "a")),
        (UserModel, UserModel(id=1, email="a")),
        (UserDict, {"id": 1, "email": "a"}),
        (UserTuple, UserTuple(1, "a")),
        (Annotated[UserData, "x"], UserData(1, "a")),
        (UserData | None, UserData(1, "a")),
    ],
    ids=["dataclass", "model", "typed dict", "named tuple", "annotated", "optional"],
)
def test_a_row_type_takes_columns_by_name(into: Any, expected: Any) -> None:
    decoded = decoder(into, ("email", "other", "id"))([("a", None, "1")])
    assert decoded == [expected]
    assert type(decoded[0]) is type(expected)


def test_a_generic_row_type_takes_columns_by_name() -> None:
    assert decoder(Box[int], ("value",))([("1",)]) == [Box(1)]


def test_a_union_of_models_takes_a_row() -> None:
    class Cat(BaseModel):
        kind: Literal["cat"]
        lives: list[int]

    class Dog(BaseModel):
        kind: Literal["dog"]
        tricks: list[str]

    columns = ("kind", "lives", "tricks")
    rows = [("cat", "[9]", None), ("dog", None, '["sit"]')]
    expected = [Cat(kind="cat", lives=[9]), Dog(kind="dog", tricks=["sit"])]
    assert decoder(Cat | Dog, columns)(rows) == expected
    assert decoder(Annotated[Cat | Dog, Field(discriminator="kind")], columns)(rows) == expected


def test_of_several_columns_with_one_name_the_last_one_counts() -> None:
    assert decoder(UserData, ("id", "email", "tags", "tags"))([(1, "a", 5, '["x"]')]) == [UserData(1, "a", ["x"])]


def test_a_type_that_is_not_hashable_works() -> None:
    into = Annotated[int, ["not hashable"]]
    assert one(into, "5") == 5
    assert one(into, "6") == 6


def test_decoders_are_kept() -> None:
    assert decoder(UserData, COLUMNS) is decoder(UserData, COLUMNS)
    assert decoder(int | None, ("a",)) is decoder(int | None, ("a",))


def test_unions_that_are_equal_but_in_another_order_are_not_confused() -> None:
    assert type(one(datetime | date, "2024-01-02")) is not type(one(date | datetime, "2024-01-02"))


# -- values ----------------------------------------------------------------------------------------------------------

MOMENT = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=5, minutes=30)))
WALL = datetime(2024, 1, 2, 3, 4, 5)  # noqa: DTZ001 (naive on purpose)


@pytest.mark.parametrize(
    ("into", "text", "expected"),
    [
        (Decimal, "12345678901234567.89", Decimal("12345678901234567.89")),
        (UUID, str(UUID(int=5)), UUID(int=5)),
        (datetime, MOMENT.isoformat(), MOMENT),
        (datetime, MOMENT.astimezone(UTC).isoformat(" "), MOMENT),
        (datetime, WALL.isoformat(), WALL),
        (date, "2024-01-02", date(2024, 1, 2)),
        (time, "03:04:05.000006", time(3, 4, 5, 6)),
        (timedelta, encode_duration(timedelta(days=-1, microseconds=5)), timedelta(days=-1, microseconds=5)),
        (bool, 1, True),
        (bool, 0, False),
        (Level, 1, Level.LOW),
        (Color, "red", Color.RED),
        (float, 3, 3.0),
        (dict, '{"a": [1]}', {"a": [1]}),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (list[int], "[1, 2]", [1, 2]),
        (list, "[1, 2]", [1, 2]),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (set[int], "[1]", {1}),
        (frozenset[int], "[1]", frozenset({1})),
        (deque[int], "[1]", deque([1])),
        (Sequence[int], "[1]", [1]),
        (Mapping[str, int], '{"a": 1}', {"a": 1}),
        (dict[str, Any] | None, '{"a": 1}', {"a": 1}),
        (list[UserData], '[{"id": 1, "email": "a"}]', [UserData(1, "a")]),
        (RootModel[dict[str, int]], '{"a": 1}', RootModel[dict[str, int]]({"a": 1})),
    ],
)
def test_a_value_is_read_from_what_stands_for_it_and_as_itself(into: Any, text: Any, expected: Any) -> None:
    for raw in (text, expected):
        decoded = one(into, raw)
        assert decoded == expected
        assert type(decoded) is type(expected) or isinstance(decoded, Mapping)


@pytest.mark.parametrize("into", [int | None, list[int] | None, dict[str, Any] | None, UUID | None])
def test_null_is_none(into: Any) -> None:
    assert one(into, None) is None
    assert "row 1: Input should be" in refusal(int, ("value",), [(None,)])


def test_types_by_another_name_are_values() -> None:
    assert one(UserId, "5") == 5
    assert one(Literal["a", "b"], "b") == "b"
    assert one(Annotated[int, Field(gt=3)], 4) == 4


def test_a_text_stays_a_text_where_that_is_allowed() -> None:
    assert one(Any, '{"a": 1}') == '{"a": 1}'
    assert one(str, '{"a": 1}') == '{"a": 1}'
    assert one(str | dict[str, int], '{"a": 1}') == '{"a": 1}'


def test_infinities_are_numbers() -> None:
    assert math.isinf(one(float, math.inf))
    assert one(Decimal, "-Infinity") == Decimal("-Infinity")
    assert one(Decimal, Decimal("NaN")).is_nan()


@pytest.mark.parametrize(
    ("into", "value"),
    [(int, 3.5), (int, "3.5"), (date, MOMENT), (bool, 2), (str, 5), (UUID, "x"), (Color, "blue"), (list[int], "[1")],
)
def test_what_would_lose_something_is_refused(into: Any, value: Any) -> None:
    assert refusal(into, ("value",), [(value,)]).startswith("row 1: ")


@given(st.datetimes(timezones=st.none() | st.just(UTC) | st.timezones()))
def test_any_moment_keeps_its_wall_time_and_offset(value: datetime) -> None:
    # Not `==`, which Python answers with False between zones for an hour that comes twice or never (PEP 495).
    offset = value.utcoffset()
    assume(offset is None or not offset % timedelta(minutes=1))  # others are beyond ISO 8601
    decoded = one(datetime, value.isoformat())
    assert decoded.replace(tzinfo=None) == value.replace(tzinfo=None)
    assert decoded.utcoffset() == offset


@given(st.decimals(allow_nan=False))
def test_any_decimal_reads_back_equal_from_its_text(value: Decimal) -> None:
    assert one(Decimal, str(value)) == value


# -- JSON in columns -------------------------------------------------------------------------------------------------


class Settings(BaseModel):
    theme: str
    since: datetime


class Account(BaseModel):
    id: int
    settings: Settings | None
    tags: list[str]
    raw: Any
    note: str


def test_json_columns_are_read_from_text_and_decoded_alike() -> None:
    settings = {"theme": "dark", "since": MOMENT}
    expected = Account(id=1, settings=Settings(theme="dark", since=MOMENT), tags=["a"], raw="[1]", note="[2]")
    columns = ("id", "settings", "tags", "raw", "note")
    texts = (1, encode_json(settings), '["a"]', "[1]", "[2]")
    native = (1, settings, ["a"], "[1]", "[2]")
    decode = decoder(Account, columns)
    assert decode([native, texts, native]) == [expected] * 3
    assert decode([texts] * 2) == [expected] * 2
    assert decode([(*texts[:1], None, *texts[2:])])[0].settings is None


def test_a_column_is_known_to_hold_json_once_it_was_met() -> None:
    decode = decoder(dict[str, int], ("met",))
    assert decode([('{"a": 1}',)]) == [{"a": 1}]
    assert decode([({"b": 2},), ('{"c": 3}',)]) == [{"b": 2}, {"c": 3}]


def test_a_text_that_is_no_json_is_refused() -> None:
    said = refusal(Account, ("id", "settings", "tags", "raw", "note"), [(1, None, "a,b", None, "")])
    assert said == "row 1: field tags: Input should be a valid list (reading Account)"


def test_one_column_of_a_named_tuple_may_be_json() -> None:
    assert decoder(UserTuple, ("id", "email", "tags"))([(1, "a", '["x"]')]) == [UserTuple(1, "a", ["x"])]


# -- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_names_row_and_field_and_never_the_value() -> None:
    rows = [(1, "a"), (2, "b"), ("secret", "c")]
    with pytest.raises(DecodeError) as caught:
        decoder(UserData, COLUMNS)(rows)
    said = str(caught.value)
    assert said.startswith("row 3: field id: Input should be a valid integer")
    assert said.endswith("(reading UserData)")
    assert "secret" not in said
    assert "secret" not in str(caught.value.__cause__)
    assert "secret" not in repr(caught.value.__cause__)


def test_rows_are_counted_on_through_batches_and_streams() -> None:
    rows: list[tuple[Any, ...]] = [(number,) for number in range(2500)]
    assert decoder(int, ("id",))(rows) == list(range(2500))
    rows[2100] = ("x",)
    assert refusal(int, ("id",), rows).startswith("row 2101: ")
    assert refusal(int, ("id",), rows, 5001).startswith("row 7101: ")


def test_a_missing_column_is_told_with_those_there_are() -> None:
    assert "field email: no column of that name; the columns are id, mail" in refusal(
        UserData, ("id", "mail"), [(1, "a")]
    )


@pytest.mark.parametrize("columns", [("a", "b"), ()])
def test_a_value_type_takes_one_column(columns: tuple[str, ...]) -> None:
    with pytest.raises(DecodeError, match="into=int takes one column"):
        decoder(int, columns)


def test_no_key_of_a_dict_is_shown() -> None:
    said = refusal(dict[str, dict[str, int]], ("value",), [({"secret": {"other": "x"}},)])
    assert "secret" not in said
    assert "other" not in said


def test_fields_inside_of_json_are_shown() -> None:
    said = refusal(Account, ("id", "settings", "tags", "raw", "note"), [(1, '{"theme": 5}', [], None, "")])
    assert "field settings.theme: " in said
    assert "field settings.since: " in said


class Careless(BaseModel):
    token: str
    id: UUID

    @field_validator("token")
    @classmethod
    def check(cls, value: str) -> str:
        raise ValueError(f"bad token {value}")


def test_what_a_validator_says_is_not_shown() -> None:
    said = refusal(Careless, ("token", "id"), [("s3cr3t", "zzz")])
    assert (
        said == "row 1: field token: refused (value_error); field id: Input should be a valid UUID (reading Careless)"
    )


def test_a_type_that_cannot_be_checked_is_misuse() -> None:
    class Opaque:
        pass

    with pytest.raises(UsageError, match="cannot be checked"):
        decoder(Opaque, ("a",))


@pytest.mark.parametrize("kind", ["dataclass", "model"])
def test_a_type_whose_annotations_nobody_can_resolve_is_misuse(kind: str) -> None:
    annotations = {"a": "OnlyForATypeChecker"}
    into: Any = (
        dataclass(type("Unresolved", (), {"__annotations__": annotations}))
        if kind == "dataclass"
        else type("Unresolved", (BaseModel,), {"__annotations__": annotations, "__module__": __name__})
    )
    for _ in range(2):
        with pytest.raises(UsageError, match="cannot be checked: name 'OnlyForATypeChecker' is not defined"):
            decoder(into, ("a",))
