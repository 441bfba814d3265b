"""What a statement does, as far as its words tell: whether it writes, and whether it changes the session."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

from dbcore.driver import Syntax
from dbcore.statements.parse import reader

__all__ = ["RESTORED_PRAGMAS", "SYNTAX", "Kind", "is_write", "look"]

SYNTAX = Syntax(placeholder="?", bracket_identifiers=True)

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

_READING = frozenset(
    "collation_list compile_options data_version database_list foreign_key_check foreign_key_list freelist_count "
    "function_list index_info index_list index_xinfo integrity_check module_list page_count pragma_list quick_check "
    "table_info table_list table_xinfo".upper().split()
)
"""Pragmas that only read; what stands behind them says of what."""

_OF_THE_FILE = frozenset(
    "application_id auto_vacuum default_cache_size page_size schema_version user_version".upper().split()
)
"""Pragmas that write into the file when a value is given, and nothing else: they leave the session as it was."""

_ACTING = frozenset({"INCREMENTAL_VACUUM", "OPTIMIZE", "WAL_CHECKPOINT"})
"""Pragmas that write into the file with or without a value."""

_GAP = r"(?>[\s\ufeff]|--[^\n]*+|/\*.*?(?:\*/|\Z))*+"
_NAME = r"""(?>"(?:[^"]|"")*+"|'(?:[^']|'')*+'|`[^`]*+`|\[[^\]]*+\]|[\w$]++)"""
_PRAGMA = re.compile(
    rf"(?:{_GAP};)*+{_GAP}(?:EXPLAIN{_GAP}(?:QUERY{_GAP}PLAN{_GAP})?)?"
    rf"PRAGMA{_GAP}(?:{_NAME}{_GAP}\.{_GAP})?(?P<name>{_NAME}){_GAP}(?P<value>[=(])?",
    re.IGNORECASE | re.DOTALL,
)
"""`PRAGMA schema.name = value`, `PRAGMA name(value)`. SQLite runs many of them even behind EXPLAIN."""

_QUOTED_TEMP = re.compile(rf"""["'`\[]temp["'`\]]{_GAP}\.""", re.IGNORECASE | re.DOTALL)

_MAINTAINS = re.compile(rf"""\bpragma_optimize\b|\boptimize["'`\]]?{_GAP}\(""", re.IGNORECASE | re.DOTALL)
"""What writes in the guise of a read: a function of FTS3 and FTS4, and a pragma as a table. They are looked for in all
of the text, for they may be called by a quoted name as well."""

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
    plain: bool
    """It only reads, and leaves no mark on the session."""


@lru_cache(maxsize=1024)
def _remembered(sql: str) -> Kind:
    return _look(sql)


def look(sql: str) -> Kind:
    """Look at the words of one statement; short texts are remembered."""
    return _remembered(sql) if len(sql) <= 4096 else _look(sql)


def is_write(sql: str) -> bool:
    """Say whether a statement needs the writer lane: a one-shot one passes the gate before it takes a connection."""
    return look(sql).writes


def _look(sql: str) -> Kind:
    words = _words(sql)
    first = words[0] if words else ""
    pragma = _PRAGMA.match(sql) if first == "PRAGMA" or first == "EXPLAIN" else None
    if pragma is not None:
        writes, session = _pragma(pragma["name"].strip("\"'`[]").upper(), has_value=pragma["value"] is not None)
    else:
        writes, session = _writes(first, words, sql), _session(words, sql)
    return Kind(
        first=first,
        writes=writes,
        session=session,
        ends=first in _ENDS and not (first == "ROLLBACK" and "TO" in words),
        # The library itself does not know a statement behind a byte order mark.
        many=first in _SINGLE and "RETURNING" not in words and "\ufeff" not in sql,
        plain=not writes and not session,
    )


def _pragma(name: str, *, has_value: bool) -> tuple[bool, Session]:
    if name in _ACTING:
        return True, ""
    if not has_value or name in _READING:
        return False, ""
    if name in _OF_THE_FILE:
        return True, ""
    if name in _RESTORED:
        return False, "known"
    return True, "unknown"


def _writes(first: str, words: tuple[str, ...], sql: str) -> bool:
    if first == "WITH":
        writes = not _DATA.isdisjoint(words) or ("REPLACE", "INTO") in pairwise(words)
    else:
        writes = first not in _READS
    return writes or _MAINTAINS.search(sql) is not None


def _session(words: tuple[str, ...], sql: str) -> Session:
    match words[:1]:
        case ("ATTACH" | "DETACH",):
            return "known"
        case ("CREATE",):
            # Also `CREATE TABLE temp.t`: there it is a word of its own too, unless it stands in quotes.
            return "known" if not _TEMP.isdisjoint(words[1:8]) or _QUOTED_TEMP.search(sql) else ""
        case _:
            return ""
