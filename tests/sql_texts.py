"""Texts of SQL for hypothesis: pieces that hide placeholders or only look like them, with real ones in between.

`Piece`s need not make sense to a database; they are for the reader of SQL alone. `Column`s are what a database takes:
each says what it must give.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

__all__ = [
    "NUMBERS",
    "OF_MYSQL",
    "OF_POSTGRES",
    "OF_SQLITE",
    "Column",
    "Piece",
    "Select",
    "mysql_columns",
    "postgres_columns",
    "selects",
    "sqlite_columns",
]

NUMBERS = st.lists(st.integers(1, 5), min_size=1, max_size=6)
"""Which of the values the placeholders stand for, over and over again."""

# -- pieces ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Piece:
    """A piece of SQL; `real` says that it is a placeholder, which is then made when the text is put together."""

    sql: str = ""
    real: bool = False


REAL = Piece(real=True)
# Without "$$", which would end some of the quotes it is put into.
INNER = st.text(alphabet="ab$1:? %é\n;[", max_size=12).map(lambda text: text.replace("$$", "$ $"))


def pieces(*shapes: str) -> st.SearchStrategy[Piece]:
    def filled(shape: str, inner: str) -> Piece:
        return Piece(shape.replace("...", inner))

    return st.builds(filled, st.sampled_from(shapes), INNER)


PLAIN = ["1", "x", "foo$1", "x::text", "(", ")", ",", "=", "a[1:name]", "a[b:c]", "->>", "@>", "a := 2", "E", "é$2"]
COMMON = st.one_of(
    st.sampled_from([Piece(text) for text in PLAIN]),
    st.just(REAL),
    pieces("'...'", "'it''s ...'", '"..."', '"a""..."', "`...`", "/*...*/", "'/* ...'", '"\'..."', "/* ' ...*/"),
    INNER.map(lambda inner: Piece("--" + inner.replace("\n", "") + "\n")),
)
OF_POSTGRES = st.one_of(
    COMMON,
    pieces(r"E'\'...'", r"e'\\\'...'", "$$...' $$", "$q$ $$ ... $q$", "/* /*...*/ ' */", "E'a'\n'\\'...'", "'\\'"),
    st.sampled_from([Piece(text) for text in ["j ? 'a'", "j ?| x", "j #>> '{a}'", "ARRAY[1]", "$$$$"]]),
)
OF_SQLITE = st.one_of(COMMON, pieces("[...]", "[it's ...]", '["...]', "[/*...]"))
OF_MYSQL = st.one_of(
    COMMON,
    pieces(r"'\'...'", r'"\"..."', r"'\\\'...'"),
    INNER.map(lambda inner: Piece("#'" + inner.replace("\n", "") + "\n")),
)

# -- columns -----------------------------------------------------------------------------------------------------------

Part = str | None
"""Text, or a placeholder; in what a column gives, the value of that placeholder."""


@dataclass(frozen=True)
class Column:
    """One column of a SELECT, of the type text."""

    sql: tuple[Part, ...]
    gives: tuple[Part, ...]


@dataclass(frozen=True)
class Select:
    """A statement with its parameters, and the row that the database must give."""

    sql: str
    params: Any
    row: tuple[str, ...]


# Everything that begins or ends something somewhere. NUL and surrogates are no SQL text.
_HARD = st.text(alphabet="ab$1:n0? %é\n\r;[]'\"`\\*/-#Ee{}𝄞", max_size=14)
_VALUES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8), min_size=5, max_size=5)


def selects(columns: Callable[[bool], st.SearchStrategy[Column]], tail: str = "") -> st.SearchStrategy[Select]:
    """Statements of some columns each, by `$n` or by `:name`."""

    def of_kind(named: bool) -> st.SearchStrategy[Select]:
        lists = st.lists(columns(named), min_size=1, max_size=8)
        return st.builds(_select, lists, NUMBERS, _VALUES, st.just(named), st.just(tail))

    return st.booleans().flatmap(of_kind)


def _select(columns: list[Column], numbers: list[int], texts: list[str], named: bool, tail: str) -> Select:
    slots = sum(part is None for column in columns for part in column.sql)
    keys = sorted({numbers[slot % len(numbers)] for slot in range(slots)})
    # No two values are alike, or one in the place of another could not be told.
    values = [f"{place}.{texts[place]}" for place in range(len(keys))]
    place, slot = 0, 0
    parts: list[str] = []
    row: list[str] = []
    for column in columns:
        own: list[str] = []
        text = ""
        for part in column.sql:
            if part is None:
                place = keys.index(numbers[slot % len(numbers)])
                own.append(values[place])
                slot += 1
            text += part if part is not None else f":n{place}" if named else f"${place + 1}"
        parts.append(text)
        given = iter(own)
        row.append("".join(next(given) if part is None else part for part in column.gives))
    params: Any = {f"n{place}": value for place, value in enumerate(values)} if named else values
    return Select("SELECT " + ", ".join(parts) + tail, params, tuple(row))


def _fixed(*shapes: tuple[str, str]) -> st.SearchStrategy[Column]:
    return st.sampled_from([Column((sql,), (gives,)) for sql, gives in shapes])


def _slots(*shapes: tuple[tuple[Part, ...], tuple[Part, ...]]) -> st.SearchStrategy[Column]:
    return st.sampled_from([Column(sql, gives) for sql, gives in shapes])


def _around(
    write: Callable[[str], str], inner: st.SearchStrategy[str] = _HARD, *, gives: str | None = None
) -> st.SearchStrategy[Column]:
    """A column whose text has any text inside, and gives just that, or what `gives` says."""
    return inner.map(lambda text: Column((write(text),), (text if gives is None else gives,)))


def _string(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _without(*parts: str) -> st.SearchStrategy[str]:
    def cleaned(text: str) -> str:
        for part in parts:
            text = text.replace(part, "")
        return text

    return _HARD.map(cleaned)


_LINE = _without("\n", "\r")
_COMMENT = _without("*", "/")
_BODY = _without("$").map(lambda text: text + " $1 :n0 $ ")

_ON_BOTH = (
    _slots(
        ((None,), (None,)),
        (("CAST(", None, " AS TEXT)"), (None,)),
        (("'$1:n0' || ", None, " || ':n1'"), ("$1:n0", None, ":n1")),
        (("CASE WHEN ", None, " = ", None, " THEN 'a' ELSE 'a' END"), ("a",)),
        (("(SELECT ", None, " WHERE 1 = 1)"), (None,)),
        (("coalesce(", None, ",", None, ")"), (None,)),
        (("/* $1 */", None, "--:n0\n"), (None,)),
    ),
    _fixed(("CAST(5 % 3 AS TEXT)", "2"), ("'100%'", "100%"), ("'a' AS foo$1", "a"), ("'%s'", "%s"), ("'?'", "?")),
    _around(_string),
    _around(lambda text: "'x' AS \"a" + text.replace('"', '""') + '"', gives="x"),
    _around(lambda text: f"'x' /*{text}*/", _COMMENT, gives="x"),
    _around(lambda text: f"/*' {text}*/'x'", _COMMENT, gives="x"),
    _around(lambda text: f"'x' --{text}\n", _LINE, gives="x"),
    _around(lambda text: f"--' {text}\n'x'", _LINE, gives="x"),
)


def sqlite_columns(named: bool) -> st.SearchStrategy[Column]:
    """Columns for SQLite."""
    return st.one_of(
        *_ON_BOTH,
        _fixed(("CAST(x'6124' AS TEXT)", "a$"), ("'x' AS [a:n0]", "x"), ("'a\\'", "a\\"), ("'x' /* /* */", "x")),
        _around(lambda text: f"'x' AS [a{text}]", _without("]"), gives="x"),
        _around(lambda text: "'x' AS `a" + text.replace("`", "``") + "`", gives="x"),
        _around(lambda text: f"{_string(json.dumps({'k': text}))} ->> '$.k'"),
        _around(lambda text: f"json_extract({_string(json.dumps([text]))}, '$[0]')"),
        _slots((("json_array('a', ", None, ") ->> '$[1]'"), (None,))),
    )


def postgres_columns(named: bool) -> st.SearchStrategy[Column]:
    """Columns for Postgres. `lo` and `hi` are 1 and 2: use `POSTGRES_TAIL`."""
    in_brackets = _slots(
        (("(ARRAY['a', ", None, "::text])[2]"), (None,)),
        (("(ARRAY[", None, ", ", None, "])[lo]"), (None,)),
        (("(ARRAY[['a', 'b'], [", None, ", 'd']])[2][1]"), (None,)),
        (("('{\"a\": 1}'::jsonb ?| ARRAY['a', ", None, "])::text"), ("true",)),
    )
    return st.one_of(
        *_ON_BOTH,
        _slots(
            ((None, "::text"), (None,)),
            ((None, "::text::varchar::text"), (None,)),
            (("jsonb_build_array('a', ", None, "::text) ->> 1"), (None,)),
            (("jsonb_build_object('k', ", None, "::text) #>> '{k}'"), (None,)),
            (("('{\"a\": 1}'::jsonb ? ", None, ")::text"), ("false",)),
            (("array_to_string((array_append('{}'::text[], ", None, "))[1:lo], '')"), (None,)),
        ),
        _fixed(
            ("('{\"a\": 1}'::jsonb ? 'a')::text", "true"),
            ("('{\"a\": 1}'::jsonb ?& '{a}')::text", "true"),
            ("('{\"a\": 1}'::jsonb @? '$.a ? (@ > 0)')::text", "true"),
            ("('{\"a\": [1]}'::jsonb @> '{\"a\": [1]}')::text", "true"),
            ("('{\"a\": 1}'::jsonb - 'a')::text", "{}"),
            ("array_to_string((ARRAY['a','b','c'])[lo:hi], ';')", "a;b"),
            ("array_to_string((ARRAY['a','b','c'])[2:], ':n0')", "b:n0c"),
            ("'a'::text::varchar(3)::text", "a"),
            ("'x' /* /* $1 */ ' :n0 */", "x"),
            ("'a\\'", "a\\"),
            ("$$$$ || 'x'", "x"),
        ),
        _around(lambda text: f"E'{_escaped(text)}'"),
        _around(lambda text: f"e'\\'' '{text}'".replace("' '", "'\n'"), _without("\\", "'", "\n", "\r")).map(
            lambda column: Column(column.sql, ("'", *column.gives))
        ),
        _around(lambda text: "U&" + _string(text.replace("\\", "\\\\"))),
        _around(lambda text: f"$${text}$$", _BODY),
        _around(lambda text: f"$q1${text}$q1$", _BODY),
        _around(lambda text: f"$é${text}$é$", _BODY),
        _around(lambda text: f"$q$ $$ {text} $q$", _BODY).map(
            lambda column: Column(column.sql, (" $$ ", *column.gives, " "))
        ),
        _around(lambda text: f"'x' /* /*{text}*/ ' */", _COMMENT, gives="x"),
        _around(lambda text: f"{_string(json.dumps({'k': text}))}::jsonb ->> 'k'"),
        *(() if named else (in_brackets,)),
    )


def mysql_columns(named: bool) -> st.SearchStrategy[Column]:
    """Columns for MySQL, where a backslash escapes in every string, a "-" alone begins no comment, and "||" is OR."""
    letters = _HARD.map(lambda text: text.replace("𝄞", "").replace("`", ""))  # no identifier can have all of them
    return st.one_of(
        _slots(
            ((None,), (None,)),
            (("CAST(", None, " AS CHAR)"), (None,)),
            (("CONCAT('$1:n0', ", None, ", ':n1')"), ("$1:n0", None, ":n1")),
            (("CASE WHEN ", None, " = ", None, " THEN 'a' ELSE 'a' END"), ("a",)),
            (("(SELECT ", None, " FROM DUAL)"), (None,)),
            (("coalesce(", None, ",", None, ")"), (None,)),
            (("/* $1 */", None, "-- :n0\n"), (None,)),
            (("JSON_UNQUOTE(JSON_EXTRACT(JSON_ARRAY('a', ", None, "), '$[1]'))"), (None,)),
            (("CONCAT(", None, ' /*"*/, "\'", ', None, ")"), (None, "'", None)),
        ),
        _fixed(
            ("CAST(5 % 3 AS CHAR)", "2"),
            ("'100%'", "100%"),
            ("'a' AS foo$1", "a"),
            ("'%s'", "%s"),
            ("'?'", "?"),
            (r"'a\\'", "a\\"),
            (r"'a\'$1'", "a'$1"),
            (r'"a\"$1"', 'a"$1'),
            ("_utf8mb4'$1' 'b'", "$1b"),
        ),
        _around(lambda text: _string(text.replace("\\", "\\\\"))),
        _around(lambda text: f"'{_escaped(text)}'"),
        _around(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
        _around(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '""') + '"'),
        _around(lambda text: f"'x' AS `a{text}z`", letters, gives="x"),
        _around(lambda text: f"'x' AS `a``{text}z`", letters, gives="x"),
        _around(lambda text: f"'x' /*{text}*/", _COMMENT, gives="x"),
        _around(lambda text: f"/*' {text}*/'x'", _COMMENT, gives="x"),
        _around(lambda text: f"'x' -- {text}\n", _LINE, gives="x"),
        _around(lambda text: f"-- ' {text}\n'x'", _LINE, gives="x"),
        _around(lambda text: f"'x' #{text}\n", _LINE, gives="x"),
        _around(lambda text: f"#' {text}\n'x'", _LINE, gives="x"),
    )


POSTGRES_TAIL = " FROM (VALUES (1, 2)) AS bounds(lo, hi)"
_POSTGRES = selects(postgres_columns, POSTGRES_TAIL)
SELECTS = {
    "sqlite": selects(sqlite_columns),
    "postgres": _POSTGRES,
    "asyncpg": _POSTGRES,
    "mysql": selects(mysql_columns),
}
"""By the name of the driver."""
