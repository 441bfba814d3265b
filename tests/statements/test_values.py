"""Values that need an encoding on their way to a database."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from dbcore.errors import DecodeError, QueryError
from dbcore.statements import Json, JsonString, decoder, encode_duration, encode_json, plain


class Color(Enum):
    RED = "red"
    NESTED = IntEnum("Level", {"LOW": 1}).LOW  # type: ignore[attr-defined]


@given(st.timedeltas())
def test_a_duration_reads_back_equal(value: timedelta) -> None:
    assert TypeAdapter(timedelta).validate_python(encode_duration(value)) == value


@pytest.mark.parametrize("value", [timedelta.min, timedelta.max, timedelta(microseconds=-1), timedelta(0)])
def test_the_longest_and_shortest_durations_read_back_equal(value: timedelta) -> None:
    assert decoder(timedelta, ("d",))([(encode_duration(value),)]) == [value]


def test_an_enum_is_sent_as_its_value() -> None:
    assert plain(Color.RED) == "red"
    assert type(plain(Color.NESTED)) is int
    assert plain("x") == "x"


def test_a_json_is_a_frozen_value() -> None:
    value = Json({"a": [1]})
    assert value == Json({"a": [1]})
    assert value != Json({"a": [2]})
    assert value != {"a": [1]}
    assert repr(value) == "Json({'a': [1]})"
    assert hash(Json((1, 2))) == hash(Json((1, 2)))
    assert copy.deepcopy(value) == value
    assert pickle.loads(pickle.dumps(value)) == value
    with pytest.raises(AttributeError, match="immutable"):
        value.value = 1
    with pytest.raises(AttributeError, match="immutable"):
        del value.value


@dataclass
class Address:
    city: str
    since: date


def test_json_takes_what_stands_inside_of_it() -> None:
    value = {
        "at": datetime(2024, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "price": Decimal("1.10"),
        "id": UUID(int=1),
        "color": Color.RED,
        "home": Address("Köln", date(2020, 1, 1)),
        "took": timedelta(seconds=1),
        "inner": Json([1]),
        "pair": (1, 2),
        "wide": 2**70,
        5: None,
    }
    assert json.loads(encode_json(value)) == {
        "at": "2024-01-02T03:04:05.000006Z",
        "price": "1.10",
        "id": "00000000-0000-0000-0000-000000000001",
        "color": "red",
        "home": {"city": "Köln", "since": "2020-01-01"},
        "took": "PT1S",
        "inner": [1],
        "pair": [1, 2],
        "wide": 2**70,
        "5": None,
    }


@pytest.mark.parametrize(("value", "text"), [("x", '"x"'), (None, "null"), (True, "true"), ([1, 2], "[1,2]")])
def test_json_wraps_anything(value: Any, text: str) -> None:
    assert encode_json(Json(value)) == text


@pytest.mark.parametrize("value", [object(), b"\xff", "\ud800"])
def test_what_has_no_json_form_is_refused(value: Any) -> None:
    with pytest.raises(QueryError, match="no JSON form"):
        encode_json({"a": value})


def test_what_holds_itself_has_no_json_form() -> None:
    ring: list[Any] = []
    ring.append(ring)
    with pytest.raises(QueryError, match="no JSON form"):
        encode_json(ring)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)


@given(JSONS)
def test_json_text_reads_back_equal(value: Any) -> None:
    assert decoder(Json, ("j",))([(encode_json(Json(value)),)]) == [Json(value)]


@dataclass
class Document:
    id: int
    body: Json


@given(st.text())
def test_a_string_that_the_library_took_out_of_json_is_not_read_as_json_again(text: str) -> None:
    found = JsonString(text)
    (alone,) = decoder(Json, ("j",))([(found,)])
    assert alone == Json(text)
    assert type(alone.value) is str
    assert decoder(Document, ("id", "body"))([(1, found)]) == [Document(1, Json(text))]


def test_a_string_that_reads_like_an_object_is_none() -> None:
    with pytest.raises(DecodeError):
        decoder(dict[str, int], ("j",))([(JsonString('{"a": 1}'),)])
    assert decoder(dict[str, int], ("j",))([('{"a": 1}',)]) == [{"a": 1}]


def test_a_string_out_of_json_is_a_text_to_everybody_else() -> None:
    found = JsonString("red")
    assert found == "red"
    assert repr(found) == repr("red")
    assert pickle.loads(pickle.dumps(found)) == "red"
    (text,) = decoder(str, ("j",))([(found,)])
    assert type(text) is str
    assert decoder(Color, ("j",))([(found,)]) == [Color.RED]
    assert decoder(Literal["red"], ("j",))([(found,)]) == ["red"]
