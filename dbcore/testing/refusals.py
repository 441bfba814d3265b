"""Texts that a sandbox does not send, by their words."""

from __future__ import annotations

from collections.abc import Callable

from dbcore.driver import Syntax
from dbcore.errors import QueryError, UsageError
from dbcore.statements import transaction_word, words

__all__ = ["refuse_ending", "refuse_writing"]

_STEERING = frozenset({"SAVEPOINT", "RELEASE", "ROLLBACK"})
_WRITES = frozenset(
    {"INSERT", "UPDATE", "DELETE", "MERGE", "REPLACE", "TRUNCATE", "CREATE", "ALTER", "DROP", "GRANT", "REVOKE"}
)


def refuse_ending(sql: str, syntax: Syntax) -> None:
    """Raise `UsageError` for a statement that would end the transaction of the sandbox, or begin another one in it."""
    word = transaction_word(sql, syntax)
    if word:
        raise UsageError(
            f"{word} as text would end the transaction of the sandbox; use transaction(), which is a savepoint "
            "there, and leave its end to its block"
        )


def refuse_writing(sql: str, syntax: Syntax, writes: Callable[[str], bool] | None) -> None:
    """Raise `QueryError` for a statement that writes, as far as its words, or the driver's `writes`, can tell."""
    found = words(sql, syntax)
    first = found[0] if found else ""
    if first in _STEERING:
        return
    by_words = first in _WRITES or (first == "WITH" and not _WRITES.isdisjoint(found))
    if by_words or (writes is not None and writes(sql)):
        raise QueryError("cannot write in a transaction that is read_only", sql=sql, sqlstate="25006")
