"""From asyncpg's errors to dbcore's: by SQLSTATE and class, never by text."""

from __future__ import annotations

import re

from asyncpg import exceptions as native

from dbcore.errors import (
    ConflictError,
    ConstraintError,
    ConstraintKind,
    DbConnectionError,
    DbError,
    DecodeError,
    QueryError,
    QueryTimeout,
    TransactionError,
    UsageError,
)

__all__ = ["GONE", "STALE", "decode_failure", "from_server", "is_transient", "server_error", "to_error"]

_CONSTRAINTS: dict[str, ConstraintKind] = {
    "23001": "foreign_key",
    "23502": "not_null",
    "23503": "foreign_key",
    "23505": "unique",
    "23514": "check",
    "23P01": "exclusion",
}
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
GONE = frozenset({"57P01", "57P02", "57P03", "53300", "25P03", "57P05"})
"""The server ended the session, or let nobody in, and said so: nothing of the statement was done."""

STALE = (native.InvalidCachedStatementError, native.InvalidSQLStatementNameError)
"""A prepared statement failed because it, or what it stands on, was changed behind our back."""

_ARGUMENT = re.compile(r"query argument \$(\d+)(?: in element #(\d+) )?")
"""Where asyncpg says which parameter it could not encode; the only place that has it."""
_COPY_LINE = re.compile(r"^COPY .*?, line (\d+)(?=$|, column |: )", re.MULTILINE)


def is_transient(sqlstate: str | None) -> bool:
    """Say whether a connect that failed may succeed later: no answer, not ready, too many clients, out of resources."""
    return sqlstate is None or sqlstate[:2] in ("08", "53", "58") or sqlstate in ("57P01", "57P02", "57P03")


def from_server(error: BaseException | None) -> bool:
    """Say whether the server sent this error. asyncpg raises some of the same classes for what it finds itself."""
    return isinstance(error, native.PostgresError) and getattr(error, "severity", None) is not None


def server_error(error: BaseException) -> native.PostgresError | None:
    """Return what the server said, where it ended the session: asyncpg keeps it as the cause."""
    for each in (error, error.__cause__):
        if isinstance(each, native.PostgresError) and from_server(each):
            return each
    return None


def to_error(error: BaseException) -> DbError | None:
    """Turn what a function of this driver raised into a `DbError`; `None` for what is not asyncpg's."""
    if isinstance(error, native.PostgresError):
        if from_server(error):
            return _from_server(error)
        if isinstance(error, native.PostgresConnectionError):
            return DbConnectionError("the connection was lost", sqlstate=error.sqlstate)
        return _unsendable(error)
    if isinstance(error, native.OutdatedSchemaCacheError):
        return QueryError("a type of the result was changed meanwhile; the statement was done, its rows are not read")
    if isinstance(error, native.UnsupportedClientFeatureError):
        return _unsendable(error)
    if isinstance(error, native.InterfaceError):
        return UsageError(f"asyncpg refuses this: {_first_line(error)}")
    if isinstance(error, native.InternalClientError):
        return QueryError("asyncpg could not carry this out; see the cause")
    return None


def _unsendable(error: BaseException) -> QueryError:
    """The error for a parameter that asyncpg could not encode. Its words quote the value."""
    found = _ARGUMENT.search(str(error))
    where = "a parameter" if found is None else f"parameter {found[1]}"
    if found is not None and found[2] is not None:
        where = f"row {int(found[2]) + 1}: {where}"
    kind = type(error.__cause__)
    if kind is UnicodeEncodeError:
        reason = "it holds a lone surrogate (half of a character), which UTF-8 has no form for"
    elif kind is OverflowError:
        reason = "it is too large for the type that the server wants there"
    elif isinstance(error.__cause__, QueryError):
        reason = str(error.__cause__)
    else:
        reason = "it is not of the Python type that goes with the type that the server wants there"
    return QueryError(f"{where} cannot be sent: {reason}")


def _from_server(error: native.PostgresError) -> DbError:
    sqlstate = error.sqlstate or ""
    if (kind := _CONSTRAINTS.get(sqlstate)) is not None:
        return ConstraintError(
            _constraint_text(error),
            kind=kind,
            constraint=error.constraint_name,
            table=error.table_name,
            columns=() if error.column_name is None else (error.column_name,),
            sqlstate=sqlstate,
        )
    row = _row(error)
    if sqlstate[:2] in ("22", "23"):
        # The server's words quote the value.
        return QueryError(f"{row}{_name(error)} ({sqlstate}){_where(error)}", sqlstate=sqlstate)
    text = row + (str(error.args[0]) if error.args else _name(error))
    if sqlstate in _CONFLICTS:
        return ConflictError(f"{text}; run_transaction does the whole of it again", retryable=True, sqlstate=sqlstate)
    if sqlstate == "25P02":
        return TransactionError(f"{text}; an earlier statement of it failed: roll back", sqlstate=sqlstate)
    if sqlstate == "57014":
        cause = "its statement_timeout, or somebody, ended the statement"
        return QueryTimeout(f"{text} (the server says so: {cause})", sqlstate=sqlstate)
    if sqlstate in GONE:
        return DbConnectionError(text, retryable=True, sqlstate=sqlstate)
    if sqlstate[:2] == "08" or error.severity_en in ("FATAL", "PANIC"):
        return DbConnectionError(text, sqlstate=sqlstate)
    return QueryError(text, retryable=isinstance(error, STALE), sqlstate=sqlstate)


def _constraint_text(error: native.PostgresError) -> str:
    column = f" column {error.column_name!r}" if error.column_name else ""
    constraint = f" constraint {error.constraint_name!r}" if error.constraint_name else ""
    table = f" of table {error.table_name!r}" if error.table_name else ""
    return f"{_row(error)}{_name(error)} ({error.sqlstate}):{constraint}{column}{table}".rstrip(":")


def _row(error: native.PostgresError) -> str:
    """The row of a COPY that the server stopped at, to begin a text with. It says so only there, behind values."""
    found = _COPY_LINE.search(error.context or "")
    return f"row {found[1]}: " if found else ""


def _where(error: native.PostgresError) -> str:
    parts = {"column": error.column_name, "table": error.table_name, "type": error.data_type_name}
    named = [f"{key} {value!r}" for key, value in parts.items() if value]
    return f": {', '.join(named)}" if named else ""


def _name(error: native.PostgresError) -> str:
    """The name of a code, in words: `unique violation`."""
    name = type(error).__name__.removesuffix("Error")
    return "".join(f" {char.lower()}" if char.isupper() else char for char in name).strip()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def decode_failure(columns: tuple[str, ...]) -> DecodeError:
    """Return the error for rows that asyncpg cannot turn into Python: dates beyond the year 9999 ..."""
    return DecodeError(
        f"a value in the columns {', '.join(columns)} is beyond what Python's type can hold (a date before year 1 or "
        "after year 9999, for example); cast it to text in the statement"
    )
