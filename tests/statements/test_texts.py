"""Where a statement ends, and which words it has."""

from __future__ import annotations

import sqlite3

import pytest

from dbcore.driver import Syntax
from dbcore.errors import QueryError
from dbcore.statements import compile_sql, reader, split, words

POSTGRES = Syntax(placeholder="$1", nested_comments=True, dollar_quotes=True, escape_strings=True)
SQLITE = Syntax(placeholder="?", bracket_identifiers=True)
BOTH = pytest.mark.parametrize("syntax", [POSTGRES, SQLITE], ids=["postgres", "sqlite"])

TRIGGER = """CREATE TEMP TRIGGER IF NOT EXISTS t AFTER INSERT ON a WHEN new.begin > 1 BEGIN
    INSERT INTO log SELECT CASE WHEN new.x > 1 THEN 2 ELSE 3 END, new.end;
    SELECT CASE new.x WHEN 1 THEN 2 END;
    -- ; END
    UPDATE a SET x = 1;
END"""
FUNCTION = """CREATE OR REPLACE FUNCTION f(x int) RETURNS int LANGUAGE sql BEGIN ATOMIC
    INSERT INTO t VALUES (CASE x WHEN 1 THEN 2 END);
    SELECT CASE WHEN x > 1 THEN 1 ELSE CASE x WHEN 0 THEN 2 END END;
END"""

ONE = [
    "SELECT 1",
    "SELECT 1;",
    "SELECT 1 ; ;; -- done; really\n /* ; */ ;",
    ";; SELECT 1",
    "SELECT ';', \";\", `;` -- ;",
    "",
    " -- nothing\n ;",
    TRIGGER,
    TRIGGER + ";",
    FUNCTION,
    FUNCTION + "; -- done",
    "EXPLAIN " + TRIGGER,
    "CREATE PROCEDURE p() BEGIN ATOMIC END;",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO a VALUES (1); INSERT INTO b VALUES (2))",
    "CREATE OR REPLACE CONSTRAINT TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f();",
    "BEGIN",
    "COMMIT;",
]

TWO = [
    ("SELECT 1; SELECT 2", ["SELECT 1", "SELECT 2"]),
    ("SELECT 1;;'x'", ["SELECT 1", "'x'"]),
    ("BEGIN; COMMIT", ["BEGIN", "COMMIT"]),
    (TRIGGER + "; DROP TABLE a", [TRIGGER, "DROP TABLE a"]),
    (FUNCTION + ";\n" + TRIGGER, [FUNCTION, TRIGGER]),
    ("CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f(); DROP TABLE a",
     ["CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f()", "DROP TABLE a"]),
    ("CREATE TABLE a (trigger int); BEGIN; SELECT 1",
     ["CREATE TABLE a (trigger int)", "BEGIN", "SELECT 1"]),
    ("CREATE FUNCTION f(begin int) RETURNS int AS 'x'; DROP TABLE a",
     ["CREATE FUNCTION f(begin int) RETURNS int AS 'x'", "DROP TABLE a"]),
    ("SELECT a['it''s;'] -- ;\n; SELECT 2", ["SELECT a['it''s;']", "SELECT 2"]),
    ("SELECT CASE WHEN 1 THEN 2 END; SELECT 2", ["SELECT CASE WHEN 1 THEN 2 END", "SELECT 2"]),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("sql", ONE)
def test_one_statement_is_one(sql: str, syntax: Syntax) -> None:
    assert compile_sql(sql, syntax).bind(()) == (sql, ())
    assert len(split(sql, syntax)) <= 1


@BOTH
@pytest.mark.parametrize(("sql", "statements"), TWO)
def test_a_second_statement_is_refused_with_a_pointer_to_scripts(
    sql: str, statements: list[str], syntax: Syntax
) -> None:
    with pytest.raises(QueryError, match="execute_script"):
        compile_sql(sql, syntax)
    assert split(sql, syntax) == statements


def test_dollar_quoted_bodies_hold_semicolons() -> None:
    sql = "CREATE FUNCTION f() RETURNS int AS $$ BEGIN SELECT 1; RETURN 1; END; $$ LANGUAGE plpgsql"
    assert split(sql + "; SELECT 2", POSTGRES) == [sql, "SELECT 2"]


def test_sqlite_takes_the_trigger_that_we_take_for_one_statement() -> None:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("CREATE TABLE a (x, begin, end)")
        connection.execute("CREATE TABLE log (x, y)")
        for sql in split(TRIGGER + ";; INSERT INTO a VALUES (1, 2, 3)", SQLITE):
            connection.execute(sql)
        assert connection.execute("SELECT * FROM log").fetchall() == [(3, 3)]
    finally:
        connection.close()


def test_words_are_the_bare_words_in_capitals_and_in_order() -> None:
    sql = """/* with */ (select "quoted", E'str', $tag$ body $tag$, 1e5, :name, é -- comment
             into temp T from pg_catalog.set_config('a', $1) where x::Text)"""
    assert " ".join(words(sql, POSTGRES)) == "SELECT É INTO TEMP T FROM PG_CATALOG SET_CONFIG WHERE X TEXT"


@BOTH
def test_words_of_a_script_and_of_a_text_that_cannot_be_sent_are_there(syntax: Syntax) -> None:
    assert words("PRAGMA x; SELECT $1, :a, $0", syntax) == ("PRAGMA", "X", "SELECT")
    assert words(" -- nothing", syntax) == ()


@BOTH
def test_a_byte_order_mark_is_a_space_where_a_token_could_begin(syntax: Syntax) -> None:
    assert words("\ufeffSELECT \ufeff a\ufeffb", syntax) == ("SELECT", "A\ufeffB")


def test_an_identifier_in_brackets_is_no_word_and_hides_semicolons_and_quotes() -> None:
    sql = "SELECT [it's; into] FROM t"
    assert split(sql + "; SELECT 2", SQLITE) == [sql, "SELECT 2"]
    assert words(sql, SQLITE) == ("SELECT", "FROM", "T")


def test_calls_are_what_stands_before_a_parenthesis() -> None:
    sql = """SELECT f(1), "G"(2), s.h /* x */ (3), count -- (
        (*) FROM t WHERE a IN (1) AND 'i(' = $$j($$ AND (b)"""
    assert reader(POSTGRES).calls(sql) == {"F", '"G"', ".H", "COUNT", "IN", "AND"}
