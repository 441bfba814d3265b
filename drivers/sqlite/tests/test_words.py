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
        "PRAGMA main.table_info = t",
        "PRAGMA index_list(x)",
        "PRAGMA index_xinfo ( x )",
        "PRAGMA foreign_key_check(x)",
        "PRAGMA main.foreign_key_list(x)",
        "PRAGMA integrity_check(10)",
        "PRAGMA user_version",
        "PRAGMA main.user_version -- not = 5",
        "PRAGMA user_version /* (5) */",
        "PRAGMA journal_mode",
        "PRAGMA foreign_keys = 0",
        "PRAGMA main.cache_size(100)",
        "EXPLAIN PRAGMA table_info(t)",
        "\ufeffSELECT 1",
        "SELECT optimize, pragma_table_info FROM t",
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
        "pragma user_version(5)",
        "PRAGMA main.user_version = -5",
        "PRAGMA main . user_version(5)",
        "PRAGMA/**/user_version/* a */=/* b */5",
        "PRAGMA -- a comment\n user_version (5)",
        'PRAGMA "main"."user_version" = 5',
        "PRAGMA [main].[application_id](5)",
        "PRAGMA `schema_version` = 5",
        "PRAGMA 'user_version' = 5",
        "EXPLAIN PRAGMA user_version = 5",
        "EXPLAIN QUERY PLAN PRAGMA user_version(5)",
        "PRAGMA journal_mode(delete)",
        "PRAGMA auto_vacuum = full",
        "PRAGMA optimize",
        "PRAGMA main.optimize(2)",
        "PRAGMA incremental_vacuum(1)",
        "PRAGMA wal_checkpoint",
        "PRAGMA main.wal_checkpoint(TRUNCATE)",
        "PRAGMA something_new = 1",
        "PRAGMA",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "WITH x AS (SELECT 1) REPLACE INTO t SELECT * FROM x",
        "WITH x AS (SELECT 1) DELETE FROM t",
        "something unknown",
        "\ufeffINSERT INTO t VALUES (1)",
        "SELECT optimize(f) FROM f LIMIT 1",
        'SELECT "optimize" /* it */ (f) FROM f',
        "WITH x AS (SELECT Optimize (f) FROM f) SELECT * FROM x",
        "SELECT * FROM pragma_optimize(65538)",
        "VALUES ((SELECT count(*) FROM [pragma_optimize]))",
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
        ('PRAGMA "foreign_keys"(off)', "known"),
        ("PRAGMA foreign_keys/* = */(off)", "known"),
        ("EXPLAIN PRAGMA foreign_keys = 0", "known"),
        ("PRAGMA foreign_keys -- = 1", ""),
        ("PRAGMA user_version = 1", ""),
        ("PRAGMA user_version(1)", ""),
        ("PRAGMA main.application_id = 1", ""),
        ("PRAGMA table_info(t)", ""),
        ("PRAGMA table_info(foreign_keys)", ""),
        ("PRAGMA index_list(x)", ""),
        ("PRAGMA foreign_key_check(x)", ""),
        ("PRAGMA wal_checkpoint(TRUNCATE)", ""),
        ("PRAGMA journal_mode", ""),
        ("PRAGMA journal_mode = off", "unknown"),
        ("PRAGMA something_new = 1", "unknown"),
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
