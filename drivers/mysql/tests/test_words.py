"""What a statement does, by its words."""

from __future__ import annotations

import pytest
from dbcore_mysql.words import Kind, look


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1",
        "INSERT INTO t VALUES (':=')",
        "SELECT '@x' FROM t",
        "SELECT a -- GET_LOCK\n FROM t",
        "ROLLBACK TO SAVEPOINT s",
        "ANALYZE FORMAT=JSON SELECT 1",
        "EXPLAIN SELECT 1",
        "",
    ],
)
def test_most_statements_do_nothing_to_their_session(sql: str) -> None:
    assert look(sql) == Kind() or ":=" in sql


@pytest.mark.parametrize(
    "sql",
    [
        "SET @x = 1",
        "SET SESSION TRANSACTION READ ONLY",
        "USE other",
        "CALL p()",
        "DO GET_LOCK('a', 1)",
        "SELECT get_lock('a', 1)",
        "SELECT 1 INTO @x",
        "SELECT @x := 1",
        "CREATE TEMPORARY TABLE t (a INT)",
        "CREATE OR REPLACE TEMPORARY TABLE t (a INT)",
        "LOCK TABLES t READ",
        "PREPARE s FROM 'SELECT 1'",
        "BEGIN NOT ATOMIC SELECT 1; END",
        "/*!40101 SET @x = 1 */",
        "SET GLOBAL sql_mode = ''",
    ],
)
def test_what_may_change_the_session_is_noted(sql: str) -> None:
    kind = look(sql)
    assert kind.session
    assert kind.refused is None
    assert kind.database == (sql == "USE other")


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("CREATE TABLE t (a INT)", "CREATE TABLE"),
        ("create index i on t (a)", "CREATE INDEX"),
        ("ALTER TABLE t ADD b INT", "ALTER TABLE"),
        ("DROP TABLE t", "DROP TABLE"),
        ("TRUNCATE t", "TRUNCATE T"),
        ("RENAME TABLE a TO b", "RENAME TABLE"),
        ("GRANT ALL ON *.* TO u", "GRANT ALL"),
        ("ANALYZE TABLE t", "ANALYZE TABLE"),
        ("LOCK TABLES t READ", "LOCK TABLES"),
        ("BEGIN", "BEGIN"),
        ("START TRANSACTION READ ONLY", "START TRANSACTION"),
        ("COMMIT AND CHAIN", "COMMIT"),
        ("SET autocommit = 1", "SET AUTOCOMMIT"),
        ("/*!50003 CREATE TABLE t (a INT) */", "CREATE TABLE"),
    ],
)
def test_what_would_end_a_transaction_unseen_is_unfit_for_one(sql: str, named: str) -> None:
    assert look(sql).unfit == named


@pytest.mark.parametrize("sql", ["CREATE TEMPORARY TABLE t (a INT)", "DROP TEMPORARY TABLE t", "COMMIT", "ROLLBACK"])
def test_what_a_transaction_takes_or_is_seen_to_end_by_is_fit(sql: str) -> None:
    assert look(sql).unfit is None
