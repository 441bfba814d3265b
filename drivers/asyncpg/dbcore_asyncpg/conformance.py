"""What the conformance suite has to know of Postgres by way of asyncpg. Nothing but that suite imports this."""

from __future__ import annotations

from dbcore.testing.conformance import Subject

__all__ = ["subject"]

NO_NUL = "Postgres keeps no NUL character in a text"

subject = Subject(
    cannot={
        "str: NUL": NO_NUL,
        "max_waiting_turns_away_who_comes_too_much": "asyncpg's own pool lets everybody wait; setting it is refused",
    },
    unreachable={
        "a port where nobody listens": {"port": 1},
        "a database that is not there": {"database": "dbcore_conformance_nowhere", "dbname": None},
    },
    permanent=("a database that is not there",),
    fatal="SELECT pg_terminate_backend(pg_backend_pid())",
    natively=lambda native, sql: native.execute(sql),
)
"""Postgres, for whoever has a server."""
