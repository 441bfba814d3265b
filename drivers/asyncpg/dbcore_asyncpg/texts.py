"""What has to be known of a statement from its text before it is sent."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from dbcore.driver import Syntax
from dbcore.errors import QueryError
from dbcore.statements import reader

__all__ = ["SYNTAX", "Text", "check_script", "read"]

SYNTAX = Syntax(placeholder="$1", nested_comments=True, dollar_quotes=True, escape_strings=True)

_words = reader(SYNTAX).words
_TEXTS = 512
_LONGEST = 65_536
"""A longer text is hardly sent twice, and would fill the memory."""

_CHANGING = frozenset({"INSERT", "UPDATE", "DELETE"})
# Statements that have neither parameters nor rows: sent as they are, in one trip, and not kept prepared.
_PLAIN = frozenset(
    {
        "ABORT", "ALTER", "BEGIN", "CLOSE", "COMMIT", "CREATE", "DEALLOCATE", "DISCARD", "DO", "DROP", "END", "GRANT",
        "LISTEN", "LOCK", "NOTIFY", "PREPARE", "RELEASE", "RESET", "REVOKE", "ROLLBACK", "SAVEPOINT", "SET", "START",
        "TRUNCATE", "UNLISTEN", "VACUUM",
    }
)  # fmt: skip
# Statements that change the session by their first word, and what does it anywhere else in a text.
_FIRST = frozenset(
    {
        "CLOSE", "DEALLOCATE", "DECLARE", "DISCARD", "DO", "IMPORT", "LISTEN", "LOAD", "PREPARE", "RESET", "SET",
        "UNLISTEN",
    }
)  # fmt: skip
_ANYWHERE = frozenset(
    {
        "DBLINK_CONNECT", "PG_ADVISORY_LOCK", "PG_ADVISORY_LOCK_SHARED", "PG_TEMP", "PG_TRY_ADVISORY_LOCK",
        "PG_TRY_ADVISORY_LOCK_SHARED", "SET_CONFIG", "TEMP", "TEMPORARY",
    }
)  # fmt: skip
# What changes the session in what names mean: another schema is searched first, a temporary table is in front.
_RENAMING = frozenset({"AUTHORIZATION", "PG_TEMP", "ROLE", "SCHEMA", "SEARCH_PATH", "TEMP", "TEMPORARY"})
_MAY_RENAME = frozenset({"DISCARD", "DO"})
_SET_CONFIG = re.compile(r"set_config(?!\s*\(\s*'(?!search_path|role|session_authorization)[\w.]+'\s*,)", re.IGNORECASE)
"""One that names no setting, or one of those."""
_ENDING = frozenset({"ABORT", "COMMIT", "END", "ROLLBACK"})
_ALTERING = frozenset({"ALTER", "CREATE", "DROP"})


@dataclass(frozen=True, slots=True)
class Text:
    """One statement, as far as the driver needs to know it."""

    plain: bool
    changes_session: bool
    alters: bool
    """It may change the type of a column: what is prepared would go on to read and write the old one."""
    renames: bool
    """It changes, for the session or its transaction, which tables, functions and types names mean."""
    ends_transaction: bool
    """Or goes back to a savepoint: what was altered in it may be as it was."""
    counting: str | None
    """The statement with a row in its result for each row that it changed; `None` where that cannot be had."""


def read(sql: str) -> Text:
    """Read one statement. Raises `QueryError` for what asyncpg would break its connection with."""
    return _remembered(sql) if len(sql) <= _LONGEST else _read(sql)


def _read(sql: str) -> Text:
    _check(sql)
    words = _words(sql)
    first = words[0] if words else ""
    if first == "COPY":
        # asyncpg waits for ever for the end of one.
        raise QueryError("COPY cannot be run as a statement; use insert_many, or a copy_... method of the connection")
    changes_session = first in _FIRST or not _ANYWHERE.isdisjoint(words)
    return Text(
        plain=first in _PLAIN,
        changes_session=changes_session,
        alters=first in _ALTERING,
        renames=changes_session and _renames(sql, first, words),
        ends_transaction=first in _ENDING,
        counting=_counting(sql, first, words),
    )


_remembered = lru_cache(maxsize=_TEXTS)(_read)


def _renames(sql: str, first: str, words: tuple[str, ...]) -> bool:
    return (
        first in _MAY_RENAME
        or not _RENAMING.isdisjoint(words)
        or (first == "RESET" and "ALL" in words)
        or _SET_CONFIG.search(sql) is not None
    )


def _counting(sql: str, first: str, words: tuple[str, ...]) -> str | None:
    if first not in _CHANGING:
        return None
    if "RETURNING" in words:
        # In a subordinate WITH, say, or a name: only the server can tell.
        return None
    # Behind a semicolon nothing can be added, and where it ends a comment it is no matter.
    return None if ";" in sql else f"{sql}\nRETURNING 1"


def check_script(sql: str) -> None:
    """Raise `QueryError` for a script that asyncpg would break its connection with."""
    _check(sql)
    words = _words(sql)
    if "COPY" in words and not {"STDIN", "STDOUT"}.isdisjoint(words):
        raise QueryError("COPY FROM STDIN and TO STDOUT cannot be part of a script; use insert_many")


def _check(sql: str) -> None:
    if "\0" in sql:
        raise QueryError("the text of the statement has a NUL character in it")
    try:
        sql.encode()
    except UnicodeEncodeError as error:
        raise QueryError("the text of the statement holds a lone surrogate, which UTF-8 has no form for") from error
