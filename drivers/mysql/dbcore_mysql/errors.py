"""From the server's errors to dbcore's: by number and SQLSTATE, never by text.

MySQL has the names of constraint, table and column in its messages alone, so they are read from there; the sessions
speak English. A message that may quote a value is not shown: shown are those that are known to name things only. Since
parameters are in the text as literals, a syntax error is shown as far as the text that the caller wrote goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dbcore.errors import (
    ConflictError,
    ConstraintError,
    ConstraintKind,
    DbConnectionError,
    DbError,
    QueryError,
    QueryTimeout,
)
from dbcore_mysql.library import MySQLError

__all__ = [
    "INTERRUPTED",
    "explain",
    "is_end_of_session",
    "is_read_only_server",
    "is_transient",
    "number_of",
    "sqlstate_of",
    "to_error",
]

INTERRUPTED = 1317

_CONSTRAINTS: Mapping[int, ConstraintKind] = {
    **dict.fromkeys((1022, 1062, 1169, 1586, 1761, 1762), "unique"),
    **dict.fromkeys((1216, 1217, 1451, 1452), "foreign_key"),
    **dict.fromkeys((1048, 1263, 1364), "not_null"),
    **dict.fromkeys((3819, 4025), "check"),
}
_CONFLICTS = frozenset({1020, 1205, 1213, 1613, 1614, 3058, 3101, 3572})
"""Deadlock, a lock that was not given in time or at once, a row that has changed since it was read."""
_TIMEOUTS = frozenset({1969, 3024})
_END_OF_SESSION = frozenset({1053, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031})
"""Shut down, killed, idle for too long: the server says goodbye."""
_READ_ONLY_SERVER = frozenset({1290, 1836})
_TRANSIENT = frozenset({1040, 1041, 1042, 1053, 1129, 1135, 1203, 1226, 2002, 2003, 2006, 2013, 3032, 3159})
"""A connect that fails with one of these may succeed later: not reached, not ready, too many, out of resources."""

_NAMING = frozenset(
    {
        1044, 1046, 1049, 1050, 1051, 1052, 1054, 1055, 1061, 1064, 1066, 1068, 1072, 1091, 1109, 1110,
        1114, 1136, 1138, 1140, 1141, 1142, 1143, 1146, 1147, 1153, 1175, 1193, 1205, 1213, 1222, 1227,
        1235, 1241, 1242, 1248, 1264, 1290, 1305, 1317, 1318, 1327, 1336, 1363, 1369, 1370, 1406, 1419,
        1436, 1442, 1568, 1582, 1701, 1792, 1836, 1969, 3024, 3572, 3730, 3780, 4161,
    }
)  # fmt: skip
"""Numbers of messages that name columns, tables, functions and limits, and quote no value."""
_OF_SQL = "42"
"""The class of errors in the text itself: what their messages quote stands there, and a text without parameters is the
caller's own. With them it is not: a column that has no name is called after its text, literals and all."""

_NEAR = re.compile(r"use near '(?P<near>.*)' at line (?P<line>\d+)$", re.DOTALL)
_NAME = r"`(?:[^`]|``)*`"
_FOREIGN_KEY = re.compile(
    rf"\((?:{_NAME}\.)?(?P<table>{_NAME}), CONSTRAINT (?P<constraint>{_NAME}) FOREIGN KEY \((?P<columns>[^)]*)\)"
)
_KEY = re.compile(r"for key '(?:(?P<table>[^'.]*)\.)?(?P<constraint>[^']*)'$")
_FOR_COLUMN = re.compile(rf" for column (?P<column>{_NAME}(?:\.{_NAME})*|'[^']*') at row \d+$")
_COLUMN = re.compile(r"(?:Column|Field) '(?P<columns>[^']*)' ")
_CHECK_MARIADB = re.compile(rf"^CONSTRAINT (?P<constraint>{_NAME}) failed for (?:{_NAME}\.)?(?P<table>{_NAME})$")
_CHECK_MYSQL = re.compile(r"^Check constraint '(?P<constraint>[^']*)' is violated\.$")
_NAMES: Mapping[ConstraintKind, tuple[re.Pattern[str], ...]] = {
    "unique": (_KEY,),
    "foreign_key": (_FOREIGN_KEY,),
    "not_null": (_COLUMN,),
    "check": (_CHECK_MARIADB, _CHECK_MYSQL),
}


def number_of(error: BaseException) -> int:
    """Return the number of an error; 0 where it has none."""
    number: Any = error.args[0] if error.args else 0
    return number if isinstance(number, int) else 0


def sqlstate_of(error: MySQLError) -> str | None:
    """Return the code that the server sent; `None` for an error that asyncmy made itself."""
    sqlstate: Any = error.sqlstate
    return sqlstate if isinstance(sqlstate, str) else None


def _message_of(error: BaseException) -> str:
    message: Any = error.args[-1] if error.args else ""
    return message if isinstance(message, str) else ""


def is_transient(number: int) -> bool:
    """Say whether a connect that failed with this may succeed later."""
    return number in _TRANSIENT


def is_end_of_session(error: MySQLError) -> bool:
    """Say whether the server has ended the session with this, and said so."""
    return number_of(error) in _END_OF_SESSION or (sqlstate_of(error) or "").startswith("08")


def is_read_only_server(error: MySQLError) -> bool:
    """Say whether the server takes no writes: it is not the one that the pool wants."""
    return number_of(error) in _READ_ONLY_SERVER


def to_error(error: BaseException) -> DbError | None:
    """Turn an error of asyncmy's into a `DbError`; `None` for what is not asyncmy's."""
    return explain(error, None) if isinstance(error, MySQLError) else None


def explain(error: MySQLError, template: str | None) -> DbError:
    """Return what to raise for an error of the server; `template`: the text without its parameters, if it had some."""
    number, sqlstate = number_of(error), sqlstate_of(error)
    if sqlstate is None or is_end_of_session(error):
        return DbConnectionError(f"the connection was lost ({number})", sqlstate=sqlstate)
    if (kind := _CONSTRAINTS.get(number)) is not None:
        return _constraint(kind, error, number, sqlstate)
    text = _text(error, number, sqlstate, template)
    if number in _CONFLICTS or sqlstate.startswith("40"):
        return ConflictError(f"{text}; run_transaction does the whole of it again", retryable=True, sqlstate=sqlstate)
    if number in _TIMEOUTS:
        return QueryTimeout(f"{text} (the server says so: its own limit ended the statement)", sqlstate=sqlstate)
    if number == INTERRUPTED:
        return QueryError(f"{text}: somebody ended the statement, by KILL QUERY", sqlstate=sqlstate)
    return QueryError(text, sqlstate=sqlstate)


def _constraint(kind: ConstraintKind, error: MySQLError, number: int, sqlstate: str) -> ConstraintError:
    message = _message_of(error)
    found = next((match for pattern in _NAMES[kind] if (match := pattern.search(message))), None)
    names = {} if found is None else {key: _bare(value) for key, value in found.groupdict().items() if value}
    columns = tuple(_bare(column) for column in names.get("columns", "").split(",") if column)
    constraint, table = names.get("constraint"), names.get("table")
    parts = [
        f"{what} {value!r}"
        for what, value in (("constraint", constraint), ("column", ", ".join(columns)), ("table", table))
        if value
    ]
    text = f"{kind.replace('_', ' ')} violation ({number}, {sqlstate})"
    return ConstraintError(
        f"{text}: {' '.join(parts)}" if parts else text,
        kind=kind,
        constraint=constraint,
        table=table,
        columns=columns if kind == "not_null" else (),
        sqlstate=sqlstate,
    )


def _bare(name: str) -> str:
    name = name.strip()
    return name[1:-1].replace("``", "`") if name.startswith("`") and name.endswith("`") else name


def _text(error: MySQLError, number: int, sqlstate: str, template: str | None) -> str:
    code = f"({number}, {sqlstate})"
    message = _message_of(error)
    if number not in _NAMING and (template is not None or not sqlstate.startswith(_OF_SQL)):
        found = _FOR_COLUMN.search(message)
        where = "" if found is None else f" for column {found['column']}"
        return f"the server refused the statement{where} {code}; its words may hold values, see __cause__"
    if template is not None and (near := _NEAR.search(message)) is not None:
        return f"there is an error in the SQL near '{_known(near['near'], template)}' at line {near['line']} {code}"
    return f"{message} {code}"


def _known(text: str, template: str) -> str:
    """Return as much of the beginning of `text` as stands in the template."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if text[:middle] in template else (low, middle - 1)
    return text if low == len(text) else f"{text[:low]}..."
