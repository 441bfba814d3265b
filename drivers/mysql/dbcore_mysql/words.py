"""What a statement does, as far as its words tell: to the session, and to the transaction that it stands in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from dbcore.driver import Syntax
from dbcore.statements import reader

__all__ = ["SYNTAX", "Kind", "look"]

SYNTAX = Syntax(placeholder="%s", backslash_strings=True, hash_comments=True, double_quote_strings=True)

_words = reader(SYNTAX).words
_RUN_COMMENT = re.compile(r"/\*M?![0-9]*")
_LONGEST = 4096

_COMMITS = frozenset(
    [
        "ALTER",
        "ANALYZE",
        "CACHE",
        "CHANGE",
        "CHECK",
        "CREATE",
        "DROP",
        "FLUSH",
        "GRANT",
        "INSTALL",
        "LOCK",
        "OPTIMIZE",
        "PURGE",
        "RENAME",
        "REPAIR",
        "RESET",
        "RESTART",
        "REVOKE",
        "SHUTDOWN",
        "STOP",
        "TRUNCATE",
        "UNINSTALL",
        "UNLOCK",
    ]
)
"""First words of statements that commit the transaction in which they stand."""
_OF_ANALYZE = frozenset({"TABLE", "LOCAL", "NO_WRITE_TO_BINLOG"})
"""What follows ANALYZE where it is about a table; elsewhere it is about a statement, which it explains."""
_SESSION = frozenset(
    ["CALL", "DEALLOCATE", "EXECUTE", "FLUSH", "HANDLER", "LOCK", "PREPARE", "SET", "UNLOCK", "USE", "XA"]
)
"""First words of statements that may change the session."""
_LOCKS = frozenset({"GET_LOCK", "RELEASE_LOCK", "RELEASE_ALL_LOCKS"})
_READING = frozenset(["SQL_MODE", "NAMES", "CHARSET", "CHARACTER", "CHARACTER_SET_CLIENT", "CHARACTER_SET_RESULTS"])
"""Words of a SET after which the server would read other texts, or write them otherwise, than this driver thinks."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What one text does."""

    session: bool = False
    """It leaves, or may leave, a mark on the session."""
    database: bool = False
    """It goes to another database, which a reset of the session does not undo."""
    role: bool = False
    """It takes another role, which nothing undoes but another SET ROLE."""
    transaction: bool = False
    """It begins or ends a transaction; a ROLLBACK to a savepoint does neither."""
    unfit: str | None = None
    """Why it cannot stand in a transaction: as what it would commit that, or begin another one, unseen."""
    refused: str | None = None
    """Why it is refused anywhere."""


@lru_cache(maxsize=1024)
def _remembered(sql: str) -> Kind:
    return _look(sql)


def look(sql: str) -> Kind:
    """Look at the words of one statement; short texts are remembered."""
    return _remembered(sql) if len(sql) <= _LONGEST else _look(sql)


def _look(sql: str) -> Kind:
    # `/*!40101 SET ... */` is a comment to everybody but the server, which runs it.
    words = _words(_RUN_COMMENT.sub(" ", sql) if "/*" in sql else sql)
    if not words:
        return _PLAIN
    first, second = words[0], words[1] if len(words) > 1 else ""
    if first == "SET":
        return _set(words)
    temporary = first in ("CREATE", "DROP") and "TEMPORARY" in words[:4]
    opens = (first == "BEGIN" and second != "NOT") or (first == "START" and second == "TRANSACTION")
    ends = first in ("COMMIT", "ROLLBACK") and "TO" not in words
    commits = first in _COMMITS and not temporary and not (first == "ANALYZE" and second not in _OF_ANALYZE)
    unfit: str | None = None
    if first == "START" or commits or (first == "LOAD" and second == "INDEX"):
        unfit = f"{first} {second}".strip()
    elif opens or (ends and "CHAIN" in words):
        unfit = first
    session = (
        first in _SESSION
        or temporary
        or (first == "BEGIN" and not opens)
        or not _LOCKS.isdisjoint(words)
        or ("INTO" in words and "@" in sql)
        or ":=" in sql
    )
    if not (session or opens or ends or unfit):
        return _PLAIN
    return Kind(session=session, database=first == "USE", transaction=opens or ends or first == "XA", unfit=unfit)


_PLAIN = Kind()


def _set(words: Sequence[str]) -> Kind:
    unfit = next((f"SET {word}" for word in words[1:] if word in ("AUTOCOMMIT", "PASSWORD")), None)
    if "GLOBAL" not in words and not _READING.isdisjoint(words):
        return Kind(
            session=True,
            refused="it would change how the server reads texts, and literals with it; set sql_mode in the config, "
            "and leave the character set at utf8mb4",
        )
    return Kind(session=True, unfit=unfit, role=words[1:2] == ("ROLE",))
