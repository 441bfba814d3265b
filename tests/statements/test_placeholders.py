"""Which `$1` and `:name` are placeholders, what the driver gets for them, and in which order."""

from __future__ import annotations

import sqlite3
from collections import OrderedDict, UserList
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sql_texts import NUMBERS, OF_MYSQL, OF_POSTGRES, OF_SQLITE, SELECTS, Piece, Select

from dbcore.driver import Syntax
from dbcore.errors import QueryError
from dbcore.statements import compile_sql

POSTGRES = Syntax(placeholder="$1", nested_comments=True, dollar_quotes=True, escape_strings=True)
SQLITE = Syntax(placeholder="?", bracket_identifiers=True)
MYSQL = Syntax(placeholder="%s", backslash_strings=True, hash_comments=True, double_quote_strings=True)
EVERY = pytest.mark.parametrize("syntax", [POSTGRES, SQLITE, MYSQL], ids=["postgres", "sqlite", "mysql"])


def bound(sql: str, params: Any = (), syntax: Syntax = POSTGRES) -> tuple[str, list[Any]]:
    text, values = compile_sql(sql, syntax).bind(params)
    return text, list(values)


def refusal(sql: str, params: Any = (), syntax: Syntax = POSTGRES) -> str:
    with pytest.raises(QueryError) as caught:
        compile_sql(sql, syntax).bind(params)
    assert caught.value.sql == sql
    return str(caught.value)


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_numbers_go_to_a_numbered_library_as_they_are() -> None:
    assert bound("SELECT $2, $1, $1", (1, 2)) == ("SELECT $2, $1, $1", [1, 2])


def test_each_occurrence_becomes_a_placeholder_where_they_are_not_numbered() -> None:
    assert bound("SELECT $2, $1, $1", (1, 2), SQLITE) == ("SELECT ?, ?, ?", [2, 1, 1])
    assert bound("SELECT $2, $1, $1", [1, 2], MYSQL) == ("SELECT %s, %s, %s", [2, 1, 1])


@EVERY
@pytest.mark.parametrize("params", [(1, 2), [1, 2]], ids=["tuple", "list"])
def test_a_sequence_that_is_in_order_is_handed_on_as_it_is(syntax: Syntax, params: Any) -> None:
    assert compile_sql("SELECT $1, $2", syntax).bind(params)[1] is params


@EVERY
def test_any_sequence_will_do(syntax: Syntax) -> None:
    assert bound("SELECT $1, $2", UserList([1, 2]), syntax)[1] == [1, 2]
    assert bound("SELECT $1, $2", range(2), syntax)[1] == [0, 1]


def test_a_number_with_zeros_in_front_is_that_number() -> None:
    assert bound("SELECT $01, $1", (5,), SQLITE) == ("SELECT ?, ?", [5, 5])


def test_more_than_nine_placeholders_keep_their_order() -> None:
    sql = ", ".join(f"${number}" for number in range(12, 0, -1))
    assert bound(sql, range(1, 13), SQLITE)[1] == list(range(12, 0, -1))


# -- names -----------------------------------------------------------------------------------------------------------


def test_names_are_numbered_by_their_first_appearance() -> None:
    assert bound("SELECT :b, :a, :b", {"a": 1, "b": 2}) == ("SELECT $1, $2, $1", [2, 1])


def test_each_occurrence_of_a_name_takes_its_value() -> None:
    assert bound("SELECT :b, :a, :b", {"a": 1, "b": 2}, SQLITE) == ("SELECT ?, ?, ?", [2, 1, 2])
    assert bound("SELECT :b, :a, :b", {"a": 1, "b": 2}, MYSQL) == ("SELECT %s, %s, %s", [2, 1, 2])


@EVERY
@pytest.mark.parametrize("name", ["low", "_x", "a1", "größe", "名前", "हिन्दी"])
def test_names_may_be_of_any_script(syntax: Syntax, name: str) -> None:
    assert bound(f"SELECT :{name}+1", {name: 7}, syntax)[1] == [7]


def test_a_wide_space_ends_a_name() -> None:
    assert bound("SELECT :low\u00a0", {"low": 7})[1] == [7]


@pytest.mark.parametrize("mapping", [OrderedDict[str, int](a=1), MappingProxyType({"a": 1})], ids=["subclass", "proxy"])
def test_any_mapping_will_do(mapping: Any) -> None:
    assert bound("SELECT :a", mapping) == ("SELECT $1", [1])


# -- where there are none --------------------------------------------------------------------------------------------

NO_PLACEHOLDERS = [
    "SELECT '$1 :a'",
    "SELECT 'it''s $1 :a'",
    'SELECT 1 AS "$1 "":a"',
    "SELECT 1 -- $1 :a ' \"",
    "SELECT 1 /* $1 ' :a */",
    "SELECT 1 AS `$1 :a`",
    "SELECT foo$1, $tag, a$1$2 FROM t",
    "SELECT x::text, x ::int",
    "SELECT f(a := 1)",
    "SELECT t.x[a:b], t.x[1:name]",
    "SELECT 'unfinished $1 :a",
    'SELECT "unfinished $1 :a',
    "SELECT 1 /* unfinished $1 :a",
    "SELECT : a, $ 1, a:",
    "SELECT é$1",
]


@EVERY
@pytest.mark.parametrize("sql", NO_PLACEHOLDERS)
def test_no_placeholder_is_seen_where_none_is(syntax: Syntax, sql: str) -> None:
    assert bound(sql, (), syntax) == (sql, [])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT $$ $1 :a ' $$",
        "SELECT $x$ $1 $$ $y$ ' $x$",
        "SELECT $größe$ $1 $größe$",
        "SELECT $x$ unfinished $1",
        "SELECT E'it\\'s $1'",
        "SELECT e'\\\\\\' $1'",
        "SELECT E'a' -- said\n  'b\\' $1'",
        "SELECT 1 /* /* */ $1 */",
        "SELECT 1 /*/* $1 */*/",
        "SELECT U&'d\\0061t $1'",
    ],
)
def test_postgres_quotes_and_comments_hide_placeholders(sql: str) -> None:
    assert bound(sql) == (sql, [])


@pytest.mark.parametrize(
    "sql", [r"SELECT 'it\'s $1'", r'SELECT "it\"s $1"', "SELECT 1 # $1 ' ", "SELECT 'a\\\\\\' $1'"]
)
def test_mysql_quotes_and_comments_hide_placeholders(sql: str) -> None:
    assert bound(sql, (), MYSQL) == (sql, [])


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 1 AS [it's], 2 AS [$1 :a], 3 AS [\"], 4 AS [a [ ' b]",
        "SELECT [--], [/*], 1",
        "SELECT 1 AS [unfinished $1 ' :a",
        "SELECT [a;b], [(], [?] FROM t",
    ],
)
def test_identifiers_in_brackets_hide_placeholders(sql: str) -> None:
    assert bound(sql, (), SQLITE) == (sql, [])


@pytest.mark.parametrize(
    ("sql", "syntax"),
    [
        ("SELECT [it's], $1, [o'clock]", SQLITE),
        ("SELECT ARRAY['it''s [', $1]", POSTGRES),
        ("SELECT j['$1'], $1", POSTGRES),
        (r"SELECT 'a\', $1", POSTGRES),
        (r"SELECT 'a\', $1", SQLITE),
        (r"SELECT nameE'a\', $1", POSTGRES),
        (r"SELECT U&'\0061\', $1", POSTGRES),
        ("SELECT /* /* */ $1", SQLITE),
        ("SELECT 1 /* /* */ /* */ */ + $1", POSTGRES),
        ("SELECT j #> $1", POSTGRES),
        ("SELECT j #>> '{}', $1", SQLITE),
        ("SELECT $$ $1 $$", SQLITE),
        ("SELECT $x$ a $x$, $1", POSTGRES),
        ("SELECT $1::int", POSTGRES),
        ("SELECT -- a\r$1", POSTGRES),
        ("SELECT ARRAY[$1]", POSTGRES),
        ("SELECT a[1:$1]", POSTGRES),
        ("SELECT '--', $1", SQLITE),
        ("SELECT 1 --\n+ $1", SQLITE),
        ("SELECT E'a' 'b\\', $1", POSTGRES),
        ("SELECT*$1", SQLITE),
        ("SELECT 2*/* */$1", SQLITE),
    ],
)
def test_a_placeholder_is_seen_where_one_is(sql: str, syntax: Syntax) -> None:
    assert bound(sql, (7,), syntax)[1] == [7]


def test_json_operators_with_question_marks_stay_where_they_are_no_placeholders() -> None:
    assert bound("SELECT j ? 'a' AND j ?| $1", (7,)) == ("SELECT j ? 'a' AND j ?| $1", [7])


def test_a_name_may_follow_brackets_and_casts() -> None:
    assert bound("SELECT a[1:2]::int[], :x::int", {"x": 1})[0] == "SELECT a[1:2]::int[], $1::int"


def test_every_other_percent_sign_is_doubled_where_the_placeholder_is_percent_s() -> None:
    assert bound("SELECT 5 % $1, '%s' -- 100%", (3,), MYSQL)[0] == "SELECT 5 %% %s, '%%s' -- 100%%"


@EVERY
def test_a_text_without_placeholders_passes_as_it_is(syntax: Syntax) -> None:
    assert bound("SELECT '50%', ?, 5 % 3", (), syntax) == ("SELECT '50%', ?, 5 % 3", [])
    assert bound("SELECT 1", {}, syntax) == ("SELECT 1", [])


# -- refused before anything is sent ---------------------------------------------------------------------------------


@EVERY
@pytest.mark.parametrize(
    ("sql", "params", "said"),
    [
        ("SELECT $1, $2, $3", [1], "no parameter for $2, $3: the text takes 3, given were 1"),
        ("SELECT $1", [1, 2, 3], "no placeholder $2, $3: the text takes 1, given were 3"),
        ("SELECT 1", [1], "no placeholder $1: the text takes 0, given were 1; a placeholder is $1, $2, ... or :name"),
        ("SELECT ?", [1], "a placeholder is $1, $2, ... or :name"),
        ("SELECT $2", [1, 2], "the text has $2 and no $1"),
        ("SELECT $0", [1], "they count from $1"),
        ("SELECT $99999999999", [1], "beyond $65535"),
        ("SELECT $1and", [1], "$1and is no placeholder"),
        ("SELECT $1, :a", [1], "use $1 with a sequence, or :name with a mapping"),
        ("SELECT :a, :b", {"a": 1}, "no parameter for :b"),
        ("SELECT :a", {"a": 1, "c": 2, 5: 1}, "no placeholder for the parameter :c, :5"),
        ("SELECT :a", {"c": 2}, "no parameter for :a; no placeholder for the parameter :c"),
        ("SELECT :a", (), "no parameter for :a"),
        ("SELECT :a", {}, "no parameter for :a"),
        ("SELECT 1", {"a": 1}, "no placeholder for the parameter :a"),
        ("SELECT :a", [1], 'give a mapping such as {"a": value}'),
        ("SELECT $1", {"a": 1}, "give a sequence such as [value]"),
        ("SELECT $1", {}, "give a sequence such as [value]"),
        ("SELECT $1", "x", "put it into a list: [value]"),
        ("SELECT $1", b"x", "put it into a list: [value]"),
        ("SELECT $1", "", "put it into a list: [value]"),
        ("SELECT $1", {1}, "the parameters are a set"),
        ("SELECT $1", None, "the parameters are a NoneType"),
        ("SELECT $1", (n for n in [1]), "the parameters are a generator"),
    ],
)
def test_parameters_that_do_not_fit_are_refused(syntax: Syntax, sql: str, params: Any, said: str) -> None:
    assert said in refusal(sql, params, syntax)


def test_a_long_list_of_missing_parameters_is_cut() -> None:
    said = refusal(f"SELECT {', '.join(f'${number}' for number in range(1, 101))}", [])
    assert "$1, $2, $3, $4, $5, $6, $7, $8 and 92 more" in said


def test_a_question_mark_beside_placeholders_is_refused_where_it_counts() -> None:
    assert "each ? is a placeholder" in refusal("SELECT ?, $1", (1,), SQLITE)
    assert bound("SELECT '?' AS \"?\", [?] /* ? */, $1", (1,), SQLITE)[1] == [1]


@EVERY
@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**30])
def test_an_int_beyond_64_bits_is_refused_and_not_shown(syntax: Syntax, value: int) -> None:
    said = refusal("SELECT $2, $1", [1, value], syntax)
    assert "the int given for $2 does not fit into 64 bits" in said
    assert str(value) not in said
    assert "for :b" in refusal("SELECT :a, :b", {"b": value, "a": 1}, syntax)


def test_an_enum_of_an_int_beyond_64_bits_is_refused() -> None:
    from enum import Enum, IntEnum

    wide = Enum("wide", {"A": 2**63})
    wide_int = IntEnum("wide_int", {"A": 2**63})
    assert "64 bits" in refusal("SELECT $1", [wide.A])
    assert "64 bits" in refusal("SELECT $1", [wide_int.A])


@EVERY
def test_the_ends_of_64_bits_and_bools_are_fine(syntax: Syntax) -> None:
    values = [2**63 - 1, -(2**63), True, False]
    assert bound("SELECT $1, $2, $3, $4", values, syntax)[1] == values


# -- the cache -------------------------------------------------------------------------------------------------------


def test_a_text_is_read_once_for_each_syntax() -> None:
    sql = "SELECT 'a text that is read once'"
    assert compile_sql(sql, SQLITE) is compile_sql(sql, replace(SQLITE))
    assert compile_sql(sql, SQLITE) is not compile_sql(sql, POSTGRES)


def test_a_very_long_text_is_not_kept() -> None:
    sql = f"SELECT '{'x' * 70_000}'"
    assert compile_sql(sql, SQLITE) is not compile_sql(sql, SQLITE)


@EVERY
def test_long_strings_and_comments_are_read_without_trouble(syntax: Syntax) -> None:
    many = 200_000
    sql = f"SELECT '{chr(39) * 2 * many}', /* {'*' * many} */ $1 -- {'-' * many}"
    assert bound(sql, (7,), syntax)[1] == [7]


# -- any text --------------------------------------------------------------------------------------------------------


def check(parts: list[Piece], numbers: list[int], syntax: Syntax, *, named: bool) -> None:
    """Put the pieces together with real placeholders in between, and see that those and no others are found."""
    keys = sorted({numbers[at % len(numbers)] for at, part in enumerate(parts) if part.real})
    rank = {key: place for place, key in enumerate(keys)}
    used = [rank[numbers[at % len(numbers)]] for at, part in enumerate(parts) if part.real]
    values = [f"value {place}" for place in range(len(keys))]
    written = iter(used)
    sql = " ".join(
        part.sql if not part.real else (f":n{next(written)}" if named else f"${next(written) + 1}") for part in parts
    )
    params: Any = {f"n{place}": value for place, value in enumerate(values)} if named else values
    text, given_values = bound(sql, params, syntax)
    if syntax.placeholder == "$1":
        order = list(dict.fromkeys(used)) if named else list(range(len(keys)))
        assert given_values == [values[place] for place in order]
        wanted = [f"${order.index(place) + 1}" for place in used]
    else:
        assert given_values == [values[place] for place in used]
        wanted = [syntax.placeholder] * len(used)
    fill = iter(wanted)
    expected = " ".join(
        next(fill) if part.real else part.sql.replace("%", "%%" if syntax.placeholder == "%s" and used else "%")
        for part in parts
    )
    assert text == expected


@given(parts=st.lists(OF_POSTGRES, max_size=12), numbers=NUMBERS, named=st.booleans())
def test_exactly_the_placeholders_of_any_postgres_text_are_found(
    parts: list[Piece],
    numbers: list[int],
    named: bool,
) -> None:
    check(parts, numbers, POSTGRES, named=named)


@given(parts=st.lists(OF_SQLITE, max_size=12), numbers=NUMBERS, named=st.booleans())
def test_exactly_the_placeholders_of_any_sqlite_text_are_found(
    parts: list[Piece],
    numbers: list[int],
    named: bool,
) -> None:
    check(parts, numbers, SQLITE, named=named)


@given(parts=st.lists(OF_MYSQL, max_size=12), numbers=NUMBERS, named=st.booleans())
def test_exactly_the_placeholders_of_any_mysql_text_are_found(
    parts: list[Piece],
    numbers: list[int],
    named: bool,
) -> None:
    check(parts, numbers, MYSQL, named=named)


@given(st.text(alphabet="'\"`$?:;[]()/*-#\\Ee1aé\n\r %BEGIN", max_size=40))
def test_no_text_breaks_the_reader(sql: str) -> None:
    for syntax in (POSTGRES, SQLITE, MYSQL):
        try:
            text, values = bound(sql, (), syntax)
        except QueryError:
            continue
        assert text == sql
        assert values == []


@given(SELECTS["sqlite"])
def test_sqlite_itself_finds_the_values_in_their_places(select: Select) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        rows = connection.execute(*compile_sql(select.sql, SQLITE).bind(select.params)).fetchall()
    finally:
        connection.close()
    assert rows == [select.row]
