"""Which of several statements it was that failed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from dbcore.errors import DbError, QueryError

__all__ = ["blaming"]


@contextmanager
def blaming(
    statements: Sequence[tuple[str, Sequence[Any]]],
    done: Callable[[], int],
    to_error: Callable[[BaseException], DbError | None],
) -> Generator[None, None, None]:
    """Put the text of the statement that failed into `sql` of its error: what `batch` of a driver has to do.

    `done` says how many have succeeded; the next one is to blame, and none where all had. `to_error` is the driver's.
    """
    try:
        yield
    except Exception as error:
        failure = error if isinstance(error, DbError) else to_error(error)
        if not isinstance(failure, QueryError):
            raise
        if (place := done()) < len(statements):
            failure.sql = statements[place][0]
        if failure is error:
            raise
        raise failure from error
