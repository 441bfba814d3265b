"""The statements that one connection has sent lately: what is known of each text, and which are prepared."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable

from dbcore.driver import Syntax
from dbcore.errors import QueryError
from dbcore.statements import reader

__all__ = ["COPY_REFUSED", "SYNTAX", "Key", "Prepared", "Seen", "deallocate"]

TEXT = 0

SYNTAX = Syntax(placeholder="$1", nested_comments=True, dollar_quotes=True, escape_strings=True)

COPY_REFUSED = "COPY cannot be run as a statement; use insert_many, or cursor().copy() of the native connection"

_SETS_ENCODING = re.compile(
    r"""(?:client_encoding\b["']?\s*(?:=|to\b|,)|\bset\s+(?:session\s+|local\s+)?names\b)"""
    r"(?!\s*'?(?:utf-?8|unicode|default)\b)",
    re.IGNORECASE,
)
"""Anything but UTF-8. Seen before it is sent, for what goes along behind it would be read wrongly at the server."""
_ENCODING_REFUSED = (
    "client_encoding cannot be set, for the driver speaks UTF8 alone; leave it as it is, and convert at the server, by "
    "convert_to and convert_from"
)

_STYLES = re.compile("datestyle|intervalstyle", re.IGNORECASE)

Key = tuple[str, tuple[int, ...]]

_words = reader(SYNTAX).words

_PREPARABLE = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "WITH", "VALUES", "MERGE", "TABLE"})

# Statements that change the session by their first word, and what does it anywhere else in a text.
_FIRST = frozenset(
    {"SET", "RESET", "LISTEN", "UNLISTEN", "PREPARE", "DEALLOCATE", "DISCARD", "LOAD", "DECLARE", "CLOSE", "DO"}
)
_ANYWHERE = frozenset(
    {
        "SET_CONFIG",
        "PG_ADVISORY_LOCK",
        "PG_ADVISORY_LOCK_SHARED",
        "PG_TRY_ADVISORY_LOCK",
        "PG_TRY_ADVISORY_LOCK_SHARED",
        "TEMP",
        "TEMPORARY",
        "PG_TEMP",
        "DBLINK_CONNECT",
    }
)
# Statements that change what names mean to the session: another schema is searched, a temporary table is in front.
_RENAMING = frozenset({"AUTHORIZATION", "PG_TEMP", "ROLE", "SCHEMA", "SEARCH_PATH", "TEMP", "TEMPORARY"})
_MAY_RENAME = frozenset({"DISCARD", "DO"})
_SET_CONFIG = re.compile(r"set_config(?!\s*\(\s*'(?!search_path|role|session_authorization)[\w.]+'\s*,)", re.IGNORECASE)
"""One that names no setting, or one of those."""
_ENDS_TRANSACTION = frozenset({"ABORT", "COMMIT", "END", "ROLLBACK"})
_ENDS_PREPARED = frozenset({"DEALLOCATE", "DISCARD"})
_ALTERS = frozenset({"ALTER", "CREATE", "DROP"})
_ATOMIC = frozenset(
    {"", "COMMENT", "EXPLAIN", "GRANT", "LOCK", "NOTIFY", "RESET", "RELEASE", "REVOKE"}
    | {"SAVEPOINT", "SET", "SHOW", "TRUNCATE"}
    | _PREPARABLE
    | _ALTERS
)


def deallocate(which: bytes) -> bytes:
    """Return SQL that frees the prepared statements of the session that fit the condition, and fails for none."""
    return (
        b"DO $$DECLARE n text; BEGIN FOR n IN SELECT name FROM pg_catalog.pg_prepared_statements WHERE %b "
        b"LOOP EXECUTE pg_catalog.format('DEALLOCATE %%I', n); END LOOP; END$$" % which
    )


class Seen:
    """One text with parameters of given types, on one connection."""

    __slots__ = (
        "alters",
        "atomic",
        "changes_session",
        "columns",
        "ends_prepared",
        "ends_transaction",
        "format",
        "name",
        "preparable",
        "renames",
        "restyles",
        "text",
    )

    def __init__(self, sql: str) -> None:
        if "\0" in sql:
            # libpq would send what stands before it, and nothing else.
            raise QueryError("the text of the statement has a NUL character in it")
        words = _words(sql)
        first = words[0] if words else ""
        if first == "COPY":
            # It has a protocol of its own, and in the middle of a pipeline there is no way out of that.
            raise QueryError(COPY_REFUSED)
        self.text = sql.encode()
        self.name: bytes | None = None
        """Its name at the server, once it is prepared."""
        self.columns: tuple[str, ...] | None = None
        """Names of its columns, once its first result as a prepared statement is here."""
        self.format = TEXT
        """In which to ask for its result: text until the types of its columns are known, for as a prepared statement it
        cannot change them any more."""
        self.changes_session = first in _FIRST or not _ANYWHERE.isdisjoint(words)
        if self.changes_session and _SETS_ENCODING.search(sql):
            raise QueryError(_ENCODING_REFUSED)
        self.ends_prepared = first in _ENDS_PREPARED and "ALL" in words
        """It ends all prepared statements of the session, ours too."""
        self.renames = self.changes_session and (
            first in _MAY_RENAME
            or not _RENAMING.isdisjoint(words)
            or (first == "RESET" and "ALL" in words)
            or _SET_CONFIG.search(sql) is not None
        )
        """It changes, for the session or its transaction, which tables, functions and types names mean."""
        self.alters = first in _ALTERS or self.renames
        """It may change the type of a column; what is prepared would go on to read parameters by the old one."""
        self.restyles = self.changes_session and bool(
            _STYLES.search(sql) or (first in ("DISCARD", "RESET") and "ALL" in words)
        )
        """It changes how the server writes dates and intervals."""
        self.ends_transaction = first in _ENDS_TRANSACTION
        """Or goes back to a savepoint: what was altered in it may be as it was."""
        self.preparable = first in _PREPARABLE and not self.changes_session
        self.atomic = first in _ATOMIC
        """It leaves the transaction open that it is in. Others (COMMIT, CALL, DO) may have kept for good what they, and
        those before them, have done, whatever fails afterwards."""


class Prepared:
    """Remembers the last `limit` texts of a connection. A text is prepared when it is sent for the second time."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.unwanted: dict[bytes, None] = {}
        """Names of statements that the server may keep and nobody needs, in order: they are freed with the next one
        that is made. A name stays here until it is known to be free; to free one twice is harmless."""
        self._seen: OrderedDict[Key, Seen] = OrderedDict()
        self._made = 0
        # Looked up once, for the path that every statement takes.
        self.get = self._seen.get
        self.used = self._seen.move_to_end

    def __len__(self) -> int:
        return len(self._seen)

    def add(self, key: Key) -> Seen:
        """Note a text that is sent for the first time, or again after it was forgotten."""
        seen = Seen(key[0])
        if self.limit and seen.preparable:
            self._seen[key] = seen
            if len(self._seen) > self.limit:
                self._unname(self._seen.popitem(last=False)[1])
        return seen

    def next_name(self) -> bytes:
        """Return a name for a statement that is to be made.

        It counts as unwanted until `made`: of a trip that is cut short nobody knows how far it came.
        """
        self._made += 1
        name = b"_db%d" % self._made
        self.unwanted[name] = None
        return name

    def made(self, key: Key, seen: Seen, name: bytes, _: object = None) -> None:
        """Note that the server has made it. What it answered is of no interest."""
        if self.get(key) is seen and seen.name is None:
            seen.name = name
            self.unwanted.pop(name, None)
        else:  # forgotten in the meantime, or prepared once more
            self.unwanted[name] = None

    def freed(self, names: Iterable[bytes], _: object = None) -> None:
        """Note that the server has freed them. What it answered is of no interest."""
        for name in names:
            self.unwanted.pop(name, None)

    def forget_names(self, *, gone: bool) -> None:
        """Prepare everything anew. `gone`: the server has none of them any more."""
        for seen in self._seen.values():
            self._unname(seen)
        if gone:
            self.unwanted.clear()

    def forget_formats(self) -> None:
        """Ask for text until the types of the columns have been looked at again."""
        for seen in self._seen.values():
            seen.columns, seen.format = None, TEXT

    def _unname(self, seen: Seen) -> None:
        if seen.name is not None:
            self.unwanted[seen.name] = None
            seen.name = seen.columns = None
            seen.format = TEXT
