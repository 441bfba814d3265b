"""Which statements write, and which change the session."""

from __future__ import annotations

import pytest
from dbcore_sqlite.words import look


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "  -- a comment\n select 1",
        "/* INSERT */ SELECT 'DELETE'",
        "VALUES (1)",
        "EXPLAIN QUERY PLAN DELETE FROM t",
        "PRAGMA table_info(t)",
        "PRAGMA user_version",
        "WITH x AS (SELECT 1) SELECT replace('a', 'b', 'c') FROM x",
        "WITH x AS (SELECT 'INSERT') SELECT * FROM x",
    ],
)
def test_these_only_read(sql: str) -> None:
    assert not look(sql).writes


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO t VALUES (1)",
        "insert into t values (1)",
        "REPLACE INTO t VALUES (1)",
        "CREATE TABLE t (a)",
        "BEGIN",
        "SAVEPOINT a",
        "VACUUM",
        "PRAGMA user_version = 1",
        "PRAGMA wal_checkpoint",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "something unknown",
    ],
)
def test_these_write(sql: str) -> None:
    assert look(sql).writes


@pytest.mark.parametrize(
    ("sql", "session"),
    [
        ("SELECT 1", ""),
        ("CREATE TABLE temperature (a)", ""),
        ("CREATE TEMP TABLE t (a)", "known"),
        ("CREATE /* */ TEMPORARY VIEW v AS SELECT 1", "known"),
        ("CREATE TABLE temp.t (a)", "known"),
        ("CREATE TABLE IF NOT EXISTS [temp].t (a)", "known"),
        ("ATTACH 'x' AS y", "known"),
        ("DETACH y", "known"),
        ("PRAGMA foreign_keys", ""),
        ("PRAGMA foreign_keys = 1", "known"),
        ("PRAGMA main.synchronous(2)", "known"),
        ("PRAGMA user_version = 1", ""),
        ("PRAGMA table_info(t)", ""),
        ("PRAGMA case_sensitive_like(1)", "unknown"),
    ],
)
def test_what_changes_the_session_is_known(sql: str, session: str) -> None:
    assert look(sql).session == session


@pytest.mark.parametrize(
    ("sql", "ends"), [("COMMIT", True), ("END", True), ("ROLLBACK", True), ("ROLLBACK TO a", False)]
)
def test_what_ends_a_transaction_is_known(sql: str, *, ends: bool) -> None:
    assert look(sql).ends is ends
