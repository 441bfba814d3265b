"""A row is a tuple that knows its columns."""

from __future__ import annotations

import copy
import gc
import pickle

import pytest

from dbcore.statements import Row, row_shape

USER = row_shape(("id", "email", "count"))


def user() -> Row:
    return USER((1, "ada@example.org", 7))


def test_a_row_is_a_tuple() -> None:
    row = user()
    number, email, _ = row
    assert (number, email) == (1, "ada@example.org")
    assert row == (1, "ada@example.org", 7)
    assert hash(row) == hash((1, "ada@example.org", 7))
    assert row[0] == 1
    assert row[-1] == 7
    assert row[:2] == (1, "ada@example.org")
    assert len(row) == 3
    assert isinstance(row, tuple)
    assert isinstance(row, Row)
    assert min([USER((2, "", 0)), row]) is row


def test_a_column_is_reached_by_name() -> None:
    row = user()
    assert row["email"] == row.email == "ada@example.org"
    assert row.as_dict() == {"id": 1, "email": "ada@example.org", "count": 7}


def test_column_names_win_over_what_a_tuple_has() -> None:
    row = row_shape(("count", "index"))((1, 2))
    assert (row.count, row.index) == (1, 2)
    assert row_shape(("a",))((5,)).count(5) == 1


def test_names_that_are_no_attributes_are_reached_by_item() -> None:
    names = ("count(*)", "as_dict", "__class__", "__len__", "", "größe", "class", "_x")
    row = row_shape(names)(range(len(names)))
    assert [row[name] for name in names] == list(range(len(names)))
    assert row.as_dict() == dict(zip(names, range(len(names)), strict=True))
    assert type(row).__mro__[1] is Row
    assert row.größe == 5
    assert row._x == 7


def test_of_several_columns_with_one_name_the_last_one_has_it() -> None:
    row = row_shape(("id", "name", "id"))((1, "x", 2))
    assert row["id"] == row.id == 2
    assert row.as_dict() == {"id": 2, "name": "x"}
    assert tuple(row) == (1, "x", 2)


def test_an_unknown_column_is_an_error_that_names_the_columns() -> None:
    row = user()
    with pytest.raises(KeyError, match="no column emial; the row has: id, email, count"):
        row["emial"]
    with pytest.raises(AttributeError, match="no column emial; the row has: id, email, count"):
        row.emial  # noqa: B018 (reading it is the test)
    with pytest.raises(IndexError):
        row[3]


def test_a_row_cannot_be_changed() -> None:
    row = user()
    with pytest.raises(AttributeError):
        setattr(row, "email", "x")  # noqa: B010 (a type checker refuses the plain form, as it should)
    with pytest.raises(AttributeError):
        setattr(row, "other", "x")  # noqa: B010 (a type checker refuses the plain form, as it should)


def test_a_row_survives_pickle_and_copy() -> None:
    row = row_shape(("id", "count(*)", "tags"))((1, 2, ["a"]))
    for other in (pickle.loads(pickle.dumps(row)), copy.copy(row), copy.deepcopy(row)):
        assert other == row
        assert type(other) is type(row)
    assert copy.deepcopy(row).tags is not row.tags


def test_a_row_shows_its_columns() -> None:
    assert repr(user()) == "Row(id=1, email='ada@example.org', count=7)"
    assert repr(row_shape(())(())) == "Row()"


@pytest.mark.parametrize("width", [1, 15, 16, 17, 31, 32, 33, 1000])
def test_a_result_may_have_any_number_of_columns(width: int) -> None:
    names = tuple(f"c{number}" for number in range(width))
    row = row_shape(names)(range(width))
    assert [getattr(row, name) for name in names] == list(range(width))


def test_a_shape_is_whole_whenever_garbage_is_collected() -> None:
    columns = tuple(f"c{place}" for place in range(2000))  # so wide that nothing of it has been made before
    usual = gc.get_threshold()
    gc.set_threshold(1)
    try:
        row = row_shape(columns)(range(2000))
    finally:
        gc.set_threshold(*usual)
    assert row.c1999 == 1999


def test_one_class_serves_every_result_of_a_shape() -> None:
    assert row_shape(("id", "email", "size")) is row_shape(("id", "email", "size"))
