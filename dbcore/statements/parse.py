"""Reading SQL, with a memory: each text is read once for each syntax, as long as it stays in a bounded cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TypeVar

from dbcore.driver import Syntax
from dbcore.statements.scan import scan
from dbcore.statements.statement import Statement, build

__all__ = ["SqlReader", "compile_sql", "reader", "split", "words"]

T = TypeVar("T")

_TEXTS = 512
_LONGEST = 65_536
"""A longer text (a generated INSERT, a migration) is hardly sent twice, and would fill the memory."""

_OF_TRANSACTIONS = frozenset({"ABORT", "BEGIN", "COMMIT", "END", "ROLLBACK"})


class SqlReader:
    """Reads SQL of one syntax. `reader(syntax)` makes it; keep it where many texts are read, it saves the look-up."""

    __slots__ = ("calls", "compile", "words")

    calls: Callable[[str], frozenset[str]]
    """See `Scan.calls`."""
    compile: Callable[[str], Statement]
    words: Callable[[str], tuple[str, ...]]

    def __init__(self, syntax: Syntax) -> None:
        self.compile = _remember(lambda sql: build(sql, syntax))
        self.calls = _remember(lambda sql: frozenset(scan(sql, syntax).calls))
        self.words = _remember(lambda sql: tuple(scan(sql, syntax).words))


def _remember(read: Callable[[str], T]) -> Callable[[str], T]:
    cached = lru_cache(maxsize=_TEXTS)(read)

    def remembered(sql: str) -> T:
        return cached(sql) if len(sql) <= _LONGEST else read(sql)

    return remembered


@lru_cache(maxsize=32)
def reader(syntax: Syntax) -> SqlReader:
    """Return the reader for `syntax`, the same one every time."""
    return SqlReader(syntax)


def compile_sql(sql: str, syntax: Syntax) -> Statement:
    """Read one statement: find its placeholders and turn them into what the driver's library wants.

    Raises `QueryError` for more than one statement, for `$1` and `:name` in one text, for `$0`, for a gap in the
    numbers, and for a bare `?` beside our placeholders where the database would count it as one.
    """
    return reader(syntax).compile(sql)


def words(sql: str, syntax: Syntax) -> tuple[str, ...]:
    """Return the bare words of a text in order, upper case: keywords and unquoted names, function names among them.

    What stands in strings, quoted identifiers and comments is no word, nor is a placeholder or a number. The first
    one is the statement's keyword. For drivers that must know whether a text writes or changes the session; drivers
    on a hot path keep `reader(syntax).words`.
    """
    return reader(syntax).words(sql)


def transaction_word(sql: str, syntax: Syntax) -> str:
    """Return the word with which a text begins or ends a transaction; empty for all others, those of savepoints too."""
    found = words(sql, syntax)
    first = found[0] if found else ""
    if first in ("START", "PREPARE"):
        return first if "TRANSACTION" in found[:2] else ""
    return first if first in _OF_TRANSACTIONS and not (first == "ROLLBACK" and "TO" in found) else ""


def split(sql: str, syntax: Syntax) -> list[str]:
    """Cut a script into its statements, without their semicolons and the comments in between.

    A semicolon in parentheses, or in the body of a trigger or function (`BEGIN ... END`), ends no statement.
    """
    return [sql[start:end] for start, end in scan(sql, syntax).statements]
