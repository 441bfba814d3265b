"""From psycopg's errors to dbcore's: by SQLSTATE, never by text."""

from __future__ import annotations

import re
import struct

import psycopg
from psycopg import errors as native

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
)

__all__ = [
    "UNSENDABLE",
    "LostInFlight",
    "LostInTransaction",
    "Stale",
    "decode_failure",
    "is_stale",
    "is_transient",
    "not_a_parameter",
    "style_failure",
    "to_error",
]

UNSENDABLE = (psycopg.Error, QueryError, TypeError, AttributeError, ValueError, OverflowError, struct.error)
"""What psycopg's dumpers, and ours, raise when they are given something that they have no form for."""


_CONSTRAINTS: dict[str, ConstraintKind] = {
    "23001": "foreign_key",
    "23502": "not_null",
    "23503": "foreign_key",
    "23505": "unique",
    "23514": "check",
    "23P01": "exclusion",
}
_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
_GONE = frozenset({"57P01", "57P02", "57P03", "53300", "25P03", "57P05"})
"""The server ended the session, or let nobody in, and said so: nothing of the statement was done."""

_CURES = {
    "22P02": "a text, or a list without elements, is no value of the type wanted there; for JSON send db.Json(...)",
    "42804": "send a value of that type (for JSON db.Json(...)), or cast the placeholder",
}
"""What to do about errors of a parameter, by code."""

_STALE_PLAN = "RevalidateCachedQuery"
"""The function of the server that finds the result of a prepared statement changed by DDL; a name of its source code,
which is not translated. Its SQLSTATE (0A000) has many other meanings."""
_COPY_LINE = re.compile(r"^COPY .*?, line (\d+)(?=$|, column |: )", re.MULTILINE)


class LostInTransaction(psycopg.OperationalError):
    """The connection was lost inside of a transaction, before its COMMIT: nothing of it was done."""


class LostInFlight(psycopg.OperationalError):
    """The connection was lost while a statement that is its own transaction was under way."""


class Stale(psycopg.DatabaseError):
    """A prepared statement of ours was refused before it ran, and all that went along with it was undone."""


def is_transient(sqlstate: str | None) -> bool:
    """Say whether a connect that failed may succeed later: no answer, not ready, too many clients, out of resources."""
    return sqlstate is None or sqlstate[:2] in ("08", "53", "58") or sqlstate in ("57P01", "57P02", "57P03")


def is_stale(error: BaseException) -> bool:
    """Say whether a statement that was sent by our name for it was refused, for it was changed behind our back.

    Of one that was sent as text it says nothing: there the same code is about a name of the user's.
    """
    if isinstance(error, native.InvalidSqlStatementName):
        return error.diag.context is None  # else a function has run, and missed a name of its own
    return isinstance(error, native.FeatureNotSupported) and error.diag.source_function == _STALE_PLAN


def to_error(error: BaseException) -> DbError | None:
    """Turn what a function of this driver raised into a `DbError`; `None` for what is not psycopg's."""
    if isinstance(error, Stale):
        cause = error.__cause__
        return QueryError(
            _first_line(error), retryable=True, sqlstate=cause.sqlstate if isinstance(cause, psycopg.Error) else None
        )
    if isinstance(error, psycopg.Error):
        return _from_server(error, error.sqlstate) if error.sqlstate is not None else _from_client(error)
    if isinstance(error, UnicodeEncodeError):
        return QueryError("the text of the statement holds a lone surrogate, which UTF-8 has no form for")
    return None


def _from_client(error: psycopg.Error) -> DbError:
    """Errors that psycopg or libpq made themselves. The texts of some quote values, so only harmless ones are shown."""
    if isinstance(error, LostInTransaction):
        text = "the connection was lost inside of a transaction; nothing of it was done"
        return DbConnectionError(text, retryable=True)
    if isinstance(error, LostInFlight):
        text = "the connection was lost while a statement was under way; whether it was done is not known"
        return DbConnectionError(f"{text}: {_first_line(error)}", outcome_unknown=True)
    if isinstance(error, psycopg.DataError):
        return QueryError("a column holds a value that has no form in Python; see the cause")
    if isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError)):
        return DbConnectionError(f"the connection was lost: {_first_line(error)}")
    return QueryError(_first_line(error))


def _from_server(error: psycopg.Error, sqlstate: str) -> DbError:
    diag = error.diag
    if (kind := _CONSTRAINTS.get(sqlstate)) is not None:
        return ConstraintError(
            _constraint_text(error, sqlstate),
            kind=kind,
            constraint=diag.constraint_name,
            table=diag.table_name,
            columns=() if diag.column_name is None else (diag.column_name,),
            sqlstate=sqlstate,
        )
    row = _row(error)
    if sqlstate[:2] in ("22", "23"):
        # The server's words quote the value.
        return QueryError(f"{row}{_name(sqlstate)} ({sqlstate}){_where(error)}{_cure(sqlstate)}", sqlstate=sqlstate)
    text = f"{row}{diag.message_primary or _name(sqlstate)}{_cure(sqlstate)}"
    if sqlstate in _CONFLICTS:
        return ConflictError(f"{text}; run_transaction does the whole of it again", retryable=True, sqlstate=sqlstate)
    if sqlstate == "25P02":
        return TransactionError(f"{text}; an earlier statement of it failed: roll back", sqlstate=sqlstate)
    if sqlstate == "57014":
        cause = "its statement_timeout, or somebody, ended the statement"
        return QueryTimeout(f"{text} (the server says so: {cause})", sqlstate=sqlstate)
    if sqlstate in _GONE:
        return DbConnectionError(text, retryable=True, sqlstate=sqlstate)
    if sqlstate[:2] == "08" or diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return DbConnectionError(text, sqlstate=sqlstate)
    return QueryError(text, sqlstate=sqlstate)


def _constraint_text(error: psycopg.Error, sqlstate: str) -> str:
    diag = error.diag
    column = f" column {diag.column_name!r}" if diag.column_name else ""
    constraint = f" constraint {diag.constraint_name!r}" if diag.constraint_name else ""
    table = f" of table {diag.table_name!r}" if diag.table_name else ""
    return f"{_row(error)}{_name(sqlstate)} ({sqlstate}):{constraint}{column}{table}".rstrip(":")


def _row(error: psycopg.Error) -> str:
    """The row of a COPY that the server stopped at, to begin a text with. It says so only there, behind values."""
    found = _COPY_LINE.search(error.diag.context or "")
    return f"row {found[1]}: " if found else ""


def _where(error: psycopg.Error) -> str:
    diag = error.diag
    parts = {"column": diag.column_name, "table": diag.table_name, "type": diag.datatype_name}
    named = [f"{key} {value!r}" for key, value in parts.items() if value]
    return f": {', '.join(named)}" if named else ""


def _cure(sqlstate: str) -> str:
    return f"; {_CURES[sqlstate]}" if sqlstate in _CURES else ""


def _name(sqlstate: str) -> str:
    """The name of a code, in words: `unique violation`."""
    try:
        name = native.lookup(sqlstate).__name__
    except KeyError:
        return "error"
    return "".join(f" {char.lower()}" if char.isupper() else char for char in name).strip()


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def not_a_parameter(where: str, value: object, error: BaseException) -> QueryError:
    """Return the error for a value that cannot be sent, from what its dumper raised. It quotes nothing of the value."""
    kind = type(value).__name__
    if isinstance(error, QueryError):
        return QueryError(f"{where} (a {kind}): {error}")
    if isinstance(error, UnicodeEncodeError):
        reason = "it holds a lone surrogate (half of a character), which UTF-8 has no form for"
    elif isinstance(value, str) and "\0" in value:
        reason = "it holds a NUL character, which Postgres keeps in no text; send bytes to a bytea"
    elif isinstance(error, OverflowError):
        reason = "it is too large for its type"
    elif isinstance(error, psycopg.ProgrammingError):
        reason = "there is no Postgres type for it; send a list for an array, db.Json(...) for JSON, or a plain value"
    else:
        reason = "it holds something that its Postgres type has no form for; see the cause"
    return QueryError(f"{where} (a {kind}) cannot be sent: {reason}")


def style_failure(columns: tuple[str, ...]) -> DecodeError:
    """Return the error for texts in a form that psycopg does not read."""
    return DecodeError(
        f"a value in the columns {', '.join(columns)} is written in a style that psycopg does not read; "
        "set DateStyle to ISO and IntervalStyle to postgres for this session or role, or cast it to text"
    )


def decode_failure(columns: tuple[str, ...]) -> DecodeError:
    """Return the error for rows that psycopg cannot turn into Python: dates beyond the year 9999, infinity ..."""
    return DecodeError(
        f"a value in the columns {', '.join(columns)} is beyond what Python's type can hold (a date before year 1, "
        "after year 9999, or infinity, for example); cast it to text in the statement"
    )
