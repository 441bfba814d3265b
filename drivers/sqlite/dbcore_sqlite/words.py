"""What a statement does, as far as its words tell: whether it writes, and whether it changes the session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from dbcore.driver import Syntax
from dbcore.statements.parse import reader

__all__ = ["RESTORED_PRAGMAS", "SYNTAX", "Kind", "look"]

SYNTAX = Syntax(placeholder="?")

_words = reader(SYNTAX).words

_READS = frozenset({"SELECT", "VALUES", "EXPLAIN"})
_DATA = frozenset({"INSERT", "UPDATE", "DELETE"})
_SINGLE = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
_TEMP = frozenset({"TEMP", "TEMPORARY"})

_ENDS = frozenset({"BEGIN", "COMMIT", "END", "ROLLBACK"})

_RESTORED = frozenset(
    "analysis_limit automatic_index busy_timeout cache_size cache_spill cell_size_check checkpoint_fullfsync "
    "defer_foreign_keys foreign_keys fullfsync ignore_check_constraints journal_size_limit legacy_alter_table "
    "mmap_size "
    "query_only read_uncommitted recursive_triggers reverse_unordered_selects synchronous temp_store threads "
    "trusted_schema wal_autocheckpoint writable_schema".upper().split()
)
"""Pragmas of the session that can be read, and so put back."""

_OF_THE_FILE = frozenset(
    "application_id auto_vacuum data_version foreign_key_check foreign_key_list freelist_count incremental_vacuum "
    "index_info index_list index_xinfo integrity_check journal_mode optimize page_count page_size quick_check "
    "schema_version table_info table_list table_xinfo user_version wal_checkpoint".upper().split()
)
"""Pragmas that change nothing in the session, arguments or not."""

_QUOTED_TEMP = re.compile(r"""["'`\[]temp["'`\]]\s*\.""", re.IGNORECASE)

_WRITING_PRAGMAS = frozenset({"OPTIMIZE", "INCREMENTAL_VACUUM", "WAL_CHECKPOINT"})

RESTORED_PRAGMAS = tuple(sorted(name.lower() for name in _RESTORED))
"""The same, for who reads them and puts them back."""

Session = Literal["", "known", "unknown"]


@dataclass(frozen=True, slots=True)
class Kind:
    """What one text does."""

    first: str
    """Its first word, in capitals."""
    writes: bool
    """It needs the writer lane."""
    session: Session
    """It leaves a mark on the session: one that a reset can undo, or one that only a new connection is free of."""
    ends: bool
    """It begins or ends a transaction; `ROLLBACK TO` does neither."""
    many: bool
    """`executemany` takes it: one INSERT, UPDATE, DELETE or REPLACE that returns no rows."""


@lru_cache(maxsize=1024)
def _remembered(sql: str) -> Kind:
    return _look(sql)


def look(sql: str) -> Kind:
    """Look at the words of one statement; short texts are remembered."""
    return _remembered(sql) if len(sql) <= 4096 else _look(sql)


def _look(sql: str) -> Kind:
    words = _words(sql)
    first = words[0] if words else ""
    if first == "WITH":
        writes = not _DATA.isdisjoint(words) or ("REPLACE", "INTO") in pairwise(words)
    elif first == "PRAGMA":
        writes = "=" in sql or not _WRITING_PRAGMAS.isdisjoint(words)
    else:
        writes = first not in _READS
    return Kind(
        first=first,
        writes=writes,
        session=_session(words, sql),
        ends=first in _ENDS and not (first == "ROLLBACK" and "TO" in words),
        many=first in _SINGLE and "RETURNING" not in words,
    )


def _session(words: tuple[str, ...], sql: str) -> Session:
    match words[:1]:
        case ("ATTACH" | "DETACH",):
            return "known"
        case ("CREATE",):
            # Also `CREATE TABLE temp.t`: there it is a word of its own too, unless it stands in quotes.
            return "known" if not _TEMP.isdisjoint(words[1:8]) or _QUOTED_TEMP.search(sql) else ""
        case ("PRAGMA",):
            if ("=" not in sql and "(" not in sql) or not _OF_THE_FILE.isdisjoint(words[1:3]):
                return ""
            return "known" if not _RESTORED.isdisjoint(words[1:3]) else "unknown"
        case _:
            return ""
