"""What a fake database answers: lines of a script, each a statement and what comes of it."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, cast
from unittest.mock import ANY

from dbcore.driver import Result, Syntax
from dbcore.errors import DbError, QueryError
from dbcore.statements import Params, compile_sql, split
from dbcore.statements.tokens import token_pattern
from dbcore.testing.fake import NativeError
from dbcore.testing.plans import Step

__all__ = ["SYNTAX", "Line", "Lines", "Text", "UnexpectedStatement", "normalised"]

SYNTAX = Syntax(dollar_quotes=True, escape_strings=True)
"""Reads what any of our databases reads, as far as tests of an application need it."""

Text = str | re.Pattern[str] | Callable[[str, Sequence[Any]], bool]
"""The statement itself, a pattern that is found in it, or a function of text and parameters."""

Rows = Sequence[Mapping[str, Any]] | Sequence[Sequence[Any]]

_PLAIN = re.compile(r'"([a-z_][a-z0-9_]*)"')


class UnexpectedStatement(AssertionError):
    """A statement came that no line of the script is for. It is no `DbError`, for the program must not handle it."""


def normalised(sql: str) -> str:
    """The text without what makes no difference: spaces, comments, the case of words, quotes around plain names."""
    tokens: list[str] = []
    for token in token_pattern(SYNTAX).finditer(sql):
        text = token.group()
        if token.lastgroup == "space":
            continue
        if token.lastgroup == "quoted":
            plain = _PLAIN.fullmatch(text)
            tokens.append(text if plain is None else plain[1])
        else:
            tokens.append(text.lower())
    while tokens and tokens[-1] == ";":
        tokens.pop()
    return " ".join(tokens)


def _nothing() -> Result:
    return Result((), (), 0)


@dataclass(frozen=True, slots=True)
class _Answer:
    result: Result = field(default_factory=_nothing)
    error: BaseException | None = None
    hangs: bool = False


class Line:
    """One line of the script. Made by `FakeDatabase.on`; say what comes of the statement by the methods here.

    Several answers are given one after the other, and the last one from then on. Without any the statement gives no
    rows and affects none.
    """

    def __init__(self, text: Text, params: Any) -> None:
        self._text = text
        self._params = params
        self._answers: list[_Answer] = []
        self._limit: int | None = None
        self._seconds = 0.0
        self.used = 0
        self._wanted = normalised(_compiled(text)) if isinstance(text, str) else None
        if params is not ANY and not isinstance(text, str) and isinstance(params, Mapping):
            raise QueryError("parameters by name need a text that names them; give a sequence, or ANY")

    # -- what comes of it ----------------------------------------------------------------------------------------------

    def returns(self, rows: Rows, *, columns: Sequence[str] | None = None) -> Self:
        """Return these rows: mappings with the columns' names, or sequences and the names in `columns`."""
        self._answers.append(_Answer(_result(rows, columns)))
        return self

    def affects(self, count: int) -> Self:
        """Say that so many rows were affected, and return none."""
        self._answers.append(_Answer(Result((), (), count)))
        return self

    def raises(self, error: BaseException) -> Self:
        """Fail with this error, a new copy of it each time. A `DbConnectionError` takes its connection with it."""
        self._answers.append(_Answer(error=error))
        return self

    def hangs(self) -> Self:
        """Never answer: only a timeout or a cancellation ends the statement."""
        self._answers.append(_Answer(hangs=True))
        return self

    def takes(self, seconds: float) -> Self:
        """Take so long for each answer. In virtual time that costs nothing."""
        self._seconds = seconds
        return self

    def once(self) -> Self:
        """Be there for one statement, no more."""
        return self.times(1)

    def times(self, count: int) -> Self:
        """Be there for so many statements, no more and no fewer."""
        if count < 1:
            raise ValueError(f"times must be 1 or more, not {count}")
        self._limit = count
        return self

    # -- for the fake --------------------------------------------------------------------------------------------------

    @property
    def needed(self) -> int:
        """How often it has to be used until its work is done."""
        return self._limit or max(1, len(self._answers))

    @property
    def is_used_up(self) -> bool:
        return self._limit is not None and self.used >= self._limit

    def is_about(self, sql: str, values: Sequence[Any]) -> bool:
        """Whether it is for this text."""
        if self._wanted is not None:
            return normalised(sql) == self._wanted
        if isinstance(self._text, re.Pattern):
            return self._text.search(" ".join(sql.split())) is not None
        return callable(self._text) and bool(self._text(sql, values))

    def takes_params(self, values: Sequence[Any], *, many: bool) -> bool:
        """Whether it is for these parameters: a sequence in order; with `many` one for each row."""
        if self._params is ANY:
            return True
        try:
            wanted = [self._bound(row) for row in self._params] if many else self._bound(self._params)
        except (QueryError, TypeError):  # they fit no statement of this text
            return False
        return wanted == ([list(row) for row in values] if many else list(values))

    def _bound(self, params: Params) -> list[Any]:
        if isinstance(self._text, str):
            return list(compile_sql(self._text, SYNTAX).bind(params)[1])
        return list(params)

    def step(self) -> tuple[Step, Result]:
        """The next answer, as what happens and what comes of it."""
        answers = self._answers or [_Answer()]
        answer = answers[min(self.used, len(answers) - 1)]
        self.used += 1
        error = answer.error
        if error is not None:
            error = copy.copy(error)
            error = NativeError(error) if isinstance(error, DbError) else error
        return Step(seconds=self._seconds, endless=answer.hangs, error=error), answer.result

    def __str__(self) -> str:
        shown = self._text.pattern if isinstance(self._text, re.Pattern) else self._text
        text = shown if isinstance(shown, str) else getattr(shown, "__qualname__", repr(shown))
        return " ".join(text.split()) + ("" if self._params is ANY else f" with {self._params!r}")


class Lines:
    """The whole script."""

    def __init__(self, *, in_order: bool) -> None:
        self._lines: list[Line] = []
        self._in_order = in_order

    def add(self, line: Line) -> Line:
        self._lines.append(line)
        return line

    def find(self, sql: str, values: Sequence[Any], *, many: bool = False) -> Line | None:
        """The line for a statement, or `None`."""
        candidates = self._lines
        if self._in_order:
            candidates = [line for line in candidates if line.used < line.needed][:1]
        for line in candidates:
            if not line.is_used_up and line.is_about(sql, values) and line.takes_params(values, many=many):
                return line
        return None

    def unused(self) -> list[str]:
        """What the script has beyond what came."""
        return [f"{line} (came {line.used} times of {line.needed})" for line in self._lines if line.used < line.needed]

    def unexpected(self, sql: str, values: Sequence[Any]) -> UnexpectedStatement:
        """The error for a statement without a line: what it is, and what is nearest to it."""
        given = f" with {list(values)!r}" if values else ""
        text = f"unexpected statement: {' '.join(sql.split())}{given}. "
        about = [line for line in self._lines if line.is_about(sql, values)]
        if not self._lines:
            return UnexpectedStatement(text + "The script is empty: database.on(sql).returns(rows)")
        if self._in_order and any(line.used < line.needed for line in self._lines):
            due = next(line for line in self._lines if line.used < line.needed)
            return UnexpectedStatement(text + f"The next one in order is: {due}")
        if used_up := [line for line in about if line.is_used_up or self._in_order]:
            return UnexpectedStatement(
                text + f"Its line has been used {used_up[0].used} times, which is all: {used_up[0]}"
            )
        if about:
            return UnexpectedStatement(text + f"The script has that text with other parameters: {about[0]}")
        names = {str(line): line for line in self._lines}
        (nearest,) = difflib.get_close_matches(" ".join(sql.split()), names, n=1, cutoff=0.0)
        return UnexpectedStatement(text + f"The nearest line of the script is: {nearest}")


def _compiled(sql: str) -> str:
    """As the driver gets it: `$1` in place of `:name`. A script of several statements has no parameters."""
    return sql if len(split(sql, SYNTAX)) > 1 else compile_sql(sql, SYNTAX).text


def _result(rows: Rows, columns: Sequence[str] | None) -> Result:
    if not rows:
        return Result(tuple(columns or ()), [], 0)
    first = rows[0]
    if isinstance(first, Mapping):
        mappings = cast("Sequence[Mapping[str, Any]]", rows)
        names = tuple(columns or first)
        if wrong := [row for row in mappings if set(row) != set(names)]:
            raise QueryError(f"every row needs the columns {', '.join(names)}; one has {', '.join(wrong[0])}")
        return Result(names, [tuple([row[name] for name in names]) for row in mappings], len(mappings))
    if columns is None:
        raise QueryError("rows that are sequences need the names: returns(rows, columns=[...])")
    tuples = [tuple(cast("Sequence[Any]", row)) for row in rows]
    if wrong_length := [row for row in tuples if len(row) != len(columns)]:
        raise QueryError(f"there are {len(columns)} columns, and a row has {len(wrong_length[0])} values")
    return Result(tuple(columns), tuples, len(tuples))
