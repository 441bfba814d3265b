"""What the conformance suite has to know of SQLite. Nothing but that suite imports this."""

from __future__ import annotations

from dbcore.testing.conformance import Subject
from dbcore.testing.values import KINDS

__all__ = ["subject"]

WHOLE = dict.fromkeys(("bool", "int", "Enum of int", "IntEnum"), "INTEGER")

subject = Subject(
    columns={**dict.fromkeys(KINDS, "TEXT"), **WHOLE, "float": "REAL", "bytes": "BLOB"},
    cannot={"float: NaN": "SQLite keeps NULL in place of NaN"},
    unreachable={"no such folder": {"path": "/no/such/folder/at/all/x.db"}},
    permanent=("no such folder",),
    natively=lambda native, sql: native.execute(sql),
)
"""SQLite, for whoever has a database file."""
