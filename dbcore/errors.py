"""Every error that dbcore raises. One root, `DbError`; kinds are told apart by class and code, never by text.

`str`, `repr` and `args` of each hold no secret of the config, and no parameter that dbcore puts there; what SQL of the
user's own puts into a message (a RAISE, a function that complains of its argument) may show. What the database library
itself said, values and all, is the `__cause__`. All of them pickle (the cause stays behind, as Python has it).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from dbcore.stats import Holder, Stats

__all__ = [
    "ConfigError",
    "ConflictError",
    "ConstraintError",
    "ConstraintKind",
    "DbConnectionError",
    "DbError",
    "DecodeError",
    "NotFound",
    "PoolClosed",
    "PoolDeadlock",
    "PoolError",
    "PoolExhausted",
    "PoolTimeout",
    "Problem",
    "QueryError",
    "QueryTimeout",
    "TimeoutReason",
    "TooManyRows",
    "TransactionError",
    "UnsupportedError",
    "UsageError",
    "twin",
]

E = TypeVar("E", bound=BaseException)

ConstraintKind = Literal["unique", "foreign_key", "not_null", "check", "exclusion"]
TimeoutReason = Literal["exhausted", "connecting", "connect_failing", "writers"]


def twin(error: E) -> E:
    """Return a copy of an error for one more task: an instance that several tasks raise collects all their tracebacks.

    A class whose constructor takes other arguments than it passes on cannot be copied; its constructor is left out.
    """
    try:
        made = copy.copy(error)
    except Exception:
        made = type(error).__new__(type(error), *error.args)
        made.args = error.args
        made.__dict__.update(error.__dict__)
    made.__cause__ = error.__cause__
    return made


class DbError(Exception):
    """Root of everything that dbcore raises on purpose."""

    driver: str | None
    """Name of the driver; set by the core."""
    retryable: bool
    """Nothing was done and the same work may succeed when it is done again, whole."""
    outcome_unknown: bool
    """The work may or may not have been done: the connection was lost while a COMMIT, or a statement that commits
    itself, was on its way; or its timeout came too late to end it."""
    sqlstate: str | None
    """Five-character code of the server, where there is one."""

    def __init__(
        self,
        message: str = "",
        *,
        driver: str | None = None,
        retryable: bool = False,
        outcome_unknown: bool = False,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.driver = driver
        self.retryable = retryable
        self.outcome_unknown = outcome_unknown
        self.sqlstate = sqlstate

    @property
    def message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def __str__(self) -> str:
        return self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a config."""

    where: str
    """The place: file and key, such as `db.toml: connections.main.pool.max_size`."""
    what: str
    cure: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.cure}"


class ConfigError(DbError, ValueError):
    """The config is wrong. `problems` has all that is wrong with it, each with its place and its cure."""

    problems: tuple[Problem, ...]

    def __init__(self, message: str = "", problems: Sequence[Problem] = (), *, driver: str | None = None) -> None:
        self.problems = tuple(problems)
        if not message:
            count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
            message = "\n".join([f"{count} in the database config", *(f"  {p}" for p in self.problems)])
        super().__init__(message, driver=driver)


class UsageError(DbError, RuntimeError):
    """The library was used in a way that cannot work; the text says how to do it instead."""


class UnsupportedError(DbError):
    """This driver cannot do what was asked for."""


class DbConnectionError(DbError, ConnectionError):
    """No connection could be made, or the one in use was lost.

    `retryable` tells a failure that may pass (server restarting, too many clients) from one that will not by itself
    (wrong password, no such database).
    """


class PoolError(DbError):
    """The pool gave no connection: one `except` for "busy, try later"."""


class PoolTimeout(PoolError, TimeoutError):
    """No connection became free in time.

    `reason` is the most telling of: `exhausted` (all in use: see `holders`), `connecting` (connects were still under
    way), `connect_failing` (connects fail: see `__cause__`), `writers` (other write transactions were in front).
    """

    reason: TimeoutReason
    stats: Stats | None
    holders: tuple[Holder, ...]

    def __init__(
        self,
        message: str = "",
        *,
        reason: TimeoutReason = "exhausted",
        stats: Stats | None = None,
        holders: Sequence[Holder] = (),
        driver: str | None = None,
    ) -> None:
        super().__init__(message, driver=driver, retryable=True)
        self.reason = reason
        self.stats = stats
        self.holders = tuple(holders)


class PoolExhausted(PoolError):
    """`max_waiting` checkouts wait already; this one was turned away at once. Later there may be room."""


class PoolDeadlock(PoolError):
    """Every holder waits for a connection itself, so none would ever come back. The text names the cycle."""


class PoolClosed(PoolError):
    """The pool was stopped."""


class QueryError(DbError):
    """A statement failed. `sql` is its text; parameters are never kept."""

    sql: str | None

    def __init__(
        self,
        message: str = "",
        *,
        sql: str | None = None,
        driver: str | None = None,
        retryable: bool = False,
        outcome_unknown: bool = False,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(
            message, driver=driver, retryable=retryable, outcome_unknown=outcome_unknown, sqlstate=sqlstate
        )
        self.sql = sql


class QueryTimeout(QueryError, TimeoutError):
    """The statement took longer than it was allowed; its work was ended at the database too.

    With `outcome_unknown` that came too late, or may have: look whether it was done.
    """


class ConstraintError(QueryError):
    """A constraint of the schema refused the data."""

    kind: ConstraintKind
    constraint: str | None
    table: str | None
    columns: tuple[str, ...]

    def __init__(
        self,
        message: str = "",
        *,
        kind: ConstraintKind = "check",
        constraint: str | None = None,
        table: str | None = None,
        columns: Sequence[str] = (),
        sql: str | None = None,
        driver: str | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message, sql=sql, driver=driver, sqlstate=sqlstate)
        self.kind = kind
        self.constraint = constraint
        self.table = table
        self.columns = tuple(columns)


class ConflictError(QueryError):
    """Deadlock, serialization failure or a locked database: `retryable`, whole transaction at a time."""


class TransactionError(QueryError):
    """The transaction could not be committed, because an error had ended or doomed it before."""


class NotFound(QueryError):
    """One row was asked for and none came."""


class TooManyRows(QueryError):
    """One row was asked for and more came."""


class DecodeError(QueryError):
    """A row does not fit the type asked for with `into`; the text names row and field."""
