"""Which of several statements an error names."""

from __future__ import annotations

import pytest

from dbcore.errors import DbConnectionError, DbError, QueryError
from dbcore.statements import blaming

STATEMENTS = [("one", ()), ("two", ()), ("three", ())]


class Native(Exception):
    """What a library raises."""


def to_error(error: BaseException) -> DbError | None:
    return QueryError("refused") if isinstance(error, Native) else None


def failed(done: int, error: Exception) -> BaseException:
    with pytest.raises((DbError, LookupError)) as caught, blaming(STATEMENTS, lambda: done, to_error):
        raise error
    return caught.value


def test_the_next_one_after_those_that_succeeded_is_to_blame() -> None:
    native = Native()
    for done, text in enumerate(["one", "two", "three"]):
        error = failed(done, native)
        assert isinstance(error, QueryError)
        assert (error.sql, error.__cause__) == (text, native)


def test_none_is_to_blame_where_all_succeeded() -> None:
    error = failed(3, Native())
    assert isinstance(error, QueryError)
    assert error.sql is None


def test_an_error_of_ours_is_raised_as_it_is() -> None:
    for own in (QueryError("formless"), DbConnectionError("lost")):
        own.__cause__ = cause = ValueError()
        assert failed(1, own) is own
        assert own.__cause__ is cause
        assert getattr(own, "sql", None) == ("two" if isinstance(own, QueryError) else None)


def test_what_is_not_the_librarys_goes_through() -> None:
    error = LookupError()
    assert failed(1, error) is error
