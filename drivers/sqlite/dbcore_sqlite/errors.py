"""From what `sqlite3` raises to the errors of dbcore: by SQLite's result code, never by text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping

from dbcore.errors import (
    ConflictError,
    ConstraintError,
    ConstraintKind,
    DbConnectionError,
    DbError,
    QueryError,
)

__all__ = ["breaks_connection", "code_of", "is_busy", "name_of", "to_error"]

_KINDS: Mapping[int, ConstraintKind] = {
    sqlite3.SQLITE_CONSTRAINT_UNIQUE: "unique",
    sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY: "unique",
    sqlite3.SQLITE_CONSTRAINT_ROWID: "unique",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "foreign_key",
    sqlite3.SQLITE_CONSTRAINT_NOTNULL: "not_null",
}
"""Everything else (checks, triggers, types of a STRICT table) is a `check`."""

_CONSTRAINT_DATATYPE = 3091
"""A value of the wrong type for a STRICT table; the module has no name for it."""

_WAITABLE = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_RECOVERY})
"""Somebody else has a lock that will be given back. BUSY_SNAPSHOT is not among them: no waiting cures it."""

_CONFLICTS = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})
_LOST = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CANTOPEN})

_COLUMNS = re.compile(r"constraint failed: (?P<columns>[^:]*\..*)", re.DOTALL)
_INDEX = re.compile(r"constraint failed: index '(?P<name>.*)'", re.DOTALL)
_CHECK = re.compile(r"CHECK constraint failed: (?P<name>.*)", re.DOTALL)
_STRICT = re.compile(r"cannot store \w+ value in \w+ column (?P<columns>.*)", re.DOTALL)


def code_of(error: BaseException) -> int:
    """Return the extended result code, or 0 for an error that did not come from SQLite itself."""
    code: int = getattr(error, "sqlite_errorcode", 0)  # absent where the module raised by itself
    return code


def name_of(error: BaseException) -> str:
    """Return the name of the result code, such as `SQLITE_BUSY`, or of the class."""
    name: str = getattr(error, "sqlite_errorname", type(error).__name__)  # as above
    return f"SQLite's code {code_of(error)}" if name == "unknown" else name  # newer than the module's list


def is_busy(error: BaseException) -> bool:
    """Say whether the same statement may succeed when the holder of a lock, in another process, lets go of it."""
    return code_of(error) in _WAITABLE


def breaks_connection(error: BaseException) -> bool:
    """Say whether the connection should not be used again."""
    code = code_of(error)
    return code & 0xFF in (_LOST | {sqlite3.SQLITE_IOERR}) or code == sqlite3.SQLITE_READONLY_DBMOVED


def to_error(error: BaseException) -> DbError | None:
    """Turn an error of `sqlite3`, or one that it lets through, into ours; `None` for any other."""
    match error:
        case sqlite3.Error() | sqlite3.Warning():
            return _from_sqlite(error)
        case OverflowError():
            return QueryError("an int does not fit into 64 bits; send it as Decimal or str")
        case BufferError():
            return QueryError("a parameter is a memoryview of bytes that are apart; send bytes(value)")
        case UnicodeEncodeError():
            return QueryError(
                "a text holds a lone surrogate (half of a character), which UTF-8 cannot carry; "
                "send bytes, or clean it: text.encode('utf-8', 'replace').decode()"
            )
        case _:
            return None


def _from_sqlite(error: Exception) -> DbError:
    code = code_of(error)
    primary = code & 0xFF
    text = f"{error} ({name_of(error)})"
    if primary == sqlite3.SQLITE_CONSTRAINT:
        return _constraint(error, code)
    if code == sqlite3.SQLITE_BUSY_SNAPSHOT:
        return ConflictError(
            "the transaction began by reading, and another writer committed before it wrote (SQLITE_BUSY_SNAPSHOT); "
            "run it again, and begin it with BEGIN IMMEDIATE, as transaction() does",
            retryable=True,
        )
    if primary in _CONFLICTS:
        return ConflictError(
            f"{text}: somebody else, such as another process, holds a lock; run the whole transaction again, "
            "or raise busy_timeout",
            retryable=True,
        )
    if code == sqlite3.SQLITE_READONLY_DBMOVED:
        return DbConnectionError(f"{text}: the database file was moved or deleted while it was open", retryable=True)
    if primary == sqlite3.SQLITE_CANTOPEN:
        return DbConnectionError(
            f"{text}: the database file, or one beside it, could not be opened; most often the process has no file "
            "descriptor left (raise ulimit -n, or lower pool.max_size), else a file or its permissions have changed",
            retryable=True,
        )
    if primary in _LOST:
        return DbConnectionError(f"{text}: the database file cannot be read; restore it from a backup, or correct path")
    if primary == sqlite3.SQLITE_INTERRUPT:
        return QueryError("the statement was interrupted (SQLITE_INTERRUPT)")
    if primary == sqlite3.SQLITE_FULL:
        return QueryError(f"{text}: no room is left on the disk, or within max_page_count; make some and try again")
    if primary == sqlite3.SQLITE_IOERR:
        return QueryError(
            f"{text}: the disk is full, failing or away, or the file outgrew a limit of the system; see to that, and "
            "run the whole transaction again"
        )
    if primary == sqlite3.SQLITE_READONLY:
        return QueryError(f"{text}: the transaction, the file or the setting read_only allows no writing")
    return QueryError(text)


def _constraint(error: Exception, code: int) -> ConstraintError:
    """Build the error from its fields alone: what a trigger says, for one, may hold values."""
    said = str(error)
    kind = _KINDS.get(code, "check")
    table: str | None = None
    columns: list[str] = []
    constraint: str | None = None
    if code == sqlite3.SQLITE_CONSTRAINT_CHECK:
        found = _CHECK.fullmatch(said)
        constraint = found["name"] if found else None
    elif code == _CONSTRAINT_DATATYPE:
        found = _STRICT.fullmatch(said)
        table, columns = _table_and_columns(found["columns"]) if found else (None, [])
    elif kind == "unique" or kind == "not_null":
        index = _INDEX.search(said)
        found = _COLUMNS.search(said)
        if index:
            constraint = index["name"]
        elif found:
            table, columns = _table_and_columns(found["columns"])
    where = f" on {table}" if table else ""
    which = f" ({', '.join(columns)})" if columns else f" {constraint}" if constraint else ""
    word = {"unique": "unique", "foreign_key": "foreign key", "not_null": "not null"}.get(kind, "check")
    return ConstraintError(
        f"{word} constraint failed{where}{which} ({name_of(error)})",
        kind=kind,
        constraint=constraint,
        table=table,
        columns=columns,
    )


def _table_and_columns(text: str) -> tuple[str | None, list[str]]:
    """Read `users.email, users.name`."""
    pairs = [part.rpartition(".") for part in text.split(", ")]
    return pairs[0][0] or None, [column for _, _, column in pairs]
